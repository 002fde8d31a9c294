"""The session: one model, one collection, one selection. Everything a panel shows can be asked for here.

No widget is needed: `session.textspan(5, 3)`, `session.token_maps("a dog")` return values. With panels, a change
of the selection wakes the worker, which refreshes the panels that look at what changed, the cheapest first.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import traitlets
from torch import Tensor

from clipviz.data.images import open_images
from clipviz.data.texts import Texts, broad
from clipviz.lens import roles
from clipviz.lens import textspan as _textspan
from clipviz.lens.heatmap import one_placeless
from clipviz.lens.trace import Trace
from clipviz.session import opening
from clipviz.values import Selection
from clipviz.worker import Stale, Worker

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel

Made = TypeVar("Made")
SHOWN_TEXTS = 10
NO_ROLE = roles.NO_ROLE


class HeadScores(NamedTuple):
    """Direct effects on a text's cosine for one image: heads [layer, head], mlps [1 + layer], their sum."""

    heads: np.ndarray
    mlps: np.ndarray
    cosine: float


class TokenMaps(NamedTuple):
    """Direct effects of every token through every head on a text's cosine: scores [layer, head, token].

    Token 0 is the class token: all tokens without a place together, 0 where there is none.
    """

    scores: np.ndarray
    cosine: float


class Description(NamedTuple):
    """TextSpan of one head: texts and families chosen, the share of variance each adds, and the null's.

    order: [n] indices into the pool; gains: [n]; null_gains: [draw, n], the same search when the head's data are
    randomly rotated inside its span; null_order: [draw, n].
    """

    texts: tuple[str, ...]
    families: tuple[str | None, ...]
    order: np.ndarray
    gains: np.ndarray
    null_gains: np.ndarray
    null_order: np.ndarray


class Label(NamedTuple):
    """What a head's first texts have in common, and why that is (not) said."""

    name: str
    why: str


class Watcher(Protocol):
    """What a panel is to a session."""

    cost: int

    def refresh(self, selection: Selection, stale: Stale) -> None: ...


