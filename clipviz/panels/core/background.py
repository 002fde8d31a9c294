"""Desks that keep working between clicks: they read images, code neurons or draw pictures."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

import traitlets

from clipviz.panels.core.base import ASKED, Desk, View
from clipviz.session import CODE_SIZES
from clipviz.waits import Work

if TYPE_CHECKING:
    from clipviz.session.answers import Reading
    from clipviz.session.board import Rest
    from clipviz.values import Selection
    from clipviz.worker import Stale


class WorkingDesk(Desk):
    """A desk with background work. A subclass implements `step`; compute calls `follow` to have missing work done.

    Work stops while the desk is off screen and continues with the first refresh afterwards, even if nothing that
    the desk depends on has changed.
    """

    progress = traitlets.Tuple(
        traitlets.Int(),
        traitlets.Int(),
        default_value=(0, 0),
        help="number of things done, and of things to do",
    ).tag(sync=True)
    work = traitlets.Unicode("", help="the progress message").tag(sync=True)

    _working = False
    _paused = False  # work stopped because the desk was off screen
    _gone = False

    def step(self) -> bool:
        """Do one short piece of the missing work; return False if nothing is missing."""
        raise NotImplementedError

    def follow(self) -> None:
        """Have the missing work done in the background."""
        self._paused = False
        if not self._working:
            self._working = True
            self.board.background(_steps(weakref.ref(self)))

    def refresh(self, selection: Selection, stale: Stale) -> Rest | None:
        rest = super().refresh(selection, stale)
        if self._paused and self.on_screen:
            self.follow()
        return rest

    def tell(self, work: Work) -> None:
        """Show the progress of the work without a refresh."""
        if not self._gone:
            with self.hold_sync():
                self.progress, self.work = (work.n_done, work.n_all), work.line

    def close(self) -> None:
        self._gone = True
        super().close()


class CodedDesk(WorkingDesk):
    """A working desk about neurons and their sparse codes. m: texts per code, default the thesis's number for the
    width.
    """

    m = traitlets.Enum((None, *CODE_SIZES), None).tag(**ASKED)

    def about_codes(self) -> View:
        """Return the sizes of codes, whether each is possible, and the one shown."""
        most = min(self.session.model.weights.d_embed, len(self.session.texts))
        shown = self.session.neurons.code_size if self.m is None else min(self.m, most)
        return {"sizes": [[m, m <= most] for m in CODE_SIZES], "m": shown}

    def read_on(self, reading: Reading, n_images: int | None = None) -> bool:
        """Read the next few images and show the progress; return False when all planned ones have been read."""
        more = reading.step(n_images)
        self.tell(reading.work)
        return more


class NeuronDesk(CodedDesk):
    """A desk about the neurons of one layer. layer: the layer, default the session's default_layer; or the name of a
    dictionary in use, for its features.
    """

    layer = traitlets.Union(
        [traitlets.Int(min=0), traitlets.Unicode()], default_value=None, allow_none=True
    ).tag(**ASKED)

    def layer_shown(self) -> int | str | None:
        """Return the layer, or the name of the dictionary, that is shown; None if no later attention reads any
        neurons.
        """
        return self.session.neurons.readable(self.layer)

    def about_layer(self, shown: int | str | None) -> View:
        """Return what the view states about the layer or dictionary, with a message if there is none."""
        neurons, name = self.session.neurons, shown if isinstance(shown, str) else ""
        message = (
            "" if shown is not None else "This model has one layer: no later attention reads its neurons."
        )
        about = {
            "layer": neurons.dictionaries[name].layer if name else shown,
            "n_layers": self.session.model.n_layers,
            "dictionary": name,
            "dictionaries": list(neurons.dictionaries),
            "reconstruction": str(neurons.reconstruction(name)) if name else "",
            "message": message,
        }
        return {**about, **self.about_codes()}


def _steps(desk: weakref.ref[WorkingDesk]) -> Iterator[None]:
    """Yield steps for the worker; they keep no reference to the desk while they wait."""
    while True:
        shown = desk()
        if shown is None:
            return
        try:
            shown._paused = not shown.on_screen
            more = not shown._gone and not shown._paused and shown.step()
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
