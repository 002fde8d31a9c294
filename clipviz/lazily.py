"""Modules below a package, each imported when its name is first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType


def modules_of(package: str) -> Callable[[str], ModuleType]:
    """Return a package's `__getattr__`, which imports the module that a name stands for.

    Args:
        package: the package's `__name__`.

    Returns:
        A function from a name to the module. It raises AttributeError where there is no such module.
    """

    def load(name: str) -> ModuleType:
        if not name.startswith("_"):
            try:
                return importlib.import_module(f"{package}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{package}.{name}":
                    raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load
