"""Names of units in words: the text that fits the images on which a unit is strongest, also on other images."""

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
"""A name is judged on this share of all images, those on which the unit is strongest, and on at least this many."""
LEAST = 0.6
"""The share of a unit's strongest images that its name must fit."""
SURE = 0.05
"""The allowed probability that chance does as well."""


@torch.no_grad()
def likeness(
    model: ClipModel, texts: Sequence[str], batches: Iterable[tuple[Any, Tensor]]
) -> Float[Tensor, "text unit"]:
    """Return the correlation of every text's heatmap with every unit's maps over images and positions (Eq. 4.2).

    batches: (pictures, maps [image, unit, rows, cols]), the same images in both; pictures as PIL images or floats
    in 0..1. Heatmaps are direct effects of all heads (thesis 2.5) of the texts minus their mean, so that the part
    common to all texts does not count. Raises ValueError for no batch.
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
    """Return which images a text fits according to the model: those with the highest cosines, a tenth of all images
    and at least twice `n_strongest`.
    """
    n = min(len(cosines), max(2 * n_strongest(len(cosines)), len(cosines) // 10))
    return cosines >= cosines.sort(0, descending=True).values[n - 1]


def n_strongest(n_images: int) -> int:
    """Return on how many of a unit's strongest images a name is judged."""
    return min(n_images, max(FEWEST, round(STRONGEST * n_images)))


def shares(
    peaks: Float[Tensor, "image unit"], fits: Bool[Tensor, "image text"]
) -> tuple[Float[Tensor, "text unit"], Float[Tensor, "text unit"]]:
    """Return the share of each unit's strongest images that each text fits, and the probability that chance does as
    well.

    Chance means that the strongest images are drawn at random from all images.
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
    """Return for each unit the text that fits its strongest images best if it also fits on other images, else ("",
    share).

    first, second: peaks [image, unit] and fits [image, text], for the images on which the text is chosen and
    those on which it is validated. It is chosen among the texts that fit more often than the best of all texts
    would by chance. It is valid if it fits at least LEAST of the strongest images, which chance gives at most once
    in twenty. The share is that on `second`.
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
    """Return a name for each unit that is valid on images on which it was not chosen, see `names`.

    units: counted through `layers`, units of `partner` (default the model's own MLPs); images, heldout: pictures
    for choosing and for validation, or latents if the partner is a generator; true: for both, [image, text], the
    known truth, used instead of the model's own judgement (`fitting`), which is right for about seven of ten such
    names of the embedded model.
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
