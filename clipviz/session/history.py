"""The selections made so far, and where undo and redo stand among them."""

from __future__ import annotations

from clipviz.values import Selection


class History:
    """Selections in the order in which they were made; a new one drops those that were undone."""

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
        """The selection `step` places on, or None where there is none."""
        position = self._position + step
        if not 0 <= position < len(self.made):
            return None
        self._position = position
        return self.made[position]
