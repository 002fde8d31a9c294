"""A small network that measures objects on pictures: where they are, how much of the picture they cover, how many.

It is taught with the true outlines of the teacher's pictures, so that what a generator or an edit painted can be
measured without asking the latent: python -m clipviz.demo.generator.locator FOLDER trains it again.
"""

from __future__ import annotations

import argparse
import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from clipviz.demo.generator.scenes import SIDE, TrueScenes, paint, true_scenes
from clipviz.demo.generator.train import draw_latents
from clipviz.demo.partners import save_net
from clipviz.models.sealed_weights import open_network

WEIGHTS = Path(__file__).parent / "assets" / "locator.safetensors"
HELD_OUT_SEED = 1_000_003
LEAST_AREA = 0.004
"""Share of the picture that an object must cover to be counted."""


@dataclass(frozen=True, eq=False)
class Located:
    """What the locator saw. centroid: [image, (x, y)] in sides, of all objects together, NaN where there is none;
    area: [image], share of the picture; count: [image], 0, 1 or 2; outline: [image, rows, cols], opacity in 0..1."""

    centroid: Float[Tensor, "image 2"]
    area: Float[Tensor, " image"]
    count: Int[Tensor, " image"]
    outline: Float[Tensor, "image rows cols"]


class Locator(nn.Module):
    """Pictures [image, 3, 64, 64] in 0..1 to logits of the outline [image, 32, 32] and of the number [image, 3]."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.config = {"width": width}
        self.down1, self.down2 = _layer(3, width, 2), _layer(width, 2 * width, 2)
        self.down3 = nn.Sequential(_layer(2 * width, 3 * width, 2), _layer(3 * width, 3 * width))
        self.middle, self.fine = _layer(5 * width, 2 * width), _layer(3 * width, width)
        self.outline = nn.Conv2d(width, 1, 3, padding=1)
        self.number = nn.Sequential(_layer(1 + 2 * width, 2 * width), _layer(2 * width, 2 * width, 2))
        self.to_number = nn.Linear(4 * width, 3)

    def forward(self, images: Float[Tensor, "image 3 64 64"]) -> tuple[Tensor, Tensor]:
        half = self.down1(images - 0.5)
        quarter = self.down2(half)
        deep = self.middle(torch.cat([_up(self.down3(quarter)), quarter], 1))
        outline = self.outline(self.fine(torch.cat([_up(deep), half], 1)))
        seen = self.number(torch.cat([F.avg_pool2d(outline.sigmoid(), 2), deep], 1))
        number = self.to_number(torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1))
        return outline[:, 0], number


def _layer(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())


def _up(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


@torch.no_grad()
def locate(images: Float[Tensor, "image 3 rows cols"], batch: int = 128) -> Located:
    """Measure the objects on pictures in 0..1, of any size. Raises ValueError for anything but RGB pictures."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"expected pictures [image, 3, rows, cols] in 0..1, got {images.dtype} {list(images.shape)}"
        )
    network = _shipped()
    images = images.detach().float().cpu()
    if images.shape[-2:] != (SIDE, SIDE):
        images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    parts = [network(chunk) for chunk in images.split(batch)]
    outline = torch.cat([part[0] for part in parts]).sigmoid()
    number = torch.cat([part[1] for part in parts])
    sure = torch.where(outline > 0.25, outline, 0)  # a faint haze over the ground is no object
    line = (torch.arange(outline.shape[-1]) + 0.5) / outline.shape[-1]
    total = sure.sum((1, 2))
    centroid = torch.stack([(sure.sum(1) * line).sum(1), (sure.sum(2) * line).sum(1)], 1) / total[:, None]
    area = sure.mean((1, 2))
    count = torch.where(area < LEAST_AREA, 0, number.argmax(1))
    return Located(centroid, area, count, outline)


@functools.cache
def _shipped() -> Locator:
    return open_locator()


