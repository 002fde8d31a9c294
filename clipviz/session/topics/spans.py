"""The variation of heads over the collection: the covariance of their effects, each in its own span."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from clipviz.lens import textspan
from clipviz.session.state import State


class Spans:
    """Covariances of heads, for the topics that describe heads with texts or in a plane."""

    def __init__(self, state: State) -> None:
        self._state = state

    def every(self, images: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Return the covariance of every head's effects in its own span, and the spans, for the images read so far."""
        state, chosen = self._state, self._state.some_images(images)

        def make() -> tuple[Tensor, Tensor]:
            return textspan.head_span(state.collection.basis, state.collection.head_covariance(chosen))

        return state.remember(("span", state.collection.version, chosen), make)

    def of(self, layer: int, head: int, images: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Return one head's covariance in its own span, [1, rank, rank], and that span, [1, d_embed, rank]."""
        state = self._state
        at, chosen = state.a_head(layer, head), state.some_images(images)

        def make() -> tuple[Tensor, Tensor]:
            basis = state.collection.basis.select([at[0]], [at[1]])
            return textspan.head_span(basis, state.collection.head_covariance(chosen, at))

        return state.remember(("head span", state.collection.version, at, chosen), make)
