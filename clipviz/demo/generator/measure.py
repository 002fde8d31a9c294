"""Measurements of the embedded generator's pictures by CLIP and by the locator, beside those of its teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from clipviz.demo.generator.demo_generator import DemoGenerator
from clipviz.demo.generator.locator import locate
from clipviz.demo.generator.scenes import COLOURS, GROUNDS, KINDS, TrueScenes
from clipviz.demo.generator.teacher import render
from clipviz.demo.model.evaluate import Encoder
from clipviz.demo.world import scenes as world
from clipviz.demo.world import vocabulary as words
from clipviz.lens.intervals import Estimate, share_of
from clipviz.values import Latents

SEED, OTHER_SEED = 1_000_003, 1_000_037
"""Seeds of the measured samples and of the held-out renderings to compare with."""
CLEAR = 0.75
"""An object is clearly visible (or painted) above this value, and clearly not below 1 - CLEAR."""


def frechet(a: Float[Tensor, "image feature"], b: Float[Tensor, "image feature"]) -> float:
    """Return the Fréchet distance of two Gaussians fitted to features: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a
    C_b)^(1/2)).
    """
    a, b = a.double(), b.double()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float(mean + cov_a.trace() + cov_b.trace() - 2 * cross)


def as_pixels(images: Float[Tensor, "image 3 rows cols"]) -> np.ndarray:
    """Return pictures in 0..1 at the world's own size in uint8, [image, row, column, 3]."""
    size = (words.IMAGE_SIZE, words.IMAGE_SIZE)
    if images.shape[-2:] != size:
        images = F.interpolate(images, size, mode="bilinear", align_corners=False)
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


@torch.no_grad()
def paint(generator: DemoGenerator, latents: Latents, batch: int = 64) -> Float[Tensor, "image 3 rows cols"]:
    """Return the generator's pictures, in batches."""
    parts = range(0, len(latents), batch)
    return torch.cat([generator.images(latents[start : start + batch]).cpu() for start in parts])


@dataclass(frozen=True, eq=False)
class Named:
    """CLIP's names for each picture: indices in KINDS, COLOURS and GROUNDS, and among all objects of the world."""

    kind: np.ndarray
    colour: np.ndarray
    ground: np.ndarray
    word: np.ndarray


