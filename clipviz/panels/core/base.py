"""The base class of panels: a few synced traits, one refresh in the worker, one small script in the browser.

The browser writes `request` and nothing else; Python writes the panel's options, `view` (what to draw, echoing the
request's seq as `ack`) and `blob` (its arrays in one buffer). Hovering, blending and sums over heads happen in the
browser and are never sent.
"""

from __future__ import annotations

import io
import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import traitlets

from clipviz.panels.core import output, standalone
from clipviz.panels.core.choices import Choosing
from clipviz.panels.core.options import WithOptions, asked, given
from clipviz.panels.core.requests import Request, check_sent, numbered
from clipviz.panels.core.scripts import LayoutLike, Scripted
from clipviz.panels.core.sent import Arrays, Place, View, as_sent
from clipviz.panels.core.stored import Choices, Kept, Stored
from clipviz.session import Board, Session
from clipviz.values import Selection
from clipviz.worker import Overtaken, Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from clipviz.session.board import Rest

FIGURES = {"svg": "image/svg+xml", "pdf": "application/pdf", "png": "image/png"}

Computed = tuple[View, Arrays] | tuple[View, Arrays, Callable[[], "Computed"]] | None


def pack(arrays: Arrays) -> tuple[dict[str, Place], bytes]:
    """Pack arrays into one buffer, with the start of each; float32, int32 or uint8, aligned to 8 bytes."""
    places: dict[str, Place] = {}
    parts: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        if isinstance(array, bytes):
            content, dtype, shape = array, "uint8", [len(array)]
        else:
            made = np.asarray(array)
            content, dtype, shape = made.tobytes(), made.dtype.name, list(made.shape)
        places[name] = as_sent({"dtype": dtype, "shape": shape, "offset": offset, "size": len(content)})
        padding = -len(content) % 8
        parts += [content, bytes(padding)]
        offset += len(content) + padding
    return places, b"".join(parts)


