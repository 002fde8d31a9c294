"""Train the embedded partners on the demo world: `python -m tools.demo.partners cnn|vit`.

Each runs for a set number of minutes on the CPU (or `--device cuda`) and writes one safetensors file. Seeds fix the
scenes and the order; the number of steps depends on the machine.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipviz.demo.partners import ASSETS, load_net, save_net
from clipviz.demo.partners.nets import MaskedViT, SmallResNet

QUESTIONS = ("background", "colour", "category", "style", "kind", "treatment")
BATCH = {"cnn": 64, "vit": 64}
PEAK_RATE = {"cnn": 2e-3, "vit": 1e-3}
LONGEST_STEP = 10.0
"""Seconds: a longer step is a process that was paused, and a pause is not training time."""
Scenes = tuple[np.ndarray, dict[str, np.ndarray]]


def world_scenes(n_images: int, seed: int) -> Scenes:
    """Return images [image, 96, 96, 3] uint8 and an integer answer [image] a question, -1 where it has none."""
    from clipviz.demo import world

    scenes = world.render(n_images, seed, n_captions=1)
    return scenes.images, {name: scenes.attribute(name).astype(np.int64) for name in QUESTIONS}


def saved_scenes(path: str | Path) -> Scenes:
    """Return scenes from an .npz with `images` and one integer array a question."""
    with np.load(path, allow_pickle=False) as file:
        return file["images"], {name: file[name].astype(np.int64) for name in QUESTIONS}


def batches(scenes: Scenes, size: int, seed: int, device: str) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Endless shuffled batches: images in 0..1, mirrored at random, and their answers."""
    images, answers = scenes
    draw = np.random.default_rng(seed)
    while True:
        order = draw.permutation(len(images))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            batch = torch.from_numpy(images[rows]).to(device).permute(0, 3, 1, 2).float() / 255
            mirrored = torch.from_numpy(draw.random(size) < 0.5).to(device)[:, None, None, None]
            batch = torch.where(mirrored, batch.flip(3), batch)
            yield batch, {name: torch.from_numpy(value[rows]).to(device) for name, value in answers.items()}


def _cnn(scenes: Scenes) -> tuple[nn.Module, Callable[..., Tensor]]:
    questions = {name: int(value.max()) + 1 for name, value in scenes[1].items() if value.max() > 0}
    net = SmallResNet([32, 64, 128, 192], questions)

    def loss(images: Tensor, answers: dict[str, Tensor], share: float) -> Tensor:
        logits = net((images - 0.5) / 0.25)
        parts = [F.cross_entropy(logits[name], answers[name], ignore_index=-1) for name in questions]
        return torch.stack(parts).nan_to_num().mean()

    return net, loss


def _vit(scenes: Scenes) -> tuple[nn.Module, Callable[..., Tensor]]:
    net = MaskedViT(width=192, depth=5, heads=6)
    draw = torch.Generator().manual_seed(1)
    return net, lambda images, answers, share: net.loss((images - 0.5) / 0.25, draw)


def train(
    name: str,
    scenes: Scenes,
    minutes: float,
    seed: int = 0,
    device: str = "cpu",
    start: str | None = None,
    keep: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Train one partner with AdamW for `minutes`; the rate warms up for 3% of the time and falls as a cosine.

    start: weights to go on from, at half the rate; default from scratch. keep: called with the network every 200
    steps, to save it on the way. Products run in bfloat16.
    """
    torch.manual_seed(seed)
    net, loss = {"cnn": _cnn, "vit": _vit}[name](scenes)
    peak = PEAK_RATE[name]
    if start is not None:
        there, own = load_net(name, start).state_dict(), net.state_dict()
        fitting = {key: value for key, value in there.items() if own[key].shape == value.shape}
        net.load_state_dict(fitting, strict=False)  # a head of another question starts from random weights
        peak /= 2
    net.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # 1.4 x faster on a CPU
    optimiser = torch.optim.AdamW(net.parameters(), lr=peak, weight_decay=0.05)
    seconds, before, step, running = 0.0, time.monotonic(), 0, math.nan
    for images, answers in batches(scenes, BATCH[name], seed, device):
        now = time.monotonic()
        seconds, before = seconds + min(now - before, LONGEST_STEP), now
        share = seconds / (60 * minutes)
        if share >= 1:
            break
        rate = peak * min(share / 0.03 + 0.01, 0.5 + 0.5 * math.cos(math.pi * share))
        optimiser.param_groups[0]["lr"] = rate
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            error = loss(images, answers, share)
        optimiser.zero_grad()
        error.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step, value = step + 1, float(error.detach())
        running = value if math.isnan(running) else 0.98 * running + 0.02 * value
        if step % 20 == 0:
            print(f"{name} step {step} ({share:.0%}) loss {running:.4f}", flush=True)
        if keep is not None and step % 200 == 0:
            keep(net)
    return net.eval()


def main(arguments: list[str] | None = None) -> None:
    """Command line of the trainer."""
    parser = argparse.ArgumentParser(description="Train an embedded Rosetta partner on the demo world.")
    parser.add_argument("name", choices=["cnn", "vit"])
    parser.add_argument("--minutes", type=float, default=10.0, help="training time")
    parser.add_argument("--images", type=int, default=24_000, help="scenes to render")
    parser.add_argument("--scenes", help="an .npz of scenes to use instead of rendering")
    parser.add_argument("--out", help="file to write; default the embedded one")
    parser.add_argument("--start", help="weights to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args(arguments)
    scenes = saved_scenes(chosen.scenes) if chosen.scenes else world_scenes(chosen.images, chosen.seed)
    out = Path(chosen.out) if chosen.out else ASSETS / f"{chosen.name}.safetensors"
    net = train(
        chosen.name,
        scenes,
        chosen.minutes,
        chosen.seed,
        chosen.device,
        chosen.start,
        keep=lambda net: save_net(net, out.with_stem(f"{out.stem}-unfinished")),
    )
    save_net(net.cpu(), out, eight_bits=True)
    out.with_stem(f"{out.stem}-unfinished").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
