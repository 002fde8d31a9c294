"""What is asked of the collection: search, neighbours, planes, and where a text or an image stands in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from clipviz.analysis.collection import atlas as planes
from clipviz.analysis.collection import retrieval
from clipviz.analysis.collection.retrieval import Ranked
from clipviz.lens.percentiles import names_object
from clipviz.session import ablation as ablations
from clipviz.session import checks, context
from clipviz.session.state import SessionState
from clipviz.values import Ablation

if TYPE_CHECKING:
    from clipviz.analysis.collection.atlas import Atlas
    from clipviz.analysis.collection.atlas import Words as AtlasWords
    from clipviz.lens.percentiles import Familiarity, Standing


class ImageQuestions(SessionState):
    """The methods of a session about the collection."""

    def attributes(self) -> dict[str, dict[str, int]]:
        """Columns that subsets can be chosen by, and how many images have each word; common words first."""
        return self.remember(("attributes", len(self.images)), lambda: retrieval.attributes(self.images))

    def subset(self, column: str, value: str) -> tuple[int, ...]:
        """Images whose label, group or other attribute is `value`, for select(images=...) and textspan(images=...)."""
        return tuple(self.images.where(column, value))

    def search(self, text: str, k: int = 24, text_b: str = "", ablation: Ablation | None = None) -> Ranked:
        """The images nearest to a text by cosine, or by cosine minus that with text_b, best first.

        ablation: whose embeddings are compared, default the selection's; Ablation() for the whole model.
        """
        k = checks.count("k", k)
        return retrieval.best(self.collection, self.cosines(text, text_b, ablation), k)

    def cosines(self, text: str, text_b: str = "", ablation: Ablation | None = None) -> Tensor:
        """Cosine of every image with a text, or minus that with text_b, [image]; ablation as in search."""
        embeddings = ablations.embeddings_after(self._session, self._ablation(ablation))
        return retrieval.cosines(embeddings, self.contrast(text, text_b))

    def top_images(self, direction: Tensor, layer: int, head: int, k: int = 4, by: str = "product") -> Ranked:
        """The images on which one head writes most along a direction (Fig. 2.4).

        by="product" is the thesis's inner product of the head's effect and the direction; by="cosine" divides it by the
        lengths of both, so that images on which the head writes little count as much.
        """
        layer, head = self._head(layer, head)
        return retrieval.top_images(self.collection, direction, layer, head, checks.count("k", k), by)

    def neighbours(
        self,
        image: int | None = None,
        layer: int | None = None,
        head: int | None = None,
        k: int = 24,
        by: str = "cosine",
    ) -> Ranked:
        """The k images most like one under the whole model, or under one head, best first (thesis 2.4, Fig. 2.5).

        by="cosine" compares embeddings, or the head's effects, by their cosine and leaves the image itself out;
        by="product" is the thesis's inner product of the head's effects, with the image itself among the others.
        """
        i, k = self._image(image), checks.count("k", k)
        if (layer is None) != (head is None):
            raise ValueError(f"expected a layer and a head, or neither, got layer={layer}, head={head}")
        chosen = None if layer is None or head is None else self._head(layer, head)
        return retrieval.neighbours(self.collection, i, chosen, k, by, lambda: self.trace(i))

    def nearest_texts(
        self, image: int | None = None, k: int = 5, ablation: Ablation | None = None
    ) -> list[tuple[str, float]]:
        """The texts of the pool that are nearest to an image by cosine, best first; ablation as in head_scores."""
        cosines = self.pool() @ self.unit_embedding(image, ablation)
        found = cosines.topk(min(checks.count("k", k), len(self.texts)))
        return [
            (self.texts[j], value)
            for j, value in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]

    def atlas(self, layer: int | None = None, head: int | None = None) -> Atlas:
        """The collection in the plane of its two principal components: of the embeddings, or of one head's effects.

        Raises ValueError with fewer than 3 images read, and for a layer that is not kept.
        """
        chosen = None if layer is None or head is None else self._head(layer, head)

        def make() -> Atlas:
            if chosen is None:
                return planes.of_model(self.collection)
            covariance, span = self._session.head_span(*chosen)
            return planes.of_head(self.collection, *chosen, covariance[0], span[0])

        return self.remember(("atlas", self.collection.version, chosen), make)

    def atlas_words(self, layer: int | None = None, head: int | None = None) -> AtlasWords:
        """The plane of `atlas` in texts of the pool: what the ends of its axes, and its dense places, are about."""
        chosen = None if layer is None or head is None else self._head(layer, head)

        def make() -> AtlasWords:
            return planes.words(
                self.atlas(layer, head), self.collection, chosen, self.pool(), list(self.texts)
            )

        return self.remember(("atlas words", self.collection.version, chosen), make)

    def unit_embedding(self, image: int | None = None, ablation: Ablation | None = None) -> Tensor:
        """The unit embedding of one image, [d_embed]; ablation as in head_scores."""
        i, chosen = self._image(image), self._ablation(ablation)
        if chosen:
            left = ablations.left_of(self._session, i, chosen)
            return left.embedding / left.norm
        trace = self.trace(i)
        return trace.embedding[0] / trace.norm[0]

    def standing(
        self, text: str, image: int | None = None, text_b: str = "", ablation: Ablation | None = None
    ) -> Standing:
        """Where a text's cosine with an image stands: its rank among the pool's texts, its share over the images.

        text_b and ablation as in head_scores; every cosine that it is compared with is of the same quantity.
        """
        i, chosen = self._image(image), self._ablation(ablation)
        text, text_b = checks.text("text", text), checks.text("text_b", text_b)
        key = ("standing", i, text, text_b, chosen, self.collection.version)
        return self.remember(key, lambda: context.standing(self._session, text, i, text_b, chosen))

    def familiarity(self, image: int | None = None) -> Familiarity:
        """Whether an image is of the kind that the model knows, and how that is told (clipviz.session.context)."""
        return context.familiarity(self._session, self._image(image))

    def names_object(self, text: str, image: int | None = None) -> bool | None:
        """Whether a text names what the image's true mask outlines; None where nothing is known of that."""
        return names_object(text, self.images.attributes or {}, self._image(image))
