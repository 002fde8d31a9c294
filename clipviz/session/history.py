"""The history of selections with undo and redo, and the options of panels."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Protocol

from clipviz.values import Selection


class History:
    """Selections in the order in which they were made; a new one discards those that were undone."""

    def __init__(self) -> None:
        self.made: list[Selection] = []
        self._position = -1

    def note(self, selection: Selection) -> None:
        """Add a selection, unless undo or redo has just led to it."""
        if 0 <= self._position < len(self.made) and self.made[self._position] == selection:
            return
        del self.made[self._position + 1 :]
        self.made.append(selection)
        self._position = len(self.made) - 1

    @property
    def can_undo(self) -> bool:
        return self._position > 0

    @property
    def can_redo(self) -> bool:
        return self._position + 1 < len(self.made)

    def move(self, step: int) -> Selection | None:
        """Return the selection `step` positions later, or None if there is none."""
        position = self._position + step
        if not 0 <= position < len(self.made):
            return None
        self._position = position
        return self.made[position]


class Showing(Protocol):
    """Something on screen with its own options, such as a panel."""

    name: str

    def take(self, options: Mapping[str, Any]) -> None: ...


class Options:
    """The options of panels and desks by name, remembered even while these do not exist."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.showing: weakref.WeakSet[Any] = weakref.WeakSet()

    def set(self, screens: Mapping[str, Mapping[str, Any]]) -> None:
        """Apply these options to what is on screen. If one is invalid, ValueError is raised and all stay unchanged."""
        before = dict(self.known)
        try:
            self._set(screens)
        except ValueError:
            self._set(before)
            raise

    def _set(self, screens: Mapping[str, Mapping[str, Any]]) -> None:
        self.known = {name: dict(options) for name, options in screens.items()}
        for shown in list(self.showing):
            shown.take(screens.get(shown.name, {}))

    def note(self, name: str, options: Mapping[str, Any]) -> bool:
        """Remember those options of one panel that are not at their defaults; return whether they have changed."""
        if self.known.get(name, {}) == options:
            return False
        # a new dict, since the worker may be reading the old one
        self.known = {**self.known, name: dict(options)}
        return True
