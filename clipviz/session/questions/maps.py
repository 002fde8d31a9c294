"""What is asked of tokens: maps of texts, baselines, and how well a map outlines the objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipviz.session import checks, heads, maps
from clipviz.session.heads import TokenMaps
from clipviz.session.questions.heads import SHOWN_TEXTS
from clipviz.session.state import SessionState
from clipviz.values import Ablation

if TYPE_CHECKING:
    from clipviz.lens.segment import SegmentationScore
    from clipviz.session.maps import Joint


class MapQuestions(SessionState):
    """The methods of a session about tokens and their maps."""

    def token_maps(
        self, text: str, image: int | None = None, text_b: str = "", ablation: Ablation | None = None
    ) -> TokenMaps:
        """Direct effect of every token through every head on the cosine of an image and a text (thesis 2.5).

        text_b and ablation as in head_scores, whose head effects are the sums over the tokens.
        """
        i, chosen = self._image(image), self._ablation(ablation)
        text, text_b = checks.text("text", text), checks.text("text_b", text_b)
        key = ("tokens", i, text, text_b, chosen, self._means_version(chosen))
        return self.remember(key, lambda: heads.token_maps(self._session, text, i, text_b, chosen))

    def pool_map(self, text: str, image: int | None = None, text_b: str = "") -> np.ndarray:
        """Effect on a text's cosine of each final token as the pool reads it, [token]; tokens as in token_maps.

        text_b as in head_scores; of the whole model, whatever is removed. Raises ValueError for a model that reads
        a class token, which has no pool.
        """
        i, text, text_b = self._image(image), checks.text("text", text), checks.text("text_b", text_b)
        return self.remember(
            ("pool", i, text, text_b), lambda: heads.pool_map(self._session, text, i, text_b)
        )

    def attention(self, image: int | None = None) -> np.ndarray:
        """Share of each token in what is read through every head, [layer, head, token]; tokens as in token_maps."""
        return heads.attention(self._session, self._image(image))

    def compare_maps(self, text: str, image: int | None = None, text_b: str = "") -> dict[str, np.ndarray]:
        """The map [rows, cols] of every baseline of `baselines` for a text, or for one text minus another, by name."""
        i, text, text_b = self._image(image), checks.text("text", text), checks.text("text_b", text_b)
        return self.remember(
            ("compare", i, text, text_b), lambda: maps.compare(self._session, text, i, text_b)
        )

    @property
    def baselines(self) -> tuple[str, ...]:
        """The baselines that apply to the model: those of Table 2.4, or those that every readout allows."""
        return maps.applicable(self._session)

    def joint_maps(
        self, layer: int, head: int, image: int | None = None, k: int = 2, n_texts: int = SHOWN_TEXTS
    ) -> Joint:
        """The k texts of a head that an image agrees with most and the k least, with their token maps (Fig. 2.6)."""
        layer, head = self._head(layer, head)
        return maps.joint(self._session, layer, head, self._image(image), checks.count("k", k), n_texts)

    def shared_maps(self, image: int | None = None) -> np.ndarray:
        """Token effects on the mean of all texts, [layer, head, token]: what every text's map has in common (2.5)."""
        i = self._image(image)
        return self.remember(("shared tokens", i), lambda: maps.shared_scores(self._session, i))

    def true_mask(self, image: int | None = None) -> np.ndarray | None:
        """The objects of an image as the model sees it, bool [rows, cols], or None where nothing is known."""
        i = self._image(image)
        return self.remember(("mask", i), lambda: maps.true_mask(self._session, i))

    def agreement(
        self, heatmap: np.ndarray, image: int | None = None, threshold: float | None = None
    ) -> SegmentationScore | None:
        """A map [rows, cols] scored as a segmentation of the image's objects; None without a true mask.

        threshold: of the map in 0..1, default its mean (the thesis takes 0.5 for neurons).
        """
        if getattr(heatmap, "ndim", 0) != 2:
            raise ValueError(
                f"expected a map as an array [rows, cols], got {type(heatmap).__name__}; see token_maps"
            )
        return maps.agreement(heatmap, self.true_mask(image), threshold)
