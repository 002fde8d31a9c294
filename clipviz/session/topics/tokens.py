"""What every head writes at every token of one image; effects of heads and maps are sums of these numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from clipviz.lens.heatmap import one_placeless
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics.removal import Removal
from clipviz.values import N_LATE, Ablation
from clipviz.values.tables import Columns, NamedArray, Table, named


class TokenHead(NamedTuple):
    """What one head writes at one token: a direct effect on the cosine, or, without a text, its attention."""

    layer: int
    head: int
    value: float


@dataclass(frozen=True, eq=False, repr=False)
class TokenMaps(Table):
    """Direct effects of every token through every head on a text's cosine: scores [layer, head, token].

    Entry 0 is the class token, or the sum of all tokens without a position, 0 if there are none. It also contains
    the mean of a removed head, which has no position. grid: rows and columns of the other tokens.
    """

    scores: np.ndarray
    cosine: float
    grid: tuple[int, int]

    def map(self, scope: str = "all", layer: int | None = None, head: int | None = None) -> NamedArray:
        """Return scores over the image [rows, cols], summed over "all" heads, "late" layers, a "layer" or a "head"."""
        scores = self.scores
        if scope == "late":
            scores = scores[-N_LATE:]
        elif scope == "layer" and layer is not None:
            scores = scores[layer][None]
        elif scope == "head" and layer is not None and head is not None:
            scores = scores[layer, head][None, None]
        summed = scores[..., 1:].sum((0, 1)).reshape(self.grid)
        return named(summed, ("rows", "cols"), f"Effects on a cosine of {self.cosine:.3f}")

    def at(self, token: int | None, k: int = 5) -> list[TokenHead]:
        """Return the k heads that write most (by magnitude) at a token. Raises ValueError for an unknown token."""
        n_heads, n_tokens = self.scores.shape[1:]
        if token is None or not 0 <= token < n_tokens:
            raise ValueError(f"expected a token within 0..{n_tokens - 1}, got {token}; select one first")
        column = self.scores[:, :, token]
        order = np.argsort(-np.abs(column), axis=None, kind="stable")[:k]
        places = [divmod(int(i), n_heads) for i in order]
        return [TokenHead(layer, head, float(column[layer, head])) for layer, head in places]

    def to_xarray(self) -> Any:
        """Return the scores as an xarray.DataArray with the axes layer, head and token.

        Raises:
            ImportError: if xarray is not installed.
        """
        return self._named().to_xarray()

    def _named(self) -> NamedArray:
        return named(self.scores, ("layer", "head", "token"), "effect")

    def _columns(self) -> Columns:
        columns = dict(self._named()._columns())
        return columns | {"effect": columns.pop("value")}

    def _order(self, columns: Columns) -> Sequence[int]:
        return list(np.argsort(-np.abs(columns["effect"]), kind="stable").tolist())

    def _title(self) -> str:
        return f"Effects of tokens through heads on a cosine of {self.cosine:.3f}, largest first"

    def _repr_html_(self) -> str:
        return self.map()._repr_html_()


class Tokens:
    """Token effects of a text on an image, after an ablation."""

    def __init__(self, state: State, removal: Removal) -> None:
        self._state, self._removal = state, removal

    def maps(self, text: str, image: int | None, text_b: str, ablation: Ablation | None) -> TokenMaps:
        """Return the token maps; see MapTopic.tokens."""
        state = self._state
        i, chosen = state.an_image(image), state.an_ablation(ablation)
        text, text_b = checks.text("text", text), checks.text("text_b", text_b)
        key = ("tokens", i, text, text_b, chosen, state.means_version(chosen))
        return state.remember(key, lambda: self._maps(text, i, text_b, chosen))

    def _maps(self, text: str, image: int, text_b: str, ablation: Ablation) -> TokenMaps:
        state = self._state
        trace, direction = state.trace(image), state.contrast(text, text_b)
        scores = one_placeless(trace.token_scores(direction[None])[0, 0], state.model.weights.prefix)
        embedding, norm = trace.embedding[0], trace.norm[0]
        if ablation:
            left = self._removal.left(image, ablation)
            embedding, norm = left.embedding, left.norm
            for (layer, head), effect in zip(left.heads, left.instead @ direction, strict=True):
                scores[layer, head] = 0
                scores[layer, head, 0] = effect
            if left.rest is not None:
                kept = state.collection.layers
                scores[[layer for layer in range(state.model.n_layers) if layer not in kept]] = 0
        cosine = float(embedding @ direction / norm)
        return TokenMaps(to_numpy(scores / norm), cosine, state.model.weights.grid)


def to_numpy(tensor: object) -> np.ndarray:
    return tensor.detach().cpu().numpy()  # type: ignore[attr-defined, no-any-return]
