"""Desks that go on working between clicks: reading images, coding neurons, drawing pictures."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import traitlets

from clipviz.panels.base import Desk


class WorkingDesk(Desk):
    """A desk with background work. A subclass implements `step`; compute calls `follow` to see to what is missing."""

    progress = traitlets.Tuple(
        traitlets.Int(), traitlets.Int(), default_value=(0, 0), help="images read, images to read"
    ).tag(sync=True)

    _working = False
    _gone = False

    def step(self) -> bool:
        """One short piece of what is missing; False when nothing is."""
        raise NotImplementedError

    def follow(self) -> None:
        """Do what is missing, behind everything else."""
        if not self._working:
            self._working = True
            self.session.worker.background(_steps(weakref.ref(self)))

    def tell(self, n_read: int, n_images: int) -> None:
        """How far the reading is; shown without a refresh."""
        if not self._gone:
            self.progress = (n_read, n_images)

    def close(self) -> None:
        self._gone = True
        super().close()


def _steps(desk: weakref.ref[WorkingDesk]) -> Iterator[None]:
    """Steps for the worker; they hold nothing of the desk while they wait."""
    while True:
        shown = desk()
        if shown is None:
            return
        try:
            more = not shown._gone and shown.visible and shown.step()
        except BaseException as error:
            shown._working = False
            shown.show_error(error)
            if isinstance(error, ValueError):
                return
            raise
        if not more:
            shown._working = False
            return
        del shown
        yield