class Names:
    """Zero-shot names of pictures by a CLIP, among the generator's own kinds, colours and backgrounds."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.directions = encoder, encoder.directions

    def units(self, images: Float[Tensor, "image 3 rows cols"]) -> Float[Tensor, "image d_embed"]:
        return self.encoder.images(as_pixels(images)).float()

    def kind_probabilities(
        self, units: Float[Tensor, "image d_embed"], scale: float
    ) -> Float[Tensor, "image kind"]:
        """Return the softmax over KINDS at a logit scale."""
        rows = [words.OBJECT_NAMES.index(name) for name in KINDS]
        return (scale * units @ self.directions["object"][rows].float().T).softmax(1)

    def of(self, units: Float[Tensor, "image d_embed"]) -> Named:
        """Return names of embedded pictures."""

        def nearest(family: str, own: tuple[str, ...], among: tuple[str, ...]) -> np.ndarray:
            rows = [among.index(name) for name in own]
            return (units @ self.directions[family][rows].float().T).argmax(1).numpy()

        return Named(
            nearest("object", KINDS, words.OBJECT_NAMES),
            nearest("colour", COLOURS, words.COLOURS),
            nearest("background", GROUNDS, words.BACKGROUNDS),
            (units @ self.directions["object"].float().T).argmax(1).numpy(),
        )


@dataclass(frozen=True)
class Quality:
    """Measurements of the generator ("generator") and of the teacher's pictures of the same latents ("teacher").

    named: what -> who -> share. frechet: what -> distance in CLIP's embedding. coverage: what -> who -> value.
    """

    named: dict[str, dict[str, Estimate]]
    frechet: dict[str, float]
    coverage: dict[str, dict[str, float]]
    n: int


def quality(generator: DemoGenerator, encoder: Encoder, n: int = 1000, seed: int = SEED) -> Quality:
    """Measure the generator's samples: named kinds and colours, numbers, Fréchet distances and coverage.

    encoder: the CLIP that judges. Raises ValueError for fewer than 50 samples.
    """
    if n < 50:
        raise ValueError(f"expected at least 50 samples to measure, got {n}")
    latents = generator.sample(n, seed)
    truth, names = generator.true_scenes(latents), Names(encoder)
    pictures = {"generator": paint(generator, latents), "teacher": render(latents.z, latents.label).images}
    units = {who: names.units(images) for who, images in pictures.items()}
    named = {who: shares(names.of(units[who]), pictures[who], truth) for who in pictures}
    held_out = generator.sample(n, OTHER_SEED)
    reference = names.units(render(held_out.z, held_out.label).images)
    world_units = _world(names, n, OTHER_SEED)
    distances = {
        "generator to held-out renders": frechet(units["generator"], reference),
        "teacher to held-out renders": frechet(units["teacher"], reference),
        "scenes of the world to held-out renders": frechet(world_units, reference),
        "scenes of the world to held-out ones": frechet(_world(names, n, seed + 1), world_units),
    }
    covered = {who: coverage(names.of(units[who]), pictures[who]) for who in pictures}
    return Quality(_by_what(named), distances, _by_what(covered), n)


def shares(
    named: Named, pictures: Float[Tensor, "image 3 rows cols"], truth: TrueScenes
) -> dict[str, Estimate]:
    """Return the shares of pictures that CLIP and the locator read as the latents determine."""
    there = truth.count > 0
    painted = there & (truth.colour >= 0)
    words_of = np.array([words.OBJECT_NAMES.index(name) for name in KINDS])
    clear = (np.abs(truth.opacity - 0.5) > CLEAR - 0.5).all(1)
    seen = locate(pictures).count.numpy()
    return {
        f"kind, of {len(KINDS)}": share_of(named.kind == truth.label),
        f"kind, of all {len(words.OBJECT_NAMES)} objects": share_of(named.word == words_of[truth.label]),
        f"colour of painted objects, of {len(COLOURS)}": share_of(
            named.colour[painted] == truth.colour[painted]
        ),
        f"ground, of {len(GROUNDS)}": share_of(named.ground == truth.ground),
        "number of objects (locator), where clear": share_of(seen[clear] == truth.count[clear]),
    }


def coverage(named: Named, pictures: Float[Tensor, "image 3 rows cols"]) -> dict[str, float]:
    """Return how widely pictures vary: the rarest kind and background against an even share, positions, sizes."""
    found = locate(pictures)
    place = found.centroid[~found.centroid.isnan().any(1)].numpy()
    cells = np.histogram2d(place[:, 0], place[:, 1], bins=3, range=[[0.1, 0.9]] * 2)[0].ravel() / len(place)
    area = found.area.numpy()
    low, middle, high = (float(np.quantile(area, share)) for share in (0.05, 0.5, 0.95))
    return {
        "rarest kind named, times an even share": _rarest(named.kind, len(KINDS)),
        "rarest ground named, times an even share": _rarest(named.ground, len(GROUNDS)),
        "rarest ninth of the places, share": float(cells.min()),
        "spread of places left to right, in sides": float(place[:, 0].std()),
        "spread of places top to bottom, in sides": float(place[:, 1].std()),
        **{"area, 5%": low, "area, median": middle, "area, 95%": high},
    }


def _rarest(values: np.ndarray, n_values: int) -> float:
    return float(np.bincount(values, minlength=n_values).min() / len(values) * n_values)


def _by_what(by_who: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    first = next(iter(by_who.values()))
    return {what: {who: values[what] for who, values in by_who.items()} for what in first}


def _world(names: Names, n: int, seed: int) -> Tensor:
    return names.encoder.images(world.render(n, seed, n_captions=1).images).float()