def open_locator(checkpoint: str | Path | None = None) -> Locator:
    """The shipped locator, or one that training wrote."""
    path = Path(checkpoint) if checkpoint is not None else WEIGHTS
    return open_network(Locator, path, "the locator's weights", "reinstall clipviz")


def seen_count(
    scenes: TrueScenes, layers: Float[np.ndarray, "image 2 rows cols"]
) -> Int[np.ndarray, " image"]:
    """How many objects the pictures show: more than half opaque, and not hidden or outside the frame."""
    return ((scenes.opacity > 0.5) & (layers.mean((2, 3)) > LEAST_AREA)).sum(1)


@dataclass(frozen=True, eq=False)
class Lesson:
    """Teacher's pictures [image, 3, 64, 64], true outlines [image, 32, 32], numbers and whether they are clear."""

    images: Tensor
    outline: Tensor
    count: Tensor
    clear: Tensor


def lesson(n: int, seed: int) -> Lesson:
    """The teacher's pictures of n random latents with their truth."""
    scenes = true_scenes(*draw_latents(n, seed))
    painted = [paint(scenes, index) for index in range(n)]
    images = torch.from_numpy(np.stack([picture for picture, _ in painted])).permute(0, 3, 1, 2) / 255
    layers = np.stack([both for _, both in painted])
    outline = F.interpolate(torch.from_numpy(layers.sum(1))[:, None], SIDE // 2, mode="area")[:, 0]
    clear = (np.abs(scenes.opacity - 0.5) > 0.25).all(1)  # half transparent objects are neither there nor not
    count = torch.from_numpy(seen_count(scenes, layers))
    return Lesson(F.interpolate(images, SIDE, mode="area"), outline, count, torch.from_numpy(clear))


def train(folder: Path, steps: int, batch_size: int = 64, seed: int = 0) -> Locator:
    """Teach a locator on the teacher's pictures, blurred and noisy to different degrees, and write its weights."""
    torch.manual_seed(seed)
    network = Locator()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        given = lesson(batch_size, 5_000_011 + step)
        outline, number = network(_worn(given.images, torch.Generator().manual_seed(step)))
        heavier = 1 + 3 * given.outline
        loss = (F.binary_cross_entropy_with_logits(outline, given.outline, reduction="none") * heavier).mean()
        loss = loss + 0.3 * F.cross_entropy(number[given.clear], given.count[given.clear])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            print(json.dumps({"step": step + 1, "of": steps, "loss": round(loss.item(), 4)}), flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    save_net(network.eval(), folder / "locator.safetensors")
    return network


def _worn(images: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures as an imperfect generator might paint them: some blurred, all with a little noise."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(len(images), 1, 1, 1, generator=generator)
    noise = (
        torch.randn(images.shape, generator=generator)
        * 0.03
        * torch.rand(len(images), 1, 1, 1, generator=generator)
    )
    return images + share * (blurred - images) + noise


def errors(n: int = 1000, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """The locator's own errors on held-out pictures of the teacher that clearly show one or two objects.

    centroid: mean distance in sides; area: median of |measured / true - 1|; count: share of wrong numbers; n.
    """
    given = lesson(n, seed)
    found = locate(given.images)
    rows = given.clear & (given.count > 0)
    line = (torch.arange(SIDE // 2) + 0.5) / (SIDE // 2)
    total = given.outline.sum((1, 2))
    x, y = ((given.outline.sum(axis) * line).sum(1) / total for axis in (1, 2))
    off = (found.centroid - torch.stack([x, y], 1))[rows].norm(dim=1)
    area = (found.area / given.outline.mean((1, 2)) - 1)[rows].abs()
    wrong = (found.count != given.count)[given.clear].float()
    return {
        **{"centroid": off.nanmean().item(), "centroid, 95%": off.nanquantile(0.95).item()},
        **{"area": area.median().item(), "count": wrong.mean().item(), "n": float(rows.sum())},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=600, help="steps of 64 pictures")
    options = parser.parse_args(arguments)
    train(options.folder, options.steps)


if __name__ == "__main__":
    main()
