"""The images of a session: those nearest to a text or an image, their plane, and percentiles of an image."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

from PIL import Image
from torch import Tensor

from clipviz.analysis.collection import atlas as planes
from clipviz.analysis.collection import retrieval
from clipviz.data.images import Images, open_images
from clipviz.lens.percentiles import (
    Familiarity,
    Percentiles,
    among_images,
    best_cosines,
    rank_among,
    share_below,
)
from clipviz.lens.trace import Trace
from clipviz.models.towers.anatomy import unmixed
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics.removal import Removal
from clipviz.session.topics.spans import Spans
from clipviz.session.topics.texts import TextTopic
from clipviz.values import Ablation, Head
from clipviz.values.tables import Listing, Lookup, NamedArray, named

if TYPE_CHECKING:
    from clipviz.analysis.collection.atlas import Atlas
    from clipviz.analysis.collection.atlas import Words as AtlasWords
    from clipviz.analysis.collection.image_codes import ImageCodes

PIXELS = ("rows", "cols", "channel")
SEEN = "Image as the model sees it"
Ranked = Listing[tuple[int, float]]
"""Images by their index, each with its score."""


class ImageTopic(Sequence[Image.Image]):
    """The collection as a sequence of pictures, and questions about it. An image is named by its index."""

    def __init__(self, state: State, removal: Removal, texts: TextTopic, spans: Spans) -> None:
        self._state, self._removal, self._texts, self._spans = state, removal, texts, spans

    def __len__(self) -> int:
        return len(self.opened)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Images: ...

    def __getitem__(self, index: int | slice) -> Image.Image | Images:
        return self.opened[index]

    def __iter__(self) -> Iterator[Image.Image]:
        return iter(self.opened)

    def __repr__(self) -> str:
        n_read = self.codes.n_ready
        return (
            f"{len(self):,} images"
            if n_read == len(self)
            else f"{len(self):,} images, {n_read:,} of them read"
        )

    @property
    def opened(self) -> Images:
        """The images as opened, with their names, captions and attributes, for another session or a report."""
        return self._state.images

    @property
    def codes(self) -> ImageCodes:
        """The data read from the images: embeddings, codes of heads, and which images are ready."""
        return self._state.collection

    @property
    def names(self) -> Listing[str]:
        """The names of the images."""
        return Listing(self.opened.names, "Names of the images", ("name",))

    @property
    def progress(self) -> tuple[int, int]:
        """The number of images read so far, and the number of all images."""
        return self.codes.n_ready, len(self)

    # -- one image ---------------------------------------------------------------------------------------------

    def trace(self, image: int | None = None) -> Trace:
        """Return the trace of one image, with its tokens; the selected image if None."""
        return self._state.trace(self._state.an_image(image))

    def embedding(self, image: int | None = None, ablation: Ablation | None = None) -> Tensor:
        """Return the unit embedding of one image.

        Args:
            image: Index of an image; default the selected one.
            ablation: What is removed; default the selection's. Ablation() stands for the whole model.

        Returns:
            Unit vector, [d_embed].
        """
        state = self._state
        embedding, norm = self._removal.embedding(state.an_image(image), state.an_ablation(ablation))
        return embedding / norm

    def pixels(self, image: int | None = None) -> NamedArray:
        """Return what the model sees of an image: uint8 [rows, cols, 3] after resize and crop."""
        state, i = self._state, self._state.an_image(image)
        return state.remember(
            ("pixels", i),
            lambda: named(
                state.model.shown(state.model.prepare(state.images[i]))[0],
                PIXELS,
                "Image as the model sees it",
            ),
        )

    def picture(self, image: int | None = None) -> NamedArray:
        """Return the same view at twice the model's resolution if the file allows it, uint8 [rows, cols, 3]."""
        state, i = self._state, self._state.an_image(image)
        return state.remember(
            ("picture", i),
            lambda: named(state.model.shown_sharp(state.images[i]), PIXELS, SEEN),
        )

    def add(self, source: Any, name: str = "upload", drawn: bool = False) -> int:
        """Add one image to the session.

        Args:
            source: A path, bytes, a PIL image or an array.
            name: What the image is called.
            drawn: Whether the model's bundle drew it, so that it belongs to the model's own world.

        Returns:
            The index of the image.

        Raises:
            ValueError: The source is not one image that can be read.
        """
        given_one = isinstance(source, str | bytes | bytearray) or not isinstance(source, Sequence)
        if not given_one and len(source) != 1:
            raise ValueError(f"expected one image, got {len(source):,} of them; add them one at a time")
        if isinstance(source, str | os.PathLike) and os.path.isdir(
            source
        ):  # before the folder is listed recursively
            raise ValueError("expected one image, got a folder; open it as Session(model, images=folder)")
        try:
            opened = open_images(source)
        except ValueError as error:
            if not isinstance(source, bytes):
                raise
            reason = str(error).rpartition("upload: ")[2]
            raise ValueError(f"“{name}” is not an image that can be read: {reason}") from error
        if len(opened) != 1:
            raise ValueError(f"expected one image, got {len(opened)} of them; add them one at a time")
        state, name = self._state, checks.text("name", name)
        with unmixed(state.model.device):
            trace = state.model.trace(opened[0])
        with state.lock:
            state.images = state.images.with_image(opened[0], name)
            state.collection.append(trace.to_codes(state.collection.layers))
            if drawn:
                state.drawn.add(len(state.images) - 1)
        return len(state.images) - 1

    # -- ranked ------------------------------------------------------------------------------------------------

    def search(self, text: str, k: int = 24, text_b: str = "", ablation: Ablation | None = None) -> Ranked:
        """Return the images nearest to a text by cosine, or by cosine minus that with text_b, best first.

        Args:
            text: The text that images are compared with.
            k: How many to return at most.
            text_b: A second text, whose cosine is subtracted.
            ablation: What is removed; default the selection's. Ablation() stands for the whole model.

        Returns:
            (index, cosine) of each image, best first.
        """
        k = checks.count("k", k)
        found = retrieval.best(self.codes, self.cosines(text, text_b, ablation), k)
        return self._ranked(found, f"Images nearest to “{text}”" + (f" minus “{text_b}”" if text_b else ""))

    def cosines(self, text: str, text_b: str = "", ablation: Ablation | None = None) -> Tensor:
        """Return the cosine of every image with a text, or that minus the cosine with a second one.

        Args:
            text: The text that images are compared with.
            text_b: A second text, whose cosine is subtracted.
            ablation: What is removed; default the selection's. Ablation() stands for the whole model.

        Returns:
            Cosines, [image].
        """
        embeddings = self._removal.embeddings(self._state.an_ablation(ablation))
        return retrieval.cosines(embeddings, self._state.contrast(text, text_b))

    def top(self, direction: Tensor, layer: int, head: int, k: int = 4, by: str = "product") -> Ranked:
        """Return the images on which one head writes most along a direction (Fig. 2.4).

        Args:
            direction: Vector in the space of embeddings, [d_embed].
            layer: Number of the layer, counted from 0.
            head: Number of the head within its layer, counted from 0.
            k: How many to return at most.
            by: "product" is the thesis's inner product of the head's effect and the direction; "cosine" divides
                it by the lengths of both, so that images on which the head writes little count as much.

        Returns:
            (index, score) of each image, best first.

        Raises:
            ValueError: The layer is not kept, or `by` is another word.
        """
        layer, head = self._state.a_head(layer, head)
        found = retrieval.top_images(self.codes, direction, layer, head, checks.count("k", k), by)
        return self._ranked(
            found, f"Images on which head {head} of layer {layer} writes most along a direction", by
        )

    def neighbours(
        self,
        image: int | None = None,
        layer: int | None = None,
        head: int | None = None,
        k: int = 24,
        by: str = "cosine",
    ) -> Ranked:
        """Return the images most similar to one under the whole model, or under one head (thesis 2.4, Fig.
        2.5).

        Args:
            image: Index of an image; default the selected one.
            layer: Number of a head's layer; None compares under the whole model.
            head: Number of the head; None compares under the whole model.
            k: How many to return at most.
            by: "cosine" compares embeddings, or the head's effects, by their cosine and leaves the image itself
                out; "product" is the thesis's inner product of the head's effects, with the image itself among
                the others.

        Returns:
            (index, score) of each image, best first.

        Raises:
            ValueError: Only one of layer and head is given.
        """
        i, k = self._state.an_image(image), checks.count("k", k)
        if (layer is None) != (head is None):
            raise ValueError(f"expected a layer and a head, or neither, got layer={layer}, head={head}")
        chosen = self._one_head(layer, head)
        found = retrieval.neighbours(self.codes, i, chosen, k, by, lambda: self._state.trace(i))
        under = "" if chosen is None else f" under head {chosen[1]} of layer {chosen[0]}"
        return self._ranked(found, f"Images most like image {i}{under}", by)

    def _ranked(self, found: list[tuple[int, float]], title: str, by: str = "cosine") -> Ranked:
        """Return images with their scores, as a table with thumbnails."""
        images = self.opened
        return Listing(found, title, ("image", by), pictures=lambda pair: images[pair[0]])

    def columns(self) -> Lookup[str, dict[str, int]]:
        """Return the columns by which subsets can be chosen, with the number of images per word; common words first."""
        images = self.opened
        found = self._state.remember(("attributes", len(images)), lambda: retrieval.attributes(images))
        return Lookup(found, "Columns that subsets can be chosen by", ("column",), ("images",))

    def where(self, column: str, value: str) -> tuple[int, ...]:
        """Return the images whose label, group or other attribute has a value.

        Args:
            column: One of `columns()`.
            value: A value that occurs in the column.

        Returns:
            Indices of the images, for select(images=...) or textspan.

        Raises:
            ValueError: There is no such column.
        """
        return tuple(self.opened.where(column, value))

    # -- the plane ---------------------------------------------------------------------------------------------

    def atlas(self, layer: int | None = None, head: int | None = None) -> Atlas:
        """Return the collection in the plane of its two principal components, of embeddings or of one head's
        effects.

        Args:
            layer: Number of a head's layer; None takes the embeddings.
            head: Number of the head; None takes the embeddings.

        Returns:
            Places [point, 2] of the images, and the plane's axes.

        Raises:
            ValueError: Fewer than 3 images are read, or the layer is not kept.
        """
        chosen = self._one_head(layer, head)

        def make() -> Atlas:
            if chosen is None:
                return planes.of_model(self.codes)
            covariance, span = self._spans.of(*chosen)
            return planes.of_head(self.codes, *chosen, covariance[0], span[0])

        return self._state.remember(("atlas", self.codes.version, chosen), make)

    def atlas_words(self, layer: int | None = None, head: int | None = None) -> AtlasWords:
        """Describe the plane of `atlas` with texts of the pool: the ends of its axes, and its dense regions.

        Args:
            layer: As in `atlas`.
            head: As in `atlas`.

        Returns:
            Texts at the ends of the axes, and at dense regions.
        """
        state, chosen = self._state, self._one_head(layer, head)

        def make() -> AtlasWords:
            return planes.words(self.atlas(layer, head), self.codes, chosen, state.pool(), list(state.texts))

        return state.remember(("atlas words", self.codes.version, chosen), make)

    def _one_head(self, layer: int | None, head: int | None) -> Head | None:
        """Return a head after checking it; None for the whole model."""
        return None if layer is None or head is None else self._state.a_head(layer, head)

    # -- what a number is held against -------------------------------------------------------------------------

    def percentiles(
        self, text: str, image: int | None = None, text_b: str = "", ablation: Ablation | None = None
    ) -> Percentiles:
        """Return where a text's cosine with an image ranks among the pool's texts and among the other images.

        The cosines to compare with are computed in the same way.

        Args:
            text: A text, or class of thing, in a few words.
            image: Index of an image; default the selected one.
            text_b: A second text, for effects on the cosine with `text` minus the cosine with this one.
            ablation: What is removed; default the selection's. Ablation() stands for the whole model.

        Returns:
            The cosine, its rank among the texts, and the share of images with a smaller one.
        """
        state = self._state
        i, chosen = state.an_image(image), state.an_ablation(ablation)
        text, text_b = checks.text("text", text), checks.text("text_b", text_b)
        key = ("percentiles", i, text, text_b, chosen, self.codes.version)
        return state.remember(key, lambda: self._percentiles(text, i, text_b, chosen))

    def _percentiles(self, text: str, image: int, text_b: str, ablation: Ablation) -> Percentiles:
        texts = self._state.texts
        cosine = self._removal.cosine(image, self._state.contrast(text, text_b), ablation)
        rank = None
        if not text_b:
            others = self._state.pool() @ self.embedding(image, ablation)
            others[[j for j, other in enumerate(texts) if other == text]] = -2.0
            rank = rank_among(cosine, others)
        rows = self._others(image)
        share = share_below(cosine, self.cosines(text, text_b, ablation)[rows])
        return Percentiles(cosine, rank, len(texts), share, len(rows))

    def familiarity(self, image: int | None = None) -> Familiarity:
        """Return whether an image is of a kind that the model knows, and how this was determined.

        A model trained on one world maps every picture into it: embedding, best text and head codes do not
        distinguish a photograph from a drawn scene (on the demo, at most 9 of 20 photographs exceeded the
        collection's 99th percentile in any of them). If the model's bundle brings images, therefore only these,
        and pictures drawn for the session, count as known. Otherwise the collection decides
        (lens.percentiles.among_images).
        """
        state, i = self._state, self._state.an_image(image)
        cosine = self._texts.nearest(i, 1, Ablation())[0][1]
        best = state.remember(
            ("best texts", self.codes.version), lambda: best_cosines(self.codes.embedding, state.pool())
        )
        judged = among_images(cosine, best[self._others(i)])
        own = self._own()
        if own is None:
            return judged
        known = i in state.drawn or state.images.keys[i] in own
        why = (
            f"This picture is not from the collection that “{state.model.name}” was made with. The "
            "model has only seen its own world. On other pictures its numbers mean little."
        )
        return replace(judged, known=known, why="" if known else why)

    def _others(self, image: int) -> Tensor:
        """Return the images that were read, except this one, [row]."""
        rows = self.codes.rows()
        return rows[rows != image]

    def _own(self) -> frozenset[str] | None:
        """Return the images of the model's own world, or None if it brings none."""
        state, bundle = self._state, self._state.model.bundle
        if bundle is None or bundle.images is None:
            return None
        images = bundle.images()
        if state.index is not None and state.index.fingerprint == images.fingerprint:
            return frozenset(state.images.keys)
        return state.remember("own images", lambda: frozenset(images.keys))
