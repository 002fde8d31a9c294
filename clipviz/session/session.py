"""The session: one model, one collection, one selection, and a topic for each kind of question.

No widget is needed: `session.heads.textspan(5, 3)` and `session.maps.tokens("a dog")` return values. With panels,
a change of the selection wakes the worker, which refreshes the panels that depend on what changed
(clipviz.session.board).
"""

from __future__ import annotations

import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from clipviz import hub
from clipviz.session import cells, checks, saving, words
from clipviz.session.beginning import first_selection
from clipviz.session.history import History, Options
from clipviz.session.reading import reading
from clipviz.session.state import State
from clipviz.session.topics.ablation import AblationTopic
from clipviz.session.topics.cues import CueTopic
from clipviz.session.topics.generator import GeneratorTopic
from clipviz.session.topics.heads import HeadTopic
from clipviz.session.topics.images import ImageTopic
from clipviz.session.topics.labels import Labels
from clipviz.session.topics.maps import MapTopic
from clipviz.session.topics.neurons import NeuronTopic
from clipviz.session.topics.removal import Removal
from clipviz.session.topics.rosetta import RosettaTopic
from clipviz.session.topics.spans import Spans
from clipviz.session.topics.texts import TextTopic
from clipviz.session.topics.tokens import Tokens
from clipviz.values import Selection, View

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from clipviz.models.clip import ClipModel
    from clipviz.values import Head, SelectionFields

LOOK = 0.5  # seconds between two updates of the progress message


