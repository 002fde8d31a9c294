"""Rosetta-guided inversion and edits with the embedded generator (thesis 4.4: Table 4.1, Figures 4.3, 4.4, 4.6-4.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from clipviz.analysis.matching import match, unit_pairs
from clipviz.demo.partners.reading import scene_generator
from clipviz.figures import chapter4 as figures
from clipviz.lens import edits
from clipviz.lens import invert as lens
from clipviz.lens.invert import UnitPairs
from clipviz.models.clip import ClipModel
from clipviz.models.generator import ModuleGenerator
from clipviz.models.zoo import Partner, clip_partner
from clipviz.reproduce.report import Report, Result, Steps

N_LATENTS, N_TARGETS, N_STEPS, N_PAIRS = 256, 12, 80, 150
ALPHA, BETA, RATE = 1e-3, 0.02, 0.1
ALPHA_ALONE = 0.1
"""Where no pixels are seen: keeps the latent at the size that the prior gives it."""


def inversion_section(report: Report, mining: Any, steps: Steps) -> None:
    """Table 4.1 and Figures 4.3, 4.4, 4.6-4.8.

    mining: model, partners and heldout (uint8 [image, rows, cols, 3]) of the chapter. Targets are scenes that were
    neither mined nor used to train the generator.
    """
    generator = scene_generator()
    n_targets = min(N_TARGETS, len(mining.heldout))
    n_steps = N_STEPS if len(mining.images) >= N_LATENTS else 5
    latents = generator.sample(min(N_LATENTS, len(mining.images)), seed=7)
    readers = {"clip": clip_partner(mining.model, "clip")}
    readers |= {partner.name: partner for partner in mining.partners if "generative" not in partner.loss}
    pairs = {name: _pairs(generator, name, reader, latents) for name, reader in readers.items()}
    targets = _tensor(mining.heldout[:n_targets])
    found = steps.get(
        "inversion", lambda: _inversions(generator, readers, pairs, targets, mining.model, n_steps)
    )
    _report_inversions(report, found, targets)
    edits = steps.get("edits", lambda: _edits(generator, pairs, latents, n_steps))
    _report_edits(report, edits)


def psnr(images: Float[Tensor, "image 3 rows cols"], targets: Tensor) -> Float[Tensor, " image"]:
    """Peak signal-to-noise ratio, dB, of images in 0..1."""
    return -10 * ((images - targets) ** 2).mean((1, 2, 3)).clamp_min(1e-12).log10()


def ssim(
    images: Float[Tensor, "image 3 rows cols"], targets: Tensor, window: int = 7
) -> Float[Tensor, " image"]:
    """Structural similarity (Wang et al. 2004) with a uniform window and unbiased variances, of images in 0..1."""
    n = window**2
    mean_a, mean_b = (F.avg_pool2d(x, window, 1) for x in (images, targets))
    scale = n / (n - 1)
    var_a = scale * (F.avg_pool2d(images**2, window, 1) - mean_a**2)
    var_b = scale * (F.avg_pool2d(targets**2, window, 1) - mean_b**2)
    cov = scale * (F.avg_pool2d(images * targets, window, 1) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    index = (
        (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    return index.mean((1, 2, 3))


def _pairs(generator: ModuleGenerator, name: str, reader: Partner, latents: Tensor) -> list[UnitPairs]:
    """The strongest best buddies of the generator and a reader, the reader's layers named "reader/layer"."""
    matches = match(generator, reader, latents)
    found = unit_pairs(generator, reader, latents, matches, matches.pairs[:N_PAIRS])
    return [replace(group, layer_b=f"{name}/{group.layer_b}") for group in found]


def _read(readers: Mapping[str, Partner], images: Tensor) -> dict[str, Tensor]:
    return {
        f"{name}/{layer}": maps
        for name, reader in readers.items()
        for layer, maps in reader.maps(images).items()
    }


def _inversions(
    generator: ModuleGenerator,
    readers: Mapping[str, Partner],
    pairs: Mapping[str, list[UnitPairs]],
    targets: Tensor,
    model: ClipModel,
    n_steps: int,
) -> Result:
    """Every way of inverting the targets, from the prior's mean: images and the three measures of each."""
    maps, start = _read(readers, targets), torch.zeros(len(targets), generator.latent)
    every = [group for groups in pairs.values() for group in groups]
    ways: dict[str, tuple[Tensor | None, Sequence[UnitPairs]]] = {"pixels alone": (targets, ())}
    ways |= {f"+ {name} pairs": (targets, groups) for name, groups in pairs.items()}
    ways |= {"+ all pairs": (targets, every), "pairs alone": (None, every)}
    result: Result = {"ways": list(ways)}
    goal = _embedding(model, targets)
    for place, (images, groups) in enumerate(ways.values()):
        found = lens.invert(
            generator.generate,
            start,
            target_images=images,
            target_maps=maps if groups else None,
            pairs=groups,
            alpha=ALPHA if images is not None else ALPHA_ALONE,
            beta=BETA if images is not None else 1.0,
            schedule=lens.Schedule(n_steps, RATE),
        ).images.clamp(0, 1)
        cosine = (_embedding(model, found) * goal).sum(1)
        scores = torch.stack([psnr(found, targets), ssim(found, targets), cosine])
        result |= {f"images{place}": _bytes(found), f"scores{place}": scores.numpy()}
    return result


