"""What every panel is: a few synced traits, one refresh in the worker, one small script in the browser.

The browser writes `request` (a growing seq, changes of the selection, perhaps an action); Python writes `view`
(what to draw, echoing the request's seq as `ack`) and `blob` (its arrays in one buffer) in one message. Nothing
else travels: hovering, blending and sums over heads happen in the browser.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import numpy as np
import traitlets

from clipviz.panels import standalone
from clipviz.session import Session
from clipviz.values import Ablation, Selection
from clipviz.worker import Overtaken, Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def script(*names: str) -> str:
    """A panel's script: the shared helpers, then its own files. A string, so that close() frees it."""
    folder = resources.files("clipviz.panels")
    return "".join((folder / f"{name}.js").read_text() for name in ("base", *names))


def style(name: str) -> str:
    """A panel's style sheet: the shared one, then its own where it has one."""
    folder = resources.files("clipviz.panels")
    own = folder / f"{name}.css"
    return (folder / "base.css").read_text() + (own.read_text() if own.is_file() else "")


def pack(arrays: Mapping[str, np.ndarray | bytes]) -> tuple[dict[str, dict[str, Any]], bytes]:
    """Arrays as one buffer and where each begins; float32, int32 or uint8, each aligned to 8 bytes."""
    places: dict[str, dict[str, Any]] = {}
    parts: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        if isinstance(array, bytes):
            content, dtype, shape = array, "uint8", [len(array)]
        else:
            content, dtype, shape = np.ascontiguousarray(array).tobytes(), array.dtype.name, list(array.shape)
        places[name] = {"dtype": dtype, "shape": shape, "offset": offset, "size": len(content)}
        padding = -len(content) % 8
        parts += [content, bytes(padding)]
        offset += len(content) + padding
    return places, b"".join(parts)


class Panel(anywidget.AnyWidget):
    """A linked panel. A subclass sets `name`, `_esm`, `_css`, and implements `looks_at` and `compute`.

    cost: panels are refreshed in this order. looks_at(selection): what this panel depends on; when it has not
    changed, nothing is computed. compute(selection, stale): the view and its arrays, or None when overtaken.
    """

    name: ClassVar[str] = "panel"
    cost: ClassVar[int] = 1

    request = traitlets.Dict(help="written by the browser: seq, changes, action").tag(sync=True)
    view = traitlets.Dict(help="written by Python: what is drawn").tag(sync=True)
    blob = traitlets.Bytes(help="written by Python: the view's arrays, one buffer").tag(sync=True)
    error = traitlets.Dict(help="written by Python: message and detail, or empty").tag(sync=True)

    def __init__(self, session: Session, **unknown: Any) -> None:
        traits = {name: unknown.pop(name) for name in list(unknown) if name in self._options()}
        if unknown:
            known = ", ".join(sorted(self._options())) or "no options"
            raise TypeError(
                f"{type(self).__name__} takes a session and {known}; got {', '.join(map(repr, unknown))}"
            )
        super().__init__(**traits)
        self.session = session
        self._ack = 0
        self._seq = 0
        self._key: Any = None
        session.watch(self)
        session.refresh()

    @classmethod
    def _options(cls) -> list[str]:
        """Names of the panel's own public traits, settable at construction."""
        return [name for name, trait in cls.class_traits().items() if trait.metadata.get("option")]

    def looks_at(self, selection: Selection) -> Any:
        """What the panel depends on, as a comparable value."""
        return selection

    def compute(self, selection: Selection, stale: Stale) -> tuple[dict[str, Any], dict[str, Any]] | None:
        raise NotImplementedError

    def data(self) -> dict[str, Any]:
        """What the panel shows now, as numbers and texts: the view, with its arrays in shape."""
        shown = {k: v for k, v in self.view.items() if k not in ("arrays", "seq", "ack")}
        for name, place in self.view.get("arrays", {}).items():
            content = self.blob[place["offset"] : place["offset"] + place["size"]]
            shown[name] = np.frombuffer(content, place["dtype"]).reshape(place["shape"])
        return shown

    def figure(self) -> Figure:
        """The panel as a matplotlib figure, for print."""
        raise NotImplementedError(f"{type(self).__name__} has no figure yet; its numbers are in .data()")

    def save_html(self, path: str | Path) -> Path:
        """The panel as one HTML file that works without a kernel or a network.

        What is computed in the browser still works there; ValueError where the file cannot be written.
        """
        return standalone.save(path, [self], f"clipviz · {self.name}")

    def act(self, request: dict[str, Any]) -> None:
        """Carry out an action of the panel's own; subclasses extend."""
        raise ValueError(f"panel {self.name!r} knows no action {request.get('action')!r}")

    def refresh(self, selection: Selection, stale: Stale) -> None:
        """Bring the panel to `selection`; called in the worker."""
        key = (self.looks_at(selection), self._state())
        if key == self._key and self.view:
            if self.view.get("ack") != self._ack:
                self._publish(dict(self.view), None)
            return
        try:
            computed = self.compute(selection, stale)
        except Overtaken:
            return
        except Exception as error:  # shown where the user looks; a bug is raised under test by session.wait()
            self._key = None
            self.show_error(error)
            if not isinstance(error, ValueError):
                raise
            return
        if computed is None:
            return
        self._key = key
        view, arrays = computed
        view["arrays"], buffer = pack(arrays)
        self._publish(view, buffer)

    def show_error(self, error: BaseException) -> None:
        """Show an error in the panel: its message, and for a bug the traceback on demand."""
        expected = isinstance(error, ValueError)
        detail = "" if expected else "".join(traceback.format_exception(error))
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        with self.hold_sync():
            self.error = {"message": message, "detail": detail, "seq": self._ack}
            if self.view and self.view.get("ack") != self._ack:
                self._seq += 1
                self.view = {**self.view, "ack": self._ack, "seq": self._seq}

    def close(self) -> None:
        """Leave the session and close the widget."""
        session = getattr(self, "session", None)
        if session is not None:
            session.unwatch(self)
        self.unobserve_all()
        super().close()

    def _publish_early(self, view: dict[str, Any], arrays: dict[str, Any]) -> None:
        """Show what is there already, before the dearer half of a view is computed."""
        places, buffer = pack(arrays)
        self._publish({**view, "arrays": places}, buffer)

    def _state(self) -> Any:
        """The panel's own options that ask Python for something else; the others only change the drawing."""
        traits = type(self).class_traits()
        return tuple(
            getattr(self, name) for name in self._options() if traits[name].metadata.get("recompute")
        )

    def _publish(self, view: dict[str, Any], buffer: bytes | None) -> None:
        self._seq += 1
        with self.hold_sync():
            if self.error:
                self.error = {}
            if buffer is not None:
                self.blob = buffer
            self.view = {**view, "ack": self._ack, "seq": self._seq}

    @traitlets.observe("request")
    def _requested(self, change: dict[str, Any]) -> None:
        request = change["new"]
        if not request or "seq" not in request:
            return
        self._ack = int(request["seq"])
        try:
            self._carry_out(request)
        except ValueError as error:
            self.show_error(error)
        self.session.refresh()

    def _carry_out(self, request: dict[str, Any]) -> None:
        action = request.get("action")
        if action and action != "hello":
            self.act(request)
        changes = dict(request.get("changes") or {})
        if "ablation" in changes:
            changes["ablation"] = Ablation.from_dict(changes["ablation"])
        if changes:
            self.session.selection = self.session.selection.replace(**changes)


def marks(selection: Selection) -> dict[str, Any]:
    """The selection as the browser reads it."""
    return selection.to_dict()