class Session(traitlets.HasTraits):
    """One model, its images and texts, and the selection that all panels share.

    model: from clipviz.load or clipviz.wrap. images: a folder, list of paths, PIL images, arrays, a data set (see
    clipviz.data.images.open_images); default those of the model's bundle. texts: "general", the bundle's name, a file,
    or a list. index: an open Index or its folder, read instead of the images; its thumbnails are shown for images that
    no longer exist. layers: the layers whose heads are kept for the collection (default all, or the last 4 when memory
    is short). background=False reads the whole collection before returning. A notebook cell that is run again closes
    the session that it made before from the same model.
    """

    selection = traitlets.Instance(Selection)

    def __init__(
        self,
        model: ClipModel,
        images: Any = None,
        texts: Any = None,
        index: Any = None,
        layers: Sequence[int] | None = None,
        background: bool = True,
    ) -> None:
        state = self._state = State(model, images, texts, index, layers)
        self._history, self._options = History(), Options()
        removal, spans = Removal(state), Spans(state)
        tokens, labels = Tokens(state, removal), Labels(state, spans)
        self.texts = TextTopic(state, removal)
        self.images = ImageTopic(state, removal, self.texts, spans)
        self.heads = HeadTopic(state, removal, tokens, spans, labels)
        self.maps = MapTopic(state, tokens, self.heads)
        self.ablation = AblationTopic(state, removal, self.heads, labels)
        self.neurons = NeuronTopic(state, self.ablation)
        self.cues = CueTopic(state, self.neurons)
        self.rosetta = RosettaTopic(state)
        self.generator = GeneratorTopic(state, self.images, self.ablation, self.rosetta)
        super().__init__(selection=first_selection(state, self.heads))
        weakref.finalize(self, state.worker.close)
        cells.replace_earlier(self)
        steps = reading(weakref.ref(state))
        if background:
            state.worker.background(steps)
        else:
            for _ in steps:
                state.tell(state.reading)
            state.tell(state.reading)

    def __repr__(self) -> str:
        model = self.model
        return f"<clipviz.Session: model {model.name!r}, {self.images!r}, {self.texts!r}, device {str(model.device)!r}>"

    @property
    def model(self) -> ClipModel:
        """The model with which everything is computed."""
        return self._state.model

    # -- selection and history ---------------------------------------------------------------------------------

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> Selection:
        return self._checked(proposal["value"])

    @traitlets.observe("selection")
    def _selection_changed(self, change: dict[str, Any]) -> None:
        self._state.selection = change["new"]
        self._history.note(change["new"])
        self._state.refresh()

    def _checked(self, selection: Selection) -> Selection:
        """Return the selection if everything that it names exists; otherwise ValueError says what is missing."""
        # the model's own dictionaries are opened when one is named
        named = getattr(selection, "dictionary", "")
        known = self._state.dictionaries if named else {}
        return checks.selection(self.model, len(self.images), selection, known)

    def select(self, **changes: Unpack[SelectionFields]) -> Selection:
        """Change some fields of the selection: session.select(layer=5, head=3)."""
        if "images" in changes:
            # before a long range is read completely
            changes["images"] = self._state.some_images(changes["images"])
        self.selection = self.selection.replace(**changes)
        return self.selection

    @property
    def history(self) -> tuple[Selection, ...]:
        """All selections, oldest first; undo and redo move within this list."""
        return tuple(self._history.made)

    def undo(self) -> Selection:
        """Return to the previous selection, if there is one."""
        return self._go(-1)

    def redo(self) -> Selection:
        """Return to the selection that was undone last, if there is one."""
        return self._go(1)

    def _go(self, step: int) -> Selection:
        found = self._history.move(step)
        if found is not None:
            self.selection = found
        return self.selection

    # -- the view ----------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """The selection and the panels' options. Setting it updates existing panels, and later ones too."""
        return View(self.selection, self._options.known)

    @view.setter
    def view(self, view: View) -> None:
        if not isinstance(view, View):
            raise ValueError(
                f"expected a clipviz.View, got {type(view).__name__}; use clipviz.View.from_token for a token"
            )
        selection = self._checked(view.selection)
        self._options.set(view.panels)
        self.selection = selection

    def open(
        self, head: Head | None = None, neuron: tuple[int | str, int] | None = None, desk: str = ""
    ) -> Selection:
        """Open a head on the board, a neuron or feature on the Neurons desk, or any desk.

        Args:
            head: (layer, head), to be shown on the board.
            neuron: (layer, neuron), to be shown on the Neurons desk; the name of a dictionary in use in place
                of the layer stands for its features.
            desk: Name of a desk to open, such as "ablate". Without a dashboard, the next one opens there.

        Returns:
            The new selection.

        Raises:
            ValueError: The target does not exist. Nothing is changed.
        """
        chosen = self.selection
        if head is not None:
            layer, number = checks.pair("head", head)
            chosen = self._checked(chosen.replace(layer=layer, head=number))
        if neuron is not None:
            place, number = checks.unit("neuron", neuron)
            if isinstance(place, str):
                layer = checks.in_use(place, self._state.dictionaries).layer
                chosen = chosen.replace(layer=layer, neuron=number, dictionary=place)
            else:
                chosen = chosen.replace(layer=place, neuron=number)
            chosen = self._checked(chosen)
            desk = desk or "neurons"
        if desk:
            self._options.set({**self._options.known, "desks": {"shown": desk}})
        self.selection = chosen
        return self.selection

    def to_code(self) -> str:
        """Return Python code that reopens this view."""
        return words.code(self._state, self.view)

    def save(self, path: str | Path) -> Path:
        """Write the session into one file, from which `load` opens it again in another process or on another computer.

        The file holds the view, your roles of heads, the images that were added, and where the model, images and texts
        are: by name or address, with their fingerprints. Images and texts that were given as objects (arrays, a data
        set), and dictionaries, must be given again. A picture that a generator painted is kept as a picture,
        without its latent.

        Args:
            path: The file to write. An existing file is replaced.

        Returns:
            The path that was written.

        Raises:
            ValueError: The folder of the file does not exist.
        """
        return saving.save(self._state, self.view, path)

    @classmethod
    def load(
        cls,
        path: str | Path,
        model: ClipModel | None = None,
        images: Any = None,
        texts: Any = None,
        dictionaries: Mapping[str, Any] | None = None,
        device: str | None = None,
        background: bool = True,
    ) -> Session:
        """Open a session that `save` wrote: the same model, images, texts, roles and view.

        The saved roles of heads stay in this session and do not change the roles kept on this computer.

        Args:
            path: The file; "hf://datasets/owner/name" for what `push_to_hub` uploaded to that repository.
            model: The model, if it cannot be opened by its name.
            images: The images or their present address; by default the address in the file.
            texts: The texts or their present address; by default the address in the file.
            dictionaries: The dictionaries that had been added to the session: name -> clipviz.Dictionary or its path.
            device: The device of a model that is opened by its name.
            background: As in `Session`.

        Raises:
            ValueError: The file was not written by `save`, or model, images or texts are not those of the session.
        """
        saved = saving.read(saving.fetched(path))
        model = saving.model_of(saved, model, device)
        session = cls(model, background=background, **saving.arguments(saved, images, texts))
        try:
            state = session._state
            saving.check(saved, state)
            state.roles = saving.roles_of(saved, model)
            for name, dictionary in saving.dictionaries_of(saved, dictionaries or {}).items():
                session.neurons.use(dictionary, name)
            for added, picture in zip(saved.facts["added"], saved.pictures, strict=True):
                session.images.add(picture, added["name"], added["drawn"])
            session.view = View.from_dict(saved.facts["view"])
        except BaseException:
            session.close()
            raise
        return session

    def push_to_hub(self, repo: str, private: bool | None = None, message: str = "Add a session") -> str:
        """Upload the file that `save` writes to the Hugging Face Hub.

        The addresses of the images and of the index in the file are paths of your computer, unless they are public
        addresses; others pass their own to `load`, which opens the session from "hf://datasets/owner/name".

        Args:
            repo: "owner/name" of a repository of data sets, which is created if it does not exist.
            private: Whether a new repository is private; by default what its owner has set.
            message: The commit's title.

        Returns:
            The commit's address.

        Raises:
            ValueError: You may not write to the repository.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = self.save(Path(folder) / saving.FILE)
            return hub.push(path.parent, repo, "dataset", [saving.FILE], private, message)

    def receipts(self) -> dict[str, Any]:
        """Return what this view rests on: the sum check, fingerprints, device, and notes on anything that did not go
        as planned.

        stand_ins: (n, m), n of m checked files are missing, and their thumbnails are shown instead.
        """
        return words.receipts(self._state)

    def provenance(self) -> str:
        """Return the origin of a figure of this session, in one line."""
        return words.provenance(self._state)

    # -- waiting and closing -----------------------------------------------------------------------------------

    def wait(self, timeout: float | None = 60, background: bool = False) -> None:
        """Block until the panels show the newest selection.

        A long wait shows a progress message.

        Args:
            timeout: Seconds to wait at most; None waits for as long as it takes.
            background: Whether to wait until background work is done, too.

        Raises:
            TimeoutError: The panels are still busy after `timeout` seconds.
        """
        state, began = self._state, time.perf_counter()
        while True:
            waited = time.perf_counter() - began
            left = LOOK if timeout is None else min(LOOK, timeout - waited)
            try:
                state.worker.wait(max(0.0, left), background)
                break
            except TimeoutError:
                if timeout is not None and time.perf_counter() - began >= timeout:
                    raise TimeoutError(f"the panels were still busy after {timeout} s") from None
                state.line.say(self._waited_for(background), waited)
        state.line.say("", waited)

    def _waited_for(self, background: bool) -> str:
        """Return the progress message of the current work, for panels or in the background."""
        screen = self._state.screen()
        doing = "" if screen is None else screen.doing
        return doing or (self._state.waiting if background else "") or "Waiting for the panels"

    def close(self) -> None:
        """Close every panel, stop the worker and release the memory. It is safe to call at any time, and repeatedly."""
        screen = self._state.screen()
        if screen is not None:
            screen.close()
        self._options.showing.clear()
        self._state.worker.close()
        self._state.forget_all()
