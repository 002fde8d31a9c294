"""The selection as single traits of a panel, which other widgets observe and link: text, layer, head, image, neuron."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from clipviz.session import Session
from clipviz.values import Selection


class Choosing(traitlets.HasTraits):
    """What is selected, each field as a trait that follows the session and, when it is set, selects.

    A desk about the neurons of a layer has an option `layer` instead: the layer that it shows.
    """

    text = traitlets.Unicode("", help="the selected text").tag(sync=True, chosen=True)
    layer: Any = traitlets.Int(None, allow_none=True, help="the selected layer").tag(sync=True, chosen=True)
    head = traitlets.Int(None, allow_none=True, help="the selected head").tag(sync=True, chosen=True)
    image = traitlets.Int(None, allow_none=True, help="the selected image").tag(sync=True, chosen=True)
    neuron = traitlets.Int(None, allow_none=True, help="the selected neuron").tag(sync=True, chosen=True)

    if TYPE_CHECKING:  # of the widget
        _states_to_send: set[str]
    _followed: Session | None = None
    _gathered: dict[str, Any] | None = None  # what several fields of one message select together
    _unsaid: set[str]  # fields that changed and that the browser has not been sent
    _saying: threading.Lock  # the worker sends what other threads select

    @classmethod
    def choices(cls) -> list[str]:
        """Return the names of these traits."""
        return cls.class_trait_names(chosen=True)

    @classmethod
    def chosen_in(cls, selection: Selection) -> dict[str, Any]:
        """Return a selection as the values of these traits."""
        return {name: getattr(selection, name) for name in cls.choices()}

    def follow_session(self, session: Session) -> None:
        """Follow the selection of a session, for as long as Python keeps this panel."""
        self._unsaid, self._saying = set(), threading.Lock()
        self._followed, own = session, weakref.ref(self)

        def told(change: dict[str, Any]) -> None:
            panel = own()
            if panel is None or panel._followed is None:
                session.unobserve(told, "selection")
            else:
                panel._show_chosen(change["new"])

        session.observe(told, "selection")
        self.observe(self._chosen, self.choices())
        self._show_chosen(session.selection)

    def leave_session(self) -> None:
        """Follow no session any more."""
        self._followed = None

    def select_all(self, values: Mapping[str, Any]) -> None:
        """Select several fields at once. Raises ValueError for impossible ones, and selects nothing then."""
        session = self._followed
        if session is None or not values:
            return
        try:
            session.selection = session.selection.replace(**dict(values))
        except ValueError:
            self._show_chosen(session.selection)
            raise

    def say_choices(self) -> None:
        """Send the browser the fields that have changed, unless they went with a view."""
        unsaid = self._take_unsaid()
        if unsaid:
            self.send_state(unsaid)  # type: ignore[attr-defined]  # of the widget

    def _take_unsaid(self) -> list[str]:
        """Return the fields that the caller now sends."""
        with self._saying:
            unsaid, self._unsaid = self._unsaid, set()
        return sorted(unsaid)

    def _show_chosen(self, selection: Selection) -> None:
        for name, value in self.chosen_in(selection).items():
            setattr(self, name, value)

    def _should_send_property(self, key: str, value: Any) -> bool:
        """Keep what was chosen for the next message of the panel, since every message costs the page time."""
        should: bool = super()._should_send_property(key, value)  # type: ignore[misc]  # of the widget
        if should and self._followed is not None and self.trait_metadata(key, "chosen"):
            with self._saying:
                self._unsaid.add(key)
            return False
        return should

    def _chosen(self, change: dict[str, Any]) -> None:
        if self._followed is None or getattr(self._followed.selection, change["name"]) == change["new"]:
            return
        if self._gathered is None:
            self.select_all({change["name"]: change["new"]})
        else:
            self._gathered[change["name"]] = change["new"]
