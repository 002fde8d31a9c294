"""What a unit is about, in words: the text that fits the images where it is strongest, also on other images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.analysis.rosetta.mining import maps_of_units
from clipviz.analysis.rosetta.unit_maps import Layers
from clipviz.lens.rosetta import CorrelationSums
from clipviz.models.clip import ClipModel
from clipviz.models.generator import Sampler
from clipviz.models.preprocess import take
from clipviz.models.zoo import clip_partner

STRONGEST, FEWEST = 0.05, 5
"""A name is judged by this share of all images, those where the unit is strongest, and by so many at least."""
LEAST = 0.6
"""The share of a unit's strongest images that its name has to fit."""
SURE = 0.05
"""How often chance may give as much."""


@torch.no_grad()
def likeness(
    model: ClipModel, texts: Sequence[str], batches: Iterable[tuple[Any, Tensor]]
) -> Float[Tensor, "text unit"]:
    """Correlation of every text's heatmap with every unit's maps over images and positions (Eq. 4.2).

    batches: (pictures, maps [image, unit, rows, cols]), the same images in both; pictures as PIL images or floats in
    0..1. Heatmaps are direct effects of all heads (thesis 2.5) of the texts minus their mean, so that what every text
    shares does not count. Raises ValueError for no batch.
    """
    directions = model.encode_texts(list(texts))
    directions = directions - directions.mean(0)
    prepare = clip_partner(model).preprocess
    sums = None
    for pictures, maps in batches:
        heatmaps = model.trace(prepare(pictures).to(model.device)).heatmap(directions).transpose(0, 1)
        sums = sums or CorrelationSums(len(texts), maps.shape[1])
        sums.update(heatmaps.float(), maps.to(heatmaps.device))
    if sums is None:
        raise ValueError("expected at least one picture to name units on, got none")
    return sums.correlation().cpu()


def fitting(cosines: Float[Tensor, "image text"]) -> Bool[Tensor, "image text"]:
    """Return which images a text fits, as the model sees it: those with the highest cosines among all images, a
    tenth of them and at least twice as many as `n_strongest`.
    """
    n = min(len(cosines), max(2 * n_strongest(len(cosines)), len(cosines) // 10))
    return cosines >= cosines.sort(0, descending=True).values[n - 1]


def n_strongest(n_images: int) -> int:
    """Return how many of a unit's strongest images a name is judged by."""
    return min(n_images, max(FEWEST, round(STRONGEST * n_images)))


def shares(
    peaks: Float[Tensor, "image unit"], fits: Bool[Tensor, "image text"]
) -> tuple[Float[Tensor, "text unit"], Float[Tensor, "text unit"]]:
    """Of each unit's strongest images the share that each text fits, and how often chance alone gives as much.

    Chance: the strongest images drawn at random from all of them, of which a text fits the share that it does.
    """
    from scipy.stats import binom

    k = n_strongest(len(peaks))
    top = peaks.topk(k, dim=0).indices
    found = fits[top].double().sum(0).T  # [text, unit]
    base = fits.double().mean(0)[:, None]
    chance = binom.sf(found.numpy() - 1, k, base.expand_as(found).numpy())
    return found / k, torch.from_numpy(np.asarray(chance))


def names(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], texts: Sequence[str]
) -> tuple[tuple[str, float], ...]:
    """For each unit the text that fits its strongest images best, where it also fits on other images: ("", share) else.

    first, second: peaks [image, unit] and fits [image, text], those that the text is chosen on and those that it has
    to hold on. It is chosen among the texts that fit more often than chance gives to any of all texts, and holds where
    it fits at least LEAST of the strongest, which chance gives at most in one of twenty. The share is that on `second`.
    """
    share, chance = shares(*first)
    clear = chance <= SURE / len(texts)
    best = torch.where(clear, share - 1e-3 * chance.clamp_min(1e-30).log10() / 30, -1.0).argmax(0)
    held, luck = shares(*second)
    found = []
    for unit, text in enumerate(best.tolist()):
        holds = clear[text, unit] and held[text, unit] >= LEAST and luck[text, unit] <= SURE
        found.append((texts[text] if holds else "", float(held[text, unit])))
    return tuple(found)


@torch.no_grad()
def hints(
    model: ClipModel,
    units: Tensor,
    layers: Layers,
    images: Any,
    heldout: Any,
    texts: Sequence[str],
    partner: Any = None,
    batch: int = 8,
    true: tuple[Tensor, Tensor] | None = None,
) -> tuple[tuple[str, float], ...]:
    """Return a name for each unit that holds on images which it was not chosen on, see `names`.

    units: counted through `layers`, units of `partner` (default the model's own MLPs); images, heldout: pictures to
    choose on and others, or latents where the partner is a generator; true: of both, [image, text] what is known to
    be true, in place of the model's own judgement (`fitting`), which is right about seven of ten such names of the
    embedded model.
    """
    directions = model.encode_texts(list(texts))
    directions = directions - directions.mean(0)
    prepare = clip_partner(model).preprocess

    def seen(collection: Any, known: Tensor | None) -> tuple[Tensor, Tensor]:
        peaks, cosines = [], []
        for start in range(0, len(collection), batch):
            chosen = take(collection, range(start, min(start + batch, len(collection))))
            maps = maps_of_units(model if partner is None else partner, chosen, units, layers)
            peaks.append(maps.amax((2, 3)))
            if known is None:
                pictures = partner.images(chosen) if isinstance(partner, Sampler) else chosen
                embedding = model.trace(prepare(pictures).to(model.device)).embedding
                cosines.append((normalize(embedding, dim=-1) @ directions.T).cpu())
        return torch.cat(peaks).cpu(), fitting(torch.cat(cosines)) if known is None else known

    given = (None, None) if true is None else true
    return names(seen(images, given[0]), seen(heldout, given[1]), texts)