def _report_inversions(report: Report, found: Result, targets: Tensor) -> None:
    report.section(
        "Inversion guided by Rosetta neurons (Table 4.1, Figures 4.3, 4.6)",
        f"{len(targets)} scenes that no model was trained on are inverted through the embedded generator, a small "
        f"VAE, from the mean of its prior: squared error of pixels, plus alpha = {ALPHA} times the mean square of the "
        f"latent, plus beta = {BETA} times the squared difference of normalised maps (a bounded form of Eq. 4.6) over "
        f"at most {N_PAIRS} pairs per model (Eq. 4.7). The thesis "
        "measures LPIPS on StyleGAN-XL; here the third column is the cosine of CLIP embeddings. The last row sees no "
        f"pixels (Eq. 4.5), with alpha = {ALPHA_ALONE:g}.",
    )
    scores = [found[f"scores{place}"] for place in range(len(found["ways"]))]
    rows = [
        [way, *(float(part.mean()) for part in own)] for way, own in zip(found["ways"], scores, strict=True)
    ]
    report.table(["", "PSNR, dB", "SSIM", "CLIP cosine"], rows)
    gains = scores[-2][1] - scores[0][1]
    report.text(
        f"All pairs against pixels alone: SSIM is higher on {int((gains > 0).sum())} of {len(gains)} scenes "
        f"(mean difference {float(gains.mean()):+.3f})."
    )
    shown = range(min(4, len(targets)))
    columns = [0, len(found["ways"]) - 2, len(found["ways"]) - 1]
    pictures = [
        [
            (_bytes(targets[i : i + 1])[0], ""),
            *((found[f"images{c}"][i], f"SSIM {scores[c][1][i]:.2f}") for c in columns),
        ]
        for i in shown
    ]
    heads = ["target", *(found["ways"][c] for c in columns)]
    figure = figures.image_rows(pictures, heads, width=4.6)
    report.figure("inversion", figure, "Figures 4.3, 4.6: inversions with and without Rosetta guidance")


def _edits(
    generator: ModuleGenerator, pairs: Mapping[str, list[UnitPairs]], latents: Tensor, n_steps: int
) -> Result:
    """Edits of generated images: all Rosetta maps zoomed, moved and doubled."""
    groups, start = next(iter(pairs.values())), latents[:4]
    changes = {
        "zoomed in": edits.zoomed,
        "moved right": lambda maps: edits.shifted(maps, right=0.25),
        "moved up": lambda maps: edits.shifted(maps, down=-0.25),
        "copied": edits.copied,
    }
    result: Result = {"changes": list(changes), "source": _bytes(generator.images(start))}
    for place, change in enumerate(changes.values()):
        schedule = lens.Schedule(n_steps, RATE)
        edited = edits.edit(generator.generate, start, groups, change, alpha=0.002, schedule=schedule)
        result |= {
            f"images{place}": _bytes(edited.images),
            f"similar{place}": np.array([float(edited.objectives[0]), float(edited.objectives[-1])]),
        }
    return result


def _report_edits(report: Report, found: Result) -> None:
    report.section(
        "Editing (Figure 4.7)",
        "Rosetta maps of a generated image are changed and its latent is searched again; the generator stays as it is.",
    )
    rows = [
        [name, float(found[f"similar{place}"][0]), float(found[f"similar{place}"][1])]
        for place, name in enumerate(found["changes"])
    ]
    report.table(["edit", "distance of the maps before", "after"], rows)
    pictures = [
        [
            (found["source"][i], ""),
            *((found[f"images{place}"][i], "") for place in range(len(found["changes"]))),
        ]
        for i in range(len(found["source"]))
    ]
    figure = figures.image_rows(pictures, ["generated", *found["changes"]], width=5.2)
    report.figure("edits", figure, "Figure 4.7: the same latent after its Rosetta maps were changed")


@torch.no_grad()
def _embedding(model: ClipModel, images: Tensor) -> Tensor:
    pixels = clip_partner(model).preprocess(images).to(model.device)
    return F.normalize(model.visual(pixels).float(), dim=-1).cpu()


def _tensor(images: Any) -> Tensor:
    return torch.from_numpy(np.asarray(images)).permute(0, 3, 1, 2).float() / 255


def _bytes(images: Tensor) -> np.ndarray:
    return (images.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
