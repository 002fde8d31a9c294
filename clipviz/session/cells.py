"""Replace the session that an earlier run of the same notebook cell created, so that memory does not hold both."""

from __future__ import annotations

import sys
import weakref
from typing import Any, Protocol


class Opened(Protocol):
    """What a cell creates: an object with a model that can be closed."""

    @property
    def model(self) -> Any: ...

    def close(self) -> None: ...


# Cell -> (its run, the sessions that this run created).
_MADE: dict[str, tuple[int, list[weakref.ref[Opened]]]] = {}


def replace_earlier(session: Opened) -> None:
    """Close the sessions that an earlier run of the current cell created with the same model, and remember this one."""
    place = current_cell()
    if place is None:
        return
    cell, run = place
    made_in, earlier = _MADE.get(cell, (run, []))
    if made_in != run:
        for known in earlier:
            old = known()
            if old is not None and old.model is session.model:
                old.close()
        earlier = []
    _MADE[cell] = run, [*earlier, weakref.ref(session)]


def current_cell() -> tuple[str, int] | None:
    """Return the id of the running notebook cell and the number of its run; None outside notebooks."""
    ipython: Any = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    parent: Any = shell.get_parent() if hasattr(shell, "get_parent") else None
    cell = parent.get("metadata", {}).get("cellId") if isinstance(parent, dict) else None
    return None if cell is None else (str(cell), int(shell.execution_count))
