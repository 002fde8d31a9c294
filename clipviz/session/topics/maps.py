"""The maps of one image: token effects on a text (2.5), baselines (Table 2.4), and a head's texts (Fig. 2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipviz.data.segmentation import fit_mask
from clipviz.lens import segment
from clipviz.lens.baselines import METHODS, all_maps
from clipviz.lens.baselines.readouts import POOLED_METHODS, pooled_maps
from clipviz.lens.heatmap import one_placeless
from clipviz.lens.joint import joint_maps
from clipviz.lens.percentiles import names_object
from clipviz.models.attending import attend
from clipviz.models.attribution import record, steps_through
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics.heads import SHOWN_TEXTS, HeadTopic
from clipviz.session.topics.tokens import TokenMaps, Tokens, to_numpy
from clipviz.values import Ablation
from clipviz.values.tables import Columns, Maps, NamedArray, Table, named

if TYPE_CHECKING:
    from clipviz.lens.segment import SegmentationScore

BASELINES = tuple(METHODS)
POOLED_BASELINES = POOLED_METHODS
# baselines whose map is the same for every text
IGNORING = ("raw attention", "rollout", "rollout, every layer")


@dataclass(frozen=True, eq=False, repr=False)
class Joint(Table):
    """A head's texts on one image (Fig. 2.6): those that agree most with it first, then those that agree least.

    texts: [2 k]; coefficients: [2 k], parts of the cosine minus the pool's mean direction; maps:
    [2 k, rows, cols], each text's coefficient over the image tokens (the class token's share left out).
    """

    texts: tuple[str, ...]
    coefficients: np.ndarray
    maps: np.ndarray

    def _columns(self) -> Columns:
        return {"text": self.texts, "coefficient": self.coefficients}

    def _pictures(self) -> Sequence[Any]:
        return list(self.maps)

    def _title(self) -> str:
        return "Texts of a head on an image"


class MapTopic:
    """Questions about the tokens of an image; by default the selected one."""

    def __init__(self, state: State, tokens: Tokens, heads: HeadTopic) -> None:
        self._state, self._tokens, self._heads = state, tokens, heads

    def __repr__(self) -> str:
        rows, cols = self._state.model.weights.grid
        return f"maps of {rows} x {cols} tokens; baselines: {', '.join(self.baselines)}"

    def tokens(
        self, text: str, image: int | None = None, text_b: str = "", ablation: Ablation | None = None
    ) -> TokenMaps:
        """Return the direct effect of every token through every head on the cosine of an image and a text
        (thesis 2.5).

        The effects of heads.effects are the sums over the tokens.

        Args:
            text: A text, or class of thing, in a few words.
            image: Index of an image; default the selected one.
            text_b: A second text, for effects on the cosine with `text` minus the cosine with this one.
            ablation: What is removed; default the selection's. Ablation() stands for the whole model.

        Returns:
            Scores [layer, head, token] in units of the cosine.
        """
        return self._tokens.maps(text, image, text_b, ablation)

    def pool(self, text: str, image: int | None = None, text_b: str = "") -> NamedArray:
        """Return the effect on a text's cosine of each final token as the pool reads it.

        These are effects in the whole model, even if heads are removed.

        Args:
            text: A text, or class of thing, in a few words.
            image: Index of an image; default the selected one.
            text_b: A second text, for effects on the cosine with `text` minus the cosine with this one.

        Returns:
            Effects [token] in units of the cosine, numbered as in `tokens`.

        Raises:
            ValueError: The model reads a class token and has no pool.
        """
        state, i = self._state, self._state.an_image(image)
        text, text_b = checks.text("text", text), checks.text("text_b", text_b)

        def make() -> NamedArray:
            direction = state.contrast(text, text_b)
            scores = self._placed(state.trace(i).pool_scores(direction[None], normalize=True)[0, 0])
            return named(scores, ("token",), "Effects of tokens through the pool")

        return state.remember(("pool", i, text, text_b), make)

    def attention(self, image: int | None = None) -> NamedArray:
        """Return the share of each token in what every head reads, [layer, head, token], numbered as in `tokens`."""
        found = self._state.trace(self._state.an_image(image)).attention
        assert found is not None
        return named(self._placed(found[0]), ("layer", "head", "token"), "Attention")

    def _placed(self, scores: Tensor) -> np.ndarray:
        """Return scores [..., token] with all tokens that have no position merged into the first."""
        return to_numpy(one_placeless(scores, self._state.model.weights.prefix))

    def compare(self, text: str, image: int | None = None, text_b: str = "") -> Maps:
        """Return the map of every baseline for a text, or for one text minus another.

        It takes one forward and one backward pass for all of them.

        Args:
            text: A text, or class of thing, in a few words.
            image: Index of an image; default the selected one.
            text_b: A second text, for effects on the cosine with `text` minus the cosine with this one.

        Returns:
            Maps [rows, cols] by the names in `baselines`.
        """
        i, text, text_b = (
            self._state.an_image(image),
            checks.text("text", text),
            checks.text("text_b", text_b),
        )
        return self._state.remember(("compare", i, text, text_b), lambda: self._compared(text, i, text_b))

    def _compared(self, text: str, image: int, text_b: str) -> Maps:
        state, model = self._state, self._state.model
        unit = torch.nn.functional.normalize(state.contrast(text, text_b), dim=-1)
        if steps_through(model):
            maps = all_maps(record(model, [state.images[image]], unit[None]), model.weights.grid)
        else:
            maps = pooled_maps(attend(model, [state.images[image]], unit[None]), model.weights.grid)
        arrays = {
            name: named(to_numpy(found[0].float()), ("rows", "cols"), name) for name, found in maps.items()
        }
        return Maps(arrays, "Maps by method", ("method",))

    @property
    def baselines(self) -> tuple[str, ...]:
        """The baselines that apply to the model: those of Table 2.4, or those that work for every readout."""
        return BASELINES if steps_through(self._state.model) else POOLED_BASELINES

    def shared(self, image: int | None = None) -> NamedArray:
        """Return token effects on the mean of all texts, [layer, head, token]: what all texts' maps share (2.5)."""
        state, i = self._state, self._state.an_image(image)

        def make() -> NamedArray:
            mean = state.pool().mean(0)
            scores = state.trace(i).token_scores(mean[None], normalize=True)[0, 0]
            effects = to_numpy(one_placeless(scores, state.model.weights.prefix).float())
            return named(effects, ("layer", "head", "token"), "Effects on the mean of all texts")

        return state.remember(("shared tokens", i), make)

    def joint(
        self, layer: int, head: int, image: int | None = None, k: int = 2, n_texts: int = SHOWN_TEXTS
    ) -> Joint:
        """Return the k texts of a head that an image agrees with most and the k least, with their token maps
        (Fig. 2.6).

        There are fewer if the head has fewer texts; a single text is returned once.

        Args:
            layer: Number of the layer, counted from 0.
            head: Number of the head within its layer, counted from 0.
            image: Index of an image; default the selected one.
            k: Texts at either end.
            n_texts: Texts of the head to choose from.

        Returns:
            The texts with their coefficients, and token maps [text, rows, cols].
        """
        layer, head = self._state.a_head(layer, head)
        i, k = self._state.an_image(image), checks.count("k", k)
        described = self._heads.textspan(layer, head, n_texts)
        k = min(k, max(1, len(described.order) // 2))
        trace, pool = self._state.trace(i), self._state.pool()
        found = joint_maps(trace, 0, layer, head, pool[described.order], pool, k)
        least = 0 if len(described.order) == 1 else k  # a single text is not returned twice
        chosen = torch.cat([found.positive, found.negative.flip(0)[:least]])
        maps = torch.cat([found.positive_maps, found.negative_maps.flip(0)[:least]]) / trace.norm[0]
        coefficients = found.coefficients[chosen] / trace.norm[0]
        texts = tuple(described.texts[place] for place in chosen.tolist())
        return Joint(texts, coefficients.float().cpu().numpy(), maps.float().cpu().numpy())

    def truth(self, image: int | None = None) -> NamedArray | None:
        """Return the objects of an image as the model sees it, bool [rows, cols], or None if they are unknown."""
        state, i = self._state, self._state.an_image(image)

        def make() -> NamedArray | None:
            mask = state.images.masks(i)
            if mask is None or not mask.any():
                return None
            return named(fit_mask(mask, state.model.image_size) > 0, ("rows", "cols"), "Objects of the image")

        return state.remember(("mask", i), make)

    def agreement(
        self, heatmap: np.ndarray, image: int | None = None, threshold: float | None = None
    ) -> SegmentationScore | None:
        """Score a map as a segmentation of the image's objects.

        Args:
            heatmap: A map [rows, cols] in any unit.
            image: Index of an image; default the selected one.
            threshold: Cut of the map in 0..1; default its mean (the thesis uses 0.5 for neurons).

        Returns:
            Pixel accuracy, mIoU and average precision; None where `truth` is None.

        Raises:
            ValueError: The map is no array [rows, cols].
        """
        if getattr(heatmap, "ndim", 0) != 2:
            raise ValueError(
                f"expected a map as an array [rows, cols], got {type(heatmap).__name__}; for example "
                "from session.maps.tokens"
            )
        mask = self.truth(image)
        if mask is None:
            return None
        return segment.score(torch.as_tensor(np.array(heatmap))[None], torch.as_tensor(mask)[None], threshold)

    def names_object(self, text: str, image: int | None = None) -> bool | None:
        """Return whether a text names what the image's true mask outlines.

        Args:
            text: A text, or class of thing, in a few words.
            image: Index of an image; default the selected one.

        Returns:
            None if the mask's object is unknown.
        """
        return names_object(text, self._state.images.attributes or {}, self._state.an_image(image))