class Session(traitlets.HasTraits):
    """One model, its images and texts, and the selection that all panels share.

    model: from clipviz.load or clipviz.wrap. images: a folder, list of paths, PIL images, arrays, a data set
    (see clipviz.data.images.open_images); default those of the model's bundle. texts: "general", the bundle's name, a
    file, or a list. index: an open Index or its folder, read instead of the images, which need not be at
    hand (their thumbnails stand in). layers: whose heads are kept for the collection (default all, or the last 4
    when memory asks for it). background=False reads the whole collection before returning.
    """

    selection = traitlets.Instance(Selection)
    progress = traitlets.Tuple(traitlets.Int(), traitlets.Int(), help="images read, images in all")

    def __init__(
        self,
        model: ClipModel,
        images: Any = None,
        texts: Any = None,
        index: Any = None,
        layers: Sequence[int] | None = None,
        background: bool = True,
        **unknown: Any,
    ) -> None:
        if unknown:
            names = "model, images, texts, index, layers, background"
            raise TypeError(f"Session takes {names}; got {', '.join(map(repr, unknown))}")
        self.model = model
        self.images_source = images
        self.texts_source = texts
        self.index = opening.open_index(index)
        self.images = opening.images_of(model, images, self.index)
        self.texts: Texts = opening.text_pool(model, texts)
        self.collection = opening.codes_of(model, self.images, self.index, layers)
        self.lock = threading.RLock()
        self._memory: OrderedDict[Any, Any] = OrderedDict()
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._seconds = 0.0
        self._history: list[Selection] = []
        self._position = -1
        super().__init__(
            selection=opening.first_selection(self), progress=(self.collection.n_ready, len(self.images))
        )
        self.worker = Worker()
        self._read = self._reading()
        if background:
            self.worker.background(self._read)
        else:
            for _ in self._read:
                pass

    # -- selection and history ---------------------------------------------------------------------------------

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> Selection:
        return self.check(proposal["value"])

    @traitlets.observe("selection")
    def _selection_changed(self, change: dict[str, Any]) -> None:
        selection = change["new"]
        if not (0 <= self._position < len(self._history) and self._history[self._position] == selection):
            del self._history[self._position + 1 :]
            self._history.append(selection)
            self._position = len(self._history) - 1
        if hasattr(self, "worker"):
            self.refresh()

    def check(self, selection: Selection) -> Selection:
        """The selection, if everything it names is there; ValueError says what is not."""
        if not isinstance(selection, Selection):
            raise ValueError(
                f"expected a clipviz.Selection, got {type(selection).__name__}; change a field with "
                "session.selection = session.selection.replace(layer=5, head=3)"
            )
        limits = {
            "image": len(self.images),
            "layer": self.model.n_layers,
            "head": self.model.n_heads,
            "neuron": self.model.weights.n_neurons,
            "token": int(np.prod(self.model.weights.grid)) + 1,
        }
        for name, limit in limits.items():
            number = getattr(selection, name)
            if number is not None and number >= limit:
                raise ValueError(f"expected {name} within 0..{limit - 1} (counted from 0), got {number}")
        beyond = [i for i in selection.images if not 0 <= i < len(self.images)]
        if beyond:
            raise ValueError(f"expected images within 0..{len(self.images) - 1}, got {beyond[:5]}")
        for layer, head in selection.ablation.heads:
            if not (0 <= layer < self.model.n_layers and 0 <= head < self.model.n_heads):
                raise ValueError(
                    f"expected ablated heads within {self.model.n_layers} layers x {self.model.n_heads} heads "
                    f"(counted from 0), got {(layer, head)}"
                )
        return selection

    def select(self, **changes: Any) -> Selection:
        """Change some fields of the selection: session.select(layer=5, head=3)."""
        self.selection = self.selection.replace(**changes)
        return self.selection

    @property
    def history(self) -> tuple[Selection, ...]:
        """Every selection made, oldest first; undo and redo move within it."""
        return tuple(self._history)

    @property
    def can_undo(self) -> bool:
        return self._position > 0

    @property
    def can_redo(self) -> bool:
        return self._position + 1 < len(self._history)

    def undo(self) -> Selection:
        """Back to the selection before, if there is one."""
        return self._go(self._position - 1)

    def redo(self) -> Selection:
        """Forward again after undo, if there is where to go."""
        return self._go(self._position + 1)

    def _go(self, position: int) -> Selection:
        if 0 <= position < len(self._history):
            self._position = position
            self.selection = self._history[position]
        return self.selection

    def to_code(self) -> str:
        """Python that reopens this view."""
        images = (
            f", images={_literal(self.images_source, 'my_images')}" if self.images_source is not None else ""
        )
        texts = f", texts={_literal(self.texts_source, 'my_texts')}" if self.texts_source is not None else ""
        if self.index is not None:
            images += f", index={str(self.index.path)!r}"
        name = self.model.name
        tag = f", pretrained={self.model.pretrained!r}" if self.model.pretrained else ""
        plain = Selection().to_dict()
        changed = {k: v for k, v in self.selection.to_dict().items() if v != plain[k] and k != "ablation"}
        fields = ", ".join(f"{k}={v!r}" for k, v in changed.items())
        if self.selection.ablation:
            fields += f", ablation=clipviz.Ablation.from_dict({self.selection.ablation.to_dict()!r})"
        return (
            "import clipviz\n\n"
            f"session = clipviz.Session(clipviz.load({name!r}{tag}){images}{texts})\n"
            f"session.selection = clipviz.Selection({fields})\n"
            "clipviz.Dashboard(session)\n"
        )

    # -- panels ------------------------------------------------------------------------------------------------

    def watch(self, panel: Watcher) -> None:
        """Refresh `panel` whenever the selection changes, until it is unwatched or forgotten."""
        self._watchers.add(panel)

    def unwatch(self, panel: Watcher) -> None:
        self._watchers.discard(panel)

    def refresh(self) -> None:
        """Ask the worker to bring every panel to the newest selection."""
        self.worker.request(self._refresh)

    def _refresh(self, stale: Stale) -> None:
        selection, started = self.selection, time.perf_counter()
        for panel in sorted(self._watchers, key=lambda panel: panel.cost):
            if stale():
                return
            panel.refresh(selection, stale)
        self._seconds = time.perf_counter() - started

    def wait(self, timeout: float | None = 60, background: bool = False) -> None:
        """Block until the panels show the newest selection (and the whole collection is read, if asked)."""
        self.worker.wait(timeout, background)

    def close(self) -> None:
        """Close every panel, stop the worker, drop what was remembered."""
        for panel in list(self._watchers):
            close = getattr(panel, "close", None)
            if close is not None:
                close()
        self._watchers.clear()
        self.worker.close()
        self._read.close()
        self._memory.clear()

    # -- lenses ------------------------------------------------------------------------------------------------

    def direction(self, text: str) -> Tensor:
        """The text's unit direction, [d_embed]."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"expected a text, got {text!r}; type a few words")
        return self.remember(("text", text), lambda: self.model.encode_texts(text)[0])

    def pool(self) -> Tensor:
        """Unit directions of every text of the pool, [text, d_embed]."""
        return self.remember("pool", lambda: self.model.encode_texts(list(self.texts)))

    def pixels(self, image: int | None = None) -> np.ndarray:
        """What the model sees of an image: uint8 [rows, cols, 3] after resize and crop."""
        i = self._image(image)
        return self.remember(("pixels", i), lambda: self.model.shown(self.model.prepare(self.images[i]))[0])

    def picture(self, image: int | None = None) -> np.ndarray:
        """The same view of an image at twice the model's resolution where the file has it, uint8 [rows, cols, 3]."""
        i = self._image(image)
        return self.remember(("picture", i), lambda: self.model.shown_sharp(self.images[i]))

    def trace(self, image: int | None = None) -> Trace:
        """The trace of one image, tokens kept; the selected image when None."""
        i = self._image(image)
        return self.remember(("trace", i), lambda: self.model.trace(self.images[i]))

    def head_scores(self, text: str, image: int | None = None) -> HeadScores:
        """Direct effect of every head and MLP on the cosine of an image and a text (Eq. 2.4, 2.6)."""
        i = self._image(image)

        def make() -> HeadScores:
            trace, direction = self.trace(i), self.direction(text)
            heads = trace.head_effects(normalize=True)[0] @ direction
            mlps = trace.mlp_effects(normalize=True)[0] @ direction
            cosine = float(trace.embedding[0] @ direction / trace.norm[0])
            return HeadScores(_numpy(heads), _numpy(mlps), cosine)

        return self.remember(("heads", i, text), make)

    def token_maps(self, text: str, image: int | None = None) -> TokenMaps:
        """Direct effect of every token through every head on the cosine of an image and a text (thesis 2.5)."""
        i = self._image(image)

        def make() -> TokenMaps:
            trace, direction = self.trace(i), self.direction(text)
            scores = trace.token_scores(direction[None], normalize=True)[0, 0]
            scores = one_placeless(scores, self.model.weights.prefix)
            return TokenMaps(_numpy(scores), float(trace.embedding[0] @ direction / trace.norm[0]))

        return self.remember(("tokens", i, text), make)

    def attention(self, image: int | None = None) -> np.ndarray:
        """Share of each token in what is read through every head, [layer, head, token]; tokens as in token_maps."""
        found = self.trace(self._image(image)).attention
        assert found is not None
        return _numpy(one_placeless(found[0], self.model.weights.prefix))

    def head_variance(self, images: Sequence[int] = ()) -> np.ndarray:
        """Share of the heads' summed variance that each head has over the collection, [layer, head]."""
        variance = torch.diagonal(self.span(images)[0], dim1=1, dim2=2).sum(-1)
        return _numpy((variance / variance.sum()).reshape(len(self.collection.layers), -1))

    def span(self, images: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Covariance of every head's effects in its own span, and the spans, for the images read so far."""
        key = ("span", self.collection.version, tuple(images))

        def make() -> tuple[Tensor, Tensor]:
            return _textspan.head_span(self.collection.basis, self.collection.head_covariance(images))

        return self.remember(key, make)

    def textspan(
        self, layer: int, head: int, n_texts: int = SHOWN_TEXTS, images: Sequence[int] = (), n_draws: int = 20
    ) -> Description:
        """The texts that explain a head's variance over the images (Alg. 1), and its null (n_draws=0: without)."""
        key = ("textspan", self.collection.version, layer, head, n_texts, tuple(images), n_draws)
        return self.remember(key, lambda: self._describe(layer, head, n_texts, images, n_draws))

    def _describe(
        self, layer: int, head: int, n_texts: int, images: Sequence[int], n_draws: int
    ) -> Description:
        covariance, span = self.span(images)
        at = self.collection.layer_index(layer) * self.model.n_heads + head
        covariance, span, pool = covariance[at : at + 1], span[at : at + 1], self.pool()
        n_texts = min(n_texts, len(self.texts), self.model.weights.d_code, covariance.shape[-1])
        basis = _textspan.textspan_from_covariance(covariance, span, pool, n_texts)
        null_gains, null_order = np.zeros((0, n_texts)), np.zeros((0, n_texts), int)
        if n_draws:
            explained, order = _textspan.null_explained(covariance, span, pool, n_texts, n_draws)
            null_gains, null_order = np.diff(_numpy(explained[:, 0]), axis=1, prepend=0), _numpy(order[:, 0])
        chosen = _numpy(basis.order[0])
        return Description(
            tuple(self.texts[i] for i in chosen),
            tuple(self.texts.families[i] for i in chosen),
            chosen,
            _numpy(basis.gains[0]),
            null_gains,
            null_order,
        )

    def label(self, described: Description, n_texts: int = 5) -> Label:
        """What most of a head's first texts are about, if random rotations do not do as well (lens.roles)."""
        families = [broad(family) for family in self.texts.families]
        role = roles.role_of(described.order.tolist(), described.null_order.tolist(), families, n_texts)
        return Label(role.label, role.why)

    def head_summaries(self, n_texts: int = 5, n_draws: int = 20) -> dict[str, dict[str, Any]]:
        """Label and first texts of every head kept, keyed "layer,head"."""

        def make() -> dict[str, dict[str, Any]]:
            summaries = {}
            for layer in self.collection.layers:
                for head in range(self.model.n_heads):
                    described = self.textspan(layer, head, n_texts, n_draws=n_draws)
                    label = self.label(described, n_texts)
                    summaries[f"{layer},{head}"] = {"label": label.name, "texts": list(described.texts)}
            return summaries

        return self.remember(("summaries", self.collection.version, n_texts, n_draws), make)

    def example_texts(self) -> tuple[str, ...]:
        """A few texts worth trying first."""
        return opening.example_texts(self.model)

    def subset(self, column: str, value: str) -> tuple[int, ...]:
        """Images whose label, group or other attribute is `value`, for select(images=...) and textspan(images=...)."""
        return tuple(self.images.where(column, value))

    def search(self, text: str, k: int = 24) -> list[tuple[int, float]]:
        """The images nearest to a text by cosine, best first."""
        unit = torch.nn.functional.normalize(self.collection.embedding, dim=-1)
        return self._best(unit @ self.direction(text).to(unit), k)

    def top_images(self, direction: Tensor, layer: int, head: int, k: int = 4) -> list[tuple[int, float]]:
        """The images on which one head writes most along a direction (Fig. 2.4)."""
        return self._best(self.collection.head_scores(direction, layer, head), k)

    def neighbours(
        self, image: int | None = None, k: int = 24, layer: int | None = None, head: int | None = None
    ) -> list[tuple[int, float]]:
        """Nearest images under the whole model, or under one head's inner product (thesis 2.4, Fig. 2.5)."""
        i, collection = self._image(image), self.collection
        known = i < len(collection) and bool(collection.ready[i])
        if layer is None or head is None:
            unit = torch.nn.functional.normalize(collection.embedding, dim=-1)
            own = collection.embedding[i] if known else self.trace(i).embedding[0].to(unit)
            return self._best(unit @ torch.nn.functional.normalize(own, dim=-1), k)
        if known:
            row = torch.tensor([i], device=collection.codes.device)
            effect = collection.head_effects(row, layer, head)[0]
        else:
            collection.layer_index(layer)
            effect = self.trace(i).head_effects(layers=[layer])[0, 0, head]
        return self._best(collection.head_scores(effect, layer, head), k)

    def add_image(self, source: Any, name: str = "upload") -> int:
        """Add one image (path, bytes, PIL, array) to the session; returns its index."""
        opened = open_images(source)
        if len(opened) != 1:
            raise ValueError(
                f"expected one image, got {len(opened)}; open a folder as Session(model, images=folder)"
            )
        trace = self.model.trace(opened[0])
        with self.lock:
            self.images = self.images.with_image(opened[0], name)
            self.collection.append(trace.to_codes(self.collection.layers))
        self.progress = (self.collection.n_ready, len(self.images))
        return len(self.images) - 1

    def receipts(self) -> dict[str, Any]:
        """What this view rests on: the sum check, fingerprints, device and the time of the last refresh.

        stand_ins: (n, m), of m files looked for n are gone and their thumbnails shown instead.
        """
        return {
            "index": "" if self.index is None else f"{self.index.path.name}@{self.index.fingerprint[:6]}",
            "stand_ins": self.images.stand_ins,
            "sum_check": self.model.sum_check,
            "model": f"{self.model.name}@{self.model.fingerprint[:6]}",
            "images": f"{len(self.images)}@{self.images.fingerprint[:6]}",
            "texts": f"{self.texts.name}-{len(self.texts)}@{self.texts.fingerprint[:6]}",
            "device": str(self.model.device),
            "milliseconds": self._seconds * 1000,
        }

    def remember(self, key: Any, make: Callable[[], Made], limit: int = 256) -> Made:
        """A value made once and kept while it is among the `limit` used last."""
        with self.lock:
            if key in self._memory:
                self._memory.move_to_end(key)
                return self._memory[key]
            made = make()
            self._memory[key] = made
            while len(self._memory) > limit:
                self._memory.popitem(last=False)
            return made

    def _best(self, scores: Tensor, k: int) -> list[tuple[int, float]]:
        ready = self.collection.ready.to(scores.device)
        values, rows = scores.masked_fill(~ready, -torch.inf).topk(min(k, self.collection.n_ready))
        return list(zip(rows.tolist(), values.tolist(), strict=True))

    def _image(self, image: int | None) -> int:
        i = self.selection.image if image is None else image
        if i is None or not 0 <= i < len(self.images):
            raise ValueError(f"expected an image within 0..{len(self.images) - 1}, got {i}; select one first")
        return int(i)

    def _reading(self) -> Generator[int, None, None]:
        """Read the collection a batch at a time; panels are refreshed as it grows and when it is complete."""
        told = 0.0
        for n_read in self.collection.read(self.model, self.images):
            with self.lock:
                self.progress = (n_read, len(self.images))
            if time.monotonic() - told > 1.0 or self.collection.complete:
                told = time.monotonic()
                if hasattr(self, "worker"):
                    self.refresh()
            yield n_read


def _literal(source: Any, placeholder: str) -> str:
    return repr(str(source)) if isinstance(source, str) or hasattr(source, "__fspath__") else placeholder


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
