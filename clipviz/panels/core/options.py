"""Options of panels, each declared once, in the panel's class:

    order: Literal["text", "near"] = asked(default="text", help="Which images come first.")

The trait, what a type checker says of `Panel(session, order=...)`, the message for a value that does not fit, the
class's docstring and the types of the scripts (`tools/js/views.py`) follow from this line.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from copy import copy
from inspect import Parameter, Signature
from math import inf, isfinite
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import traitlets
from typing_extensions import dataclass_transform

KINDS = {
    str: "a text",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    dict: "a mapping",
    NoneType: "None",
}


class Option(traitlets.TraitType[Any, Any]):
    """An option, whose values are of the kind that its name is annotated with, and numbers within low..high.

    sync: the browser reads and sets it. asked: Python computes with it. lazy: the browser draws it, and may lack
    something for it (Panel.looks_at says what). lasting: it is part of a view.
    """

    kind: Any = None

    def __init__(
        self,
        default: Any,
        help: str,
        low: float = -inf,
        high: float = inf,
        *,
        sync: bool = True,
        asked: bool = False,
        lazy: bool = False,
        lasting: bool = True,
    ) -> None:
        super().__init__(default, help=help)
        self.low, self.high, self.sync, self.asked, self.lasting = low, high, sync, asked, lasting
        self.refreshes = asked or lazy
        if sync:
            self.tag(sync=True)

    def class_init(self, cls: Any, name: str | None) -> None:
        super().class_init(cls, name)
        declared = SimpleNamespace(__annotations__={"kind": cls.__annotations__[name]})
        self.kind = get_type_hints(declared, vars(sys.modules[cls.__module__]))["kind"]

    def default(self, obj: Any = None) -> Any:
        return copy(self.default_value)

    def validate(self, obj: Any, value: Any) -> Any:
        try:
            found = fitted(self.kind, value)
            fits = not isinstance(found, int | float) or self.low <= found <= self.high
        except TypeError:
            fits = False
        if not fits:
            raise traitlets.TraitError(f"expected {self.name} to be {self.wanted}, got {value!r:.80}")
        return found

    @property
    def wanted(self) -> str:
        """What a value has to be, in words."""
        least = f" of at least {self.low:g}" if isfinite(self.low) else ""
        return in_words(self.kind, f" from {self.low:g} to {self.high:g}" if isfinite(self.high) else least)


def local(*, default: Any, help: str, **more: Any) -> Any:
    """An option that the browser draws by itself. more: see Option."""
    return Option(default, help, **more)


def asked(*, default: Any, help: str, **more: Any) -> Any:
    """An option that the browser may set and Python computes with."""
    return Option(default, help, asked=True, **more)


def lazy(*, default: Any, help: str, **more: Any) -> Any:
    """An option that the browser draws, which may lack something for it; Panel.looks_at says what."""
    return Option(default, help, lazy=True, **more)


def fixed(*, default: Any, help: str, asked: bool = True, **more: Any) -> Any:
    """An option for Python alone."""
    return Option(default, help, sync=False, asked=asked, **more)


def given(*, kw_only: bool, default: Any = None) -> Any:
    """What a panel's constructor takes besides options, for a type checker."""


@dataclass_transform(kw_only_default=True, field_specifiers=(local, asked, lazy, fixed, given))
class WithOptions(traitlets.HasTraits):
    """What has options: keywords of the constructor, which are listed at the end of the docstring."""

    __signature__: ClassVar[Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        said = ["session: Whose numbers are shown."]
        given = [Parameter("session", Parameter.POSITIONAL_OR_KEYWORD)]
        layout = Parameter("layout", Parameter.KEYWORD_ONLY, default=None)
        for kind in cls.mro():
            for name, option in vars(kind).items():
                if isinstance(option, Option):
                    default, annotation = option.default(), kind.__annotations__[name]
                    said.append(f"{name}: {option.help} (default {default!r})")
                    given.append(
                        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
                    )
        said.append("layout: The widget's ipywidgets.Layout, or its values as a mapping.")
        about = inspect.cleandoc(vars(cls).get("__doc__") or "")
        cls.__doc__ = "\n".join([about, "", "Args:", *(f"    {line}" for line in said)])
        cls.__signature__ = Signature([*given, layout])

    @classmethod
    def options(cls) -> dict[str, Option]:
        """The options by name."""
        return {name: one for name, one in sorted(cls.class_traits().items()) if isinstance(one, Option)}


def fitted(kind: Any, value: Any) -> Any:
    """The value as its kind has it: 1 as 1.0 where a float is wanted, a tuple as a list. TypeError for others."""
    origin, args = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in args:
            return None
        for one in args:
            with suppress(TypeError):
                return fitted(one, value)
        origin = NoneType  # which the value is not
    if origin is Literal:
        fits = any(value == one and type(value) is type(one) for one in args)
    elif origin is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif origin in (list, tuple) and isinstance(value, list | tuple):
        kinds = args if origin is tuple else args * len(value)
        if len(kinds) == len(value):
            return origin(fitted(one, of) for one, of in zip(kinds, value, strict=True))
        fits = False
    else:
        fits = isinstance(value, origin) and (origin is bool or not isinstance(value, bool))
    if not fits:
        raise TypeError(f"expected {in_words(kind)}, got {value!r:.80}")
    return float(value) if origin is float else value


def in_words(kind: Any, within: str = "") -> str:
    """What a value of a kind is; within: the limits of a number."""
    origin, args = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(in_words(one, within) for one in args)
    if origin is Literal:
        return f"one of {', '.join(map(repr, args))}"
    if origin in (list, tuple):
        n = f" of {len(args)}" if origin is tuple else ""
        return f"a list{n}, each of them {in_words(args[0])}"
    return KINDS[origin] + (within if origin in (int, float) else "")
