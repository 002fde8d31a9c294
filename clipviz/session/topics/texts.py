"""The texts of a session: its pool, their directions, and those nearest to an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from torch import Tensor

from clipviz.data.texts import Texts
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics.removal import Removal
from clipviz.values import Ablation
from clipviz.values.tables import Listing

EXAMPLES = ("a person", "an animal", "a building", "the colour red", "text on a sign", "a landscape")


class TextTopic(Sequence[str]):
    """The pool of texts as a sequence, and questions about it."""

    def __init__(self, state: State, removal: Removal) -> None:
        self._state, self._removal = state, removal

    def __len__(self) -> int:
        return len(self.opened)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self.opened[index]

    def __repr__(self) -> str:
        return f"{len(self):,} texts, {self.opened.name!r}"

    @property
    def opened(self) -> Texts:
        """The pool as opened, for another session or an analysis."""
        return self._state.texts

    @property
    def examples(self) -> tuple[str, ...]:
        """A few suggested texts: those of the model's bundle, if the images are its own."""
        bundle = self._state.model.bundle
        known = bundle.examples if bundle else ()
        if bundle and bundle.first and not self._state.images.captions:
            known = tuple(text for text in known if text != bundle.first.text)
        return known or EXAMPLES

    def direction(self, text: str, text_b: str = "") -> Tensor:
        """Return the unit direction of a text, or that minus the direction of a second one.

        Its product with a unit embedding is the cosine with the text, or that minus the cosine with text_b.

        Args:
            text: A text, or class of thing, in a few words.
            text_b: A second text, whose direction is subtracted.

        Returns:
            Vector in the space of embeddings, [d_embed], of unit length for a single text.
        """
        return self._state.contrast(text, text_b)

    def pool(self) -> Tensor:
        """Return unit directions of every text of the pool, [text, d_embed]."""
        return self._state.pool()

    def nearest(
        self, image: int | None = None, k: int = 5, ablation: Ablation | None = None
    ) -> Listing[tuple[str, float]]:
        """Return the texts of the pool that are nearest to an image by cosine.

        Args:
            image: Index of an image; default the selected one.
            k: How many to return at most.
            ablation: What is removed; default the selection's. Ablation() stands for the whole model.

        Returns:
            (text, cosine), best first.
        """
        state = self._state
        i, chosen = state.an_image(image), state.an_ablation(ablation)
        embedding, norm = self._removal.embedding(i, chosen)
        cosines = state.pool() @ (embedding / norm)
        found = cosines.topk(min(checks.count("k", k), len(self)))
        rows = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        named = [(self.opened[j], value) for j, value in rows]
        return Listing(named, f"Texts nearest to image {i}", ("text", "cosine"))
