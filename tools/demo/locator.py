"""Train the network that measures the generator's pictures: python -m tools.demo.locator FOLDER."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from clipviz.demo.generator.locator import LEAST_AREA, Locator, locate
from clipviz.demo.generator.scenes import SIDE, TrueScenes, paint, true_scenes
from clipviz.demo.generator.teacher import draw_latents
from clipviz.demo.partners import save_net

HELD_OUT_SEED = 1_000_003


def seen_count(
    scenes: TrueScenes, layers: Float[np.ndarray, "image 2 rows cols"]
) -> Int[np.ndarray, " image"]:
    """Return how many objects the pictures show: more than half opaque, and not hidden or outside the frame."""
    return ((scenes.opacity > 0.5) & (layers.mean((2, 3)) > LEAST_AREA)).sum(1)


@dataclass(frozen=True, eq=False)
class Lesson:
    """Teacher's pictures [image, 3, 64, 64], true outlines [image, 32, 32], numbers and whether they are clear."""

    images: Tensor
    outline: Tensor
    count: Tensor
    clear: Tensor


def lesson(n: int, seed: int) -> Lesson:
    """Return the teacher's pictures of n random latents with their truth."""
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
    """Return the pictures as an imperfect generator might paint them: some blurred, all with a little noise."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(len(images), 1, 1, 1, generator=generator)
    noise = (
        torch.randn(images.shape, generator=generator)
        * 0.03
        * torch.rand(len(images), 1, 1, 1, generator=generator)
    )
    return images + share * (blurred - images) + noise


def errors(n: int = 1000, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Return the locator's own errors on held-out pictures of the teacher that clearly show one or two objects.

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
