"""Desks that keep working between clicks: they read images, code neurons or draw pictures."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import traitlets

from clipviz.panels.core.base import Desk
from clipviz.panels.core.options import asked
from clipviz.panels.core.sent import CodeSizes, UnitsShown
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
    """A working desk about neurons and their sparse codes."""

    m: Literal[4, 8, 16, 32, 64, 128] | None = asked(
        default=None, help="Texts of a neuron's code; None: the thesis's number for the model's width."
    )

    def add_codes(self, view: CodeSizes) -> None:
        """Add to a view what it says of the codes: the sizes there are, whether each fits, and the one on show."""
        most = min(self.session.model.weights.d_embed, len(self.session.texts))
        shown = self.session.neurons.code_size if self.m is None else min(self.m, most)
        view["sizes"], view["m"] = [(m, m <= most) for m in CODE_SIZES], shown

    def read_on(self, reading: Reading, n_images: int | None = None) -> bool:
        """Read the next few images and show the progress; return False when all planned ones have been read."""
        more = reading.step(n_images)
        self.tell(reading.work)
        return more


class NeuronDesk(CodedDesk):
    """A desk about the neurons of one layer, or the features of a dictionary in use."""

    layer: int | str | None = asked(
        default=None,
        low=0,
        help="Whose neurons are shown, or the name of a dictionary in use, for its features; None: "
        "session.neurons.default_layer.",
    )

    def layer_shown(self) -> int | str | None:
        """Return the layer or dictionary's name that is shown; None if no later attention reads any neurons."""
        return self.session.neurons.readable(self.layer)

    def add_layer(self, view: UnitsShown, shown: int | str | None) -> None:
        """Add to a view what it says of the layer or dictionary, with a message where there is none."""
        neurons, name = self.session.neurons, shown if isinstance(shown, str) else ""
        message = (
            "" if shown is not None else "This model has one layer: no later attention reads its neurons."
        )
        view["layer"] = neurons.dictionaries[name].layer if isinstance(shown, str) else shown
        view["n_layers"], view["message"] = self.session.model.n_layers, message
        view["dictionary"], view["dictionaries"] = name, list(neurons.dictionaries)
        view["reconstruction"] = str(neurons.reconstruction(name)) if name else ""
        self.add_codes(view)


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
