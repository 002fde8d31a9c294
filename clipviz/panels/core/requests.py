"""Requests of the browser. They are parsed and checked only here; an invalid one raises ValueError."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipviz.values import Ablation, Selection, check_characters, whole

MOST_TEXT = 4000


@dataclass(frozen=True)
class Request:
    """One message of a panel's script.

    seq: increases with every request; a message that repeats it only sets options. changes: fields of the
    selection. options: options of the panel. action: another action, described by further `fields`.
    """

    seq: int
    changes: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    action: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, raw: Any) -> Request:
        """Return the request that a browser sent. Raises ValueError for an invalid one."""
        seq, fields = numbered(raw), dict(raw)
        fields.pop("seq")
        check_sent(fields)
        changes, options = (_mapping(fields.pop(name, None), name) for name in ("changes", "options"))
        action = fields.pop("action", None) or ""
        if not isinstance(action, str):
            raise ValueError(f"expected the name of an action, got {_short(action)}")
        return cls(seq, changes, options, action, fields)

    def selected(self, selection: Selection) -> Selection:
        """Return the selection after the request's changes. Raises ValueError for invalid fields and values."""
        changes = dict(self.changes)
        try:
            if "ablation" in changes:
                changes["ablation"] = Ablation.from_dict(changes["ablation"])
            return selection.replace(**changes)
        except (TypeError, AttributeError, KeyError, OverflowError) as error:
            raise ValueError(
                f"expected fields of a selection, got {_short(dict(self.changes))}: {error}"
            ) from error

    def text(self, name: str, most: int = MOST_TEXT) -> str:
        """Return a text field, "" if it is missing. Raises ValueError for other types and texts that are too long."""
        value = self.fields.get(name, "")
        if not isinstance(value, str):
            raise ValueError(f"expected {name} to be a text, got {_short(value)}")
        if len(value) > most:
            raise ValueError(f"expected {name} to have at most {most:,} characters, got {len(value):,}")
        return value

    def number(self, name: str) -> int:
        """Return a whole number. Raises ValueError for anything else."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"expected {name} to be a whole number, got {_short(value)}")
        return value

    def numbers(self, name: str, most: int) -> tuple[int, ...]:
        """Return whole numbers. Raises ValueError for anything else and for more than `most` of them."""
        value = self.fields.get(name)
        if not isinstance(value, list | tuple) or any(type(one) is not int for one in value):
            raise ValueError(f"expected {name} to be a list of whole numbers, got {_short(value)}")
        if len(value) > most:
            raise ValueError(f"expected {name} to have at most {most:,} numbers, got {len(value):,}")
        return tuple(value)

    def unit(self, name: str) -> tuple[int | str, int] | None:
        """Return a layer (or a dictionary's name) and a number, None if missing. Raises ValueError otherwise."""
        value = self.fields.get(name)
        if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str):
            return value[0], whole(f"a {name}", value[1])
        return self.pair(name)

    def pair(self, name: str) -> tuple[int, int] | None:
        """Return two whole numbers such as (layer, head), None if they are missing. Raises ValueError otherwise."""
        value = self.fields.get(name)
        if value is None:
            return None
        try:
            first, second = value
            return whole("a layer", first), whole(f"a {name}", second)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected {name} as a layer and a number, got {_short(value)}") from error


def numbered(raw: Any) -> int:
    """Return the seq of a browser's message, which is answered even if the rest of it is invalid."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"expected a request as a mapping, got {type(raw).__name__}")
    seq = raw.get("seq")
    if isinstance(seq, bool) or not isinstance(seq, int) or seq < 0:
        raise ValueError(f"expected a request numbered by a whole seq >= 0, got {_short(seq)}")
    return seq


def check_sent(value: Any) -> None:
    """Raise ValueError for half of a surrogate pair in any text that a browser sent."""
    if isinstance(value, str):
        check_characters("what is sent", value)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            check_sent(name)
            check_sent(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_sent(inner)


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"expected {name} as a mapping from names to values, got {_short(value)}")
    return dict(value)


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 80 else said[:77] + "..."