class Panel(WithOptions, Choosing, Scripted):
    """A linked panel. A subclass sets `name`, `_esm`, `_css`, and implements `looks_at` and `compute`.

    cost: panels are refreshed in this order. looks_at(selection): what this panel depends on; when it has not
    changed, nothing is computed. compute(selection, stale): the view and its arrays, or None when overtaken; where a
    part can wait, also what computes the whole, called once the panels of the next cost are shown.
    Options are declared as in core/options.py. prepare() sets up what a subclass keeps, before its first refresh.
    """

    name = "panel"
    cost = 1
    wide: ClassVar[bool] = False  # the figure is as wide as a page, not a column
    session: Session = given(kw_only=False)
    if TYPE_CHECKING:  # a trait of the widget
        layout: LayoutLike = given(kw_only=True, default=None)

    request = traitlets.Dict(help="written by the browser: seq, changes, options, action").tag(
        sync=True, echo_update=False
    )  # echoing a text that cannot be sent would abort the message before it is answered
    view = traitlets.Dict(help="written by Python: what is drawn").tag(sync=True)
    blob = traitlets.Bytes(help="written by Python: the view's arrays, one buffer").tag(sync=True)
    error = traitlets.Dict(help="written by Python: message and detail, or empty").tag(sync=True)
    doing = traitlets.Unicode("", help="written by Python: what the panel waits for").tag(sync=True)
    heard = traitlets.Int(0, help="written by Python: the newest request received").tag(sync=True)

    def __init__(self, session: Session, layout: LayoutLike = None, **options: Any) -> None:
        known = self.options()
        unknown = [name for name in options if name not in known]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} takes a session and {', '.join(known) or 'no options'}; "
                f"got {', '.join(map(repr, unknown))}"
            )
        board = Board.of(session)
        remembered = board.join(self)
        options = {name: value for name, value in remembered.items() if self._fits(name, value)} | options
        super().__init__(layout=layout, **{**self.chosen_in(session.selection), **options})
        self.session, self.board = session, board
        self.prepare()
        self.observe(self._option_noted, names=self._lasting())
        self._option_noted()
        self._ack = 0
        self._seq = 0
        self._key: Any = None
        self._marks: Any = None
        self._speaking = threading.RLock()  # both the worker and the browser's messages write the view
        self._carrying = False
        self._refused: tuple[int, Selection] | None = None  # the request whose error is shown; see refuse
        refreshing = [name for name, option in known.items() if option.refreshes]
        if refreshing:
            self.observe(self._option_changed, names=refreshing)
        self.follow_session(session)
        board.watch(self)
        board.refresh()

    def take(self, options: Mapping[str, Any]) -> None:
        """Set every option to its given value, else to its default. An invalid value raises ValueError and leaves
        all options unchanged.
        """
        try:
            with self.hold_trait_notifications():
                for name in self._lasting():
                    setattr(self, name, options.get(name, self.options()[name].default()))
        except traitlets.TraitError as error:
            raise ValueError(str(error)) from error

    def _fits(self, name: str, value: Any) -> bool:
        """Return whether an option can have a value; one of an earlier version is ignored with a warning if not."""
        if name not in self.options():
            return False
        try:
            self.options()[name].validate(self, value)
        except traitlets.TraitError as error:
            logging.getLogger("clipviz").warning("Ignoring an option of the view: %s", error)
            return False
        return True

    def _option_noted(self, _: Any = None) -> None:
        """Tell the session which options are not at their defaults."""
        now = {name: getattr(self, name) for name in self._lasting()}
        changed = {name: value for name, value in now.items() if value != self.options()[name].default()}
        self.board.note(self.name, changed)

    # -- what a subclass says --------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Set up what the panel keeps. The session and the options are set, and nothing has been drawn yet."""

    def looks_at(self, selection: Selection) -> Any:
        """Return what the panel depends on, as a comparable value."""
        return selection

    def marks(self, selection: Selection) -> Any:
        """Return what the browser only marks: if nothing else has changed, no array is sent again."""
        return None

    def compute(self, selection: Selection, stale: Stale) -> Computed:
        raise NotImplementedError

    def stored(self, kept: Kept) -> list[Stored] | None:
        """Return the view's parts for other selections, for a saved page; None if it holds this view only."""
        return None

    def act(self, request: Request) -> None:
        """Carry out one of the panel's own actions; subclasses extend this."""
        raise ValueError(f"panel {self.name!r} knows no action {request.action!r}")

    def draw(self, width: float) -> Figure:
        """Draw the panel as a matplotlib figure `width` inches wide; subclasses implement this."""
        raise ValueError(f"{type(self).__name__} has no figure; its numbers are in .data()")

    # -- what a user asks ------------------------------------------------------------------------------------------

    def data(self) -> dict[str, Any]:
        """Return the numbers and texts that the panel shows for the newest selection: its view, with the arrays.

        This waits for the panel, as session.wait() does, and raises TimeoutError after a minute.
        """
        if not (self._carrying or self.board.here):  # these return what is on screen
            self.session.wait()
        shown = {k: v for k, v in self.view.items() if k not in ("arrays", "seq", "ack")}
        for name, place in self.view.get("arrays", {}).items():
            content = self.blob[place["offset"] : place["offset"] + place["size"]]
            shown[name] = np.frombuffer(content, place["dtype"]).reshape(place["shape"])
        return shown

    def figure(self, width: float = 3.4, font: float = 8.0) -> Figure:
        """Return the panel as on screen as a matplotlib figure, for print.

        width: inches (3.4 is a column, 7 a page); font: points of the body text. A line below states model,
        images and texts. Text stays text in PDF and SVG files written with savefig. Raises ValueError for
        impossible sizes, and if there is nothing to show.
        """
        from clipviz.figures import style

        for name, value, low, high in (("width", width, 1.0, 40.0), ("font", font, 3.0, 40.0)):
            if not low <= value <= high:
                raise ValueError(f"expected {name} within {low:g}..{high:g}, got {value!r}")
        return style.finish(self.draw(float(width)), float(font), self.session.provenance())

    def save_html(self, path: str | Path, **choices: Unpack[Choices]) -> Path:
        """Save the panel as one HTML file that works without a kernel or a network.

        choices: images, texts and heads that can be chosen there, as in Dashboard.save_html. Raises ValueError if
        the file cannot be written, and for unknown choices.
        """
        kept = Kept.of(self.session, **choices)
        return standalone.save(path, [self], f"clipviz · {self.name}", kept=kept)

    def in_cell(self) -> str:
        return output.in_cell([self], f"clipviz · {self.name}", (), [self])

    def close(self) -> None:
        """Leave the session and close the widget."""
        board = getattr(self, "board", None)
        if board is not None:
            board.unwatch(self)
            board.leave(self)
        self.leave_session()
        self.unobserve_all()
        super().close()

    def wait_for(self, words: str) -> None:
        """Show what the panel waits for, until its next view."""
        self.doing = words

    # -- to the browser --------------------------------------------------------------------------------------------

    def refresh(self, selection: Selection, stale: Stale) -> Rest | None:
        """Update the panel to `selection`; called in the worker. Returns the remaining work, if some of it can wait.

        An error is shown in this panel and does not stop others.
        """
        rest = self._tried(partial(self._refresh, selection, stale))
        self.say_choices()
        return rest

    def _tried(self, work: Callable[[], Rest | None]) -> Rest | None:
        rest = None
        try:
            rest = work()
        except Overtaken:
            return None
        except Exception as error:
            self._key = self._refused = None
            self._failed(error)
        if self.doing:
            self.doing = ""
        return None if rest is None else partial(self._tried, rest)

    def show_error(self, error: BaseException) -> None:
        """Show an error in the panel: its message, and for a bug also the traceback on request."""
        expected = isinstance(error, ValueError)
        detail = "" if expected else "".join(traceback.format_exception(error))
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        with self._speaking, self._one_message():
            self.error = {"message": message, "detail": detail, "seq": self._ack}
            if self.view and self.view.get("ack") != self._ack:
                self._seq += 1
                self.view = {**self.view, "ack": self._ack, "seq": self._seq}

    def refuse(self, error: Exception, ack: int, selection: Selection) -> None:
        """Show why a request is not carried out, until there is another request or selection.

        ack, selection: the request's seq, and the selection at that time, since background work may draw the
        panel again.
        """
        self._refused = ack, selection
        self._failed(error)

    def _refresh(self, selection: Selection, stale: Stale) -> Rest | None:
        key = (self.looks_at(selection), self._asked_options())
        marks = self.marks(selection)
        if key == self._key and self.view:
            if marks != self._marks and "selection" in self.view:
                self._marks = marks
                self._publish({**self.view, **self._selected(selection)}, None)
            elif self.view.get("ack") != self._ack:
                self._publish(dict(self.view), None)
            return None
        self._key = None  # an intermediate view of compute stays on screen if a newer request comes
        return self._computed(selection, key, marks, self.compute(selection, stale))

    def _computed(self, selection: Selection, key: Any, marks: Any, computed: Computed) -> Rest | None:
        if computed is None:
            return None
        view, arrays, *rest = computed
        self._show(selection, view, arrays)
        if rest:
            return lambda: self._computed(selection, key, marks, rest[0]())
        self._key, self._marks = key, marks
        return None

    def _show(self, selection: Selection, view: View, arrays: Arrays) -> None:
        """Send a view; compute calls it to show first results before the slower part."""
        places, buffer = pack(arrays)
        self._publish({**view, **self._selected(selection), "arrays": places}, buffer)

    def _selected(self, selection: Selection) -> View:
        """Return the selection in the form of views, with a description of what it removes."""
        removed = selection.ablation.without(self.session.model.n_heads)
        return {"selection": selection.to_dict(), "removed": removed}

    def _publish(self, view: View, buffer: bytes | None) -> None:
        with self._speaking:
            before = self.view, self.blob
            self._seq += 1
            try:
                with self._one_message():
                    if self.error and not self._still_refused():
                        self.error = {}
                    if buffer is not None:
                        self.blob = buffer
                    self.view = {**view, "ack": self._ack, "seq": self._seq}
            except Exception:  # a value that cannot be sent must not stay in the trait
                self.view, self.blob = before
                raise

    @contextmanager
    def _one_message(self) -> Iterator[None]:
        """Send what is set within, and what has been chosen since the last message, together."""
        with self.hold_sync():
            yield
            self._states_to_send.update(self._take_unsaid())

    def _still_refused(self) -> bool:
        """Return whether the error shown belongs to the newest request and nothing has been selected since."""
        if self._refused != (self._ack, self.session.selection):
            self._refused = None
        return self._refused is not None

    def _asked_options(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name, option in self.options().items() if option.asked)

    def _lasting(self) -> list[str]:
        """Return the names of the options that are part of a view."""
        return [name for name, option in self.options().items() if option.lasting]

    def _failed(self, error: Exception) -> None:
        """Show an error; a bug is also raised by session.wait(), so that tests notice it."""
        self.show_error(error)
        if not isinstance(error, ValueError):
            self.board.note_error(error)

    # -- from the browser ------------------------------------------------------------------------------------------

    def _option_changed(self, _: Any) -> None:
        if not self._carrying:
            self.board.refresh()

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Accept from the browser the request; and options and choices, which are set by links between widgets."""
        request = sync_data.get("request")
        if isinstance(request, Mapping):
            super().set_state({"request": dict(request)})
        known = {name for name, option in self.options().items() if option.sync} | set(self.choices())
        linked = {name: value for name, value in sync_data.items() if name in known}
        if linked:
            self._link(linked)

    def _link(self, values: Mapping[str, Any]) -> None:
        """Take over what a link set in the browser; what is impossible is shown as an error and taken back there."""
        self._gathered = {}
        try:
            check_sent(values)
            super().set_state(values)
            self.select_all(self._gathered)
        except (ValueError, traitlets.TraitError) as error:
            self.refuse(ValueError(str(error)), self._ack, self.session.selection)
            self._gathered = None
            self._show_chosen(self.session.selection)
            self.send_state(list(values))  # type: ignore[attr-defined]  # ipywidgets has no types
        finally:
            self._gathered = None

    @traitlets.observe("request")
    def _requested(self, change: dict[str, Any]) -> None:
        if not change["new"]:
            return
        asked = True
        try:
            seq = numbered(change["new"])
            asked, self._ack = seq != self._ack, seq
            self.heard = seq
            request = Request.read(change["new"])
            self._carrying = True
            self._set_options(request.options)
            if asked:
                self._carry_out(request)
            asked |= any(self.options()[name].refreshes for name in request.options)
        except Exception as error:
            self.refuse(error, self._ack, self.session.selection)
        finally:
            self._carrying = False
        if asked:
            self.board.refresh()

    def _set_options(self, options: Mapping[str, Any]) -> None:
        known = [name for name, option in self.options().items() if option.sync]
        with self.hold_sync():
            for name, value in options.items():
                if name not in known:
                    raise ValueError(f"expected options among {', '.join(known) or 'none'}, got {name!r}")
                try:
                    setattr(self, name, value)
                except traitlets.TraitError as error:
                    raise ValueError(str(error)) from error

    def _carry_out(self, request: Request) -> None:
        if request.action == "figure":
            self._send_figure(request.text("kind"))
        elif request.action == "visit":
            self._visit(request)
        elif request.action and request.action != "hello":
            self.act(request)
        if request.changes:
            self.session.selection = request.selected(self.session.selection)

    def _visit(self, request: Request) -> None:
        """Follow a link to a head, a neuron, or a desk (see kit/links.js)."""
        desk = request.text("desk")
        if desk and desk not in DESKS:
            raise ValueError(f"expected one of {', '.join(DESKS)}, got {desk!r}")
        self.session.open(request.pair("head"), request.unit("neuron"), desk)

    def _send_figure(self, kind: str) -> None:
        """Send the figure as a file for the browser to save."""
        if kind not in FIGURES:
            raise ValueError(f"expected a figure as {', '.join(FIGURES)}, got {kind!r}")
        stream = io.BytesIO()
        self.figure(7.0 if self.wide else 3.4).savefig(stream, format=kind, dpi=300)
        self.send({"file": f"clipviz-{self.name}.{kind}", "type": FIGURES[kind]}, [stream.getvalue()])


DESKS: dict[str, type[Desk]] = {}  # every desk with a title, by name, in the order of import


class Desk(Panel):
    """A panel that computes nothing while the browser does not show it (visible=False).

    title, question: its button below the board, and what the panel answers. closed: whether the row of desks
    shows another one. The browser sets visible, and the row sets closed.
    """

    title: ClassVar[str] = ""
    question: ClassVar[str] = ""

    def __init__(
        self, session: Session, layout: LayoutLike = None, closed: bool = False, **options: Any
    ) -> None:
        self.closed = closed
        super().__init__(session, layout=layout, **options)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "title" in vars(cls):
            DESKS[cls.name] = cls

    visible: bool = asked(
        default=True, help="Whether it is on screen, else nothing is computed.", lasting=False
    )

    def compute(self, selection: Selection, stale: Stale) -> tuple[View, Arrays] | None:
        if self.closed:  # just before computing: it is refreshed when it is opened again
            return None
        return self.compute_shown(selection, stale) if self.visible else ({"waiting": True}, {})

    def _computed(self, selection: Selection, key: Any, marks: Any, computed: Computed) -> Rest | None:
        rest = super()._computed(selection, key, marks, computed)
        if self.view.get("waiting") and (self.visible or self._asked_options() != key[1]):
            self._key = None  # it went off screen after its key was computed, which would mark it as shown
        return rest

    @property
    def on_screen(self) -> bool:
        """Whether the desk is visible now."""
        return self.visible and not self.closed

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[View, Arrays] | None:
        raise NotImplementedError
