"""python tools/js/views.py: types for TypeScript, written from what panels send and from their options."""

from __future__ import annotations

import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np

from clipviz import panels
from clipviz.panels.core.base import Panel
from clipviz.panels.core.options import WithOptions

FOLDER = Path(panels.__file__).parent
TYPES = FOLDER / "kit/views.d.ts"
HEAD = "// Written by tools/js/views.py from clipviz/panels/*/sent.py and the options; not to be edited.\n"
PLAIN = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null", Any: "any"}
ARRAYS = {np.float32: "Float32Array", np.int32: "Int32Array", np.uint8: "Uint8Array"}


def typescript(kind: Any) -> str:
    """Return a type of a view. TypeError for one that JSON and arrays do not have."""
    origin, args = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if kind is bytes:
        return "Uint8Array"
    if is_typeddict(kind):
        return str(kind.__name__)
    if origin is Literal:
        return " | ".join(f'"{value}"' if isinstance(value, str) else str(value).lower() for value in args)
    if origin in (Union, types.UnionType):
        return " | ".join(typescript(one) for one in args)
    if origin is list:
        inner = typescript(args[0])
        return f"({inner})[]" if " | " in inner else f"{inner}[]"
    if origin is tuple:
        return f"[{', '.join(typescript(one) for one in args)}]"
    if origin is dict:
        return f"Record<string, {typescript(args[1])}>"
    if origin is np.ndarray and get_args(args[1])[0] in ARRAYS:
        return ARRAYS[get_args(args[1])[0]]
    raise TypeError(f"expected a type that JSON or an array has, got {kind!r}")


def interface(kind: Any) -> str:
    """Return a TypedDict as an interface, what its bases have included; a view has what every view has."""
    above = " extends Shown" if kind.__name__.endswith("View") else ""
    lines = [f"interface {kind.__name__}{above} {{"]
    for name, held in get_type_hints(kind).items():
        said = name if name.isidentifier() else f'"{name}"'
        lines.append(f"  {said}{'?' if name in kind.__optional_keys__ else ''}: {typescript(held)};")
    said = " ".join((kind.__doc__ or "").split())
    return "\n".join([*([f"/** {said} */"] if said else []), *lines, "}"])


def options(panel: type[WithOptions]) -> str:
    """Return the options that the browser reads, as an interface."""
    lines = [
        f"  {name}: {typescript(option.kind)};" for name, option in panel.options().items() if option.sync
    ]
    return "\n".join([f"interface {stem(panel)}Options {{", *lines, "}"])


def stem(panel: Any) -> str:
    """Return what the types of a panel begin with, as its view's does."""
    module = import_module(f"clipviz.panels.{panel.name}.sent")
    return next(name for name in vars(module) if name.lower() == f"{panel.name}view").removesuffix("View")


def declared() -> list[Any]:
    """Return every TypedDict of the panels, in the order of the files; names that begin with _ are parts of others."""
    found = []
    for file in sorted(FOLDER.glob("*/sent.py")):
        module = import_module(f"clipviz.panels.{file.parent.name}.sent")
        own = (kind for kind in vars(module).values() if is_typeddict(kind))
        found += [
            kind for kind in own if kind.__module__ == module.__name__ and not kind.__name__.startswith("_")
        ]
    return found


def shown() -> list[type[Panel]]:
    """Return the panel of every folder that has a sent.py."""
    found: list[type[Panel]] = []
    for file in sorted(FOLDER.glob("*/sent.py")):
        if (file.parent / "panel.py").is_file():
            module = import_module(f"clipviz.panels.{file.parent.name}.panel")
            kinds = (kind for kind in vars(module).values() if isinstance(kind, type))
            found += (kind for kind in kinds if issubclass(kind, Panel) and kind.name == file.parent.name)
    return found


def written() -> str:
    """Return the whole file."""
    drawn = sorted(shown(), key=stem)
    names = [*map(stem, drawn)]
    apis = "\n".join(f"type {name}Api = Api<{name}View, {name}Arrays, {name}Options>;" for name in names)
    parts = [HEAD.strip(), *map(interface, declared()), *map(options, drawn), apis]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    TYPES.write_text(written(), encoding="utf-8")
    print(TYPES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
