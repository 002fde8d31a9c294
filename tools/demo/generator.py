"""Train the embedded generator: python -m tools.demo.generator FOLDER.

First the reader alone learns the factors of latents, then the whole network learns the teacher's pictures. A run that
is stopped, also by kill -9, goes on from its last checkpoint and ends as if it had never stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from clipviz.demo.generator.network import BOX, LayoutGenerator
from clipviz.demo.generator.scenes import (
    GROUNDS,
    KINDS,
    SIDE,
    TrueScenes,
    centred_sprite,
    ground_tile,
    true_scenes,
)
from clipviz.demo.generator.teacher import Batch, draw_latents, render
from clipviz.demo.partners import load_net, save_net
from clipviz.files import replacing

WATCHED_SEED = 1_000_001
"""Latents of the sample sheets; training draws from other seeds."""


def reading_loss(code: dict[str, Tensor], scenes: TrueScenes) -> Tensor:
    """How far the reader's codes are from the true factors."""

    def true(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).float().reshape(len(scenes), -1)

    ground = torch.from_numpy(scenes.ground)
    near = F.smooth_l1_loss(code["centre"], true(scenes.centre), beta=0.02)
    # where nothing is shown twice, the second place matters only a little, and likewise the paint's colour
    painted = true(scenes.painted)
    return (
        10 * near
        + 10 * F.smooth_l1_loss(code["log_size"], true(scenes.size).log(), beta=0.02)
        + 10 * F.smooth_l1_loss(code["number"], true(scenes.number), beta=0.02)
        + F.binary_cross_entropy_with_logits(code["painted"], painted)
        + F.cross_entropy(code["ground"], ground)
        + 3 * F.smooth_l1_loss(code["rgb"], true(scenes.rgb), beta=0.05)
        + 3 * F.smooth_l1_loss(code["tops"], true(scenes.ground_rgb), beta=0.05)
        + 3 * F.smooth_l1_loss(code["light"], true(scenes.light), beta=0.05)
    )


def features(net: Any, images: Tensor) -> list[Tensor]:
    """Return the embedded CNN's maps of pictures, first stages."""
    maps = net.stem((F.interpolate(images, 96, mode="bilinear", align_corners=False) - 0.5) / 0.25)
    found = [maps]
    for stage in net.stages[:3]:
        maps = stage(maps)
        found.append(maps)
    return found


@torch.no_grad()
def start_canvases(net: LayoutGenerator) -> None:
    """Let the canvases of kinds and grounds start from the world's own sprites and tiles rather than from noise.

    The first four channels are red, green, blue and, for kinds, brightness; for grounds, height in the picture.
    """
    side = net.canvas.shape[-1]
    for label in range(len(KINDS)):
        sprite = torch.from_numpy(centred_sprite(label, round(side * 8 / BOX), 8 * side))
        colours, alpha = F.interpolate(sprite.permute(2, 0, 1)[None], side, mode="area")[0].split([3, 1])
        colours = colours / 255 / alpha.clamp_min(0.05)
        net.canvas[label, :3] = 2 * (colours - 0.5) * (alpha > 0.05)
        net.canvas[label, 3] = net.canvas[label, :3].mean(0)
        net.canvas_alpha[label] = torch.logit(alpha, 0.01)
    ramp = torch.linspace(-1, 1, SIDE)[:, None]
    for index, name in enumerate(GROUNDS):
        if name in ("plain", "gradient"):
            net.grounds[index] = 0
        net.grounds[index, 3] = ramp
        if name not in ("plain", "gradient"):
            tile = torch.from_numpy(ground_tile(name)).permute(2, 0, 1)[None] / 255
            net.grounds[index, :3] = 2 * (F.interpolate(tile, SIDE, mode="area")[0] - 0.5)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=80_000, help="teacher pictures to learn from, in all")
    parser.add_argument(
        "--reader-steps", type=int, default=5000, help="steps of the reader alone, 512 latents each"
    )
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--feature-weight", type=float, default=0.5)
    parser.add_argument(
        "--feature-every", type=int, default=4, help="steps between two looks at the CNN's features"
    )
    parser.add_argument("--init", type=Path, help="weights to start from (safetensors)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--checkpoint-steps", type=int, default=200)
    parser.add_argument("--sheet-steps", type=int, default=500, help="steps between two sheets of samples")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    trainer = Trainer(options)
    trainer.resume()
    trainer.run()


class Trainer:
    """One run: the network, a running mean of its weights, the optimisers and the files of a folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        options.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        self.net = LayoutGenerator()
        start_canvases(self.net)
        if options.init:
            from safetensors.torch import load_file

            self.net.load_state_dict({key: value.float() for key, value in load_file(options.init).items()})
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean = torch.optim.swa_utils.AveragedModel(self.net, multi_avg_fn=None, avg_fn=_towards)
        self.judge = load_net("cnn")
        self.judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(_groups(self.net), lr=options.learning_rate, betas=(0.9, 0.99))
        self.reading = torch.optim.Adam(self.net.reader.parameters(), lr=2e-3)
        self.read = self.step = 0
        self.averages: dict[str, float] = {}

    @property
    def checkpoint(self) -> Path:
        return self.options.folder / "checkpoint.pt"

    @property
    def steps(self) -> int:
        return self.options.pictures // self.options.batch_size

    def resume(self) -> None:
        """Continue from the folder's checkpoint if there is one."""
        if not self.checkpoint.exists():
            return
        stored = torch.load(self.checkpoint, weights_only=True)
        for name in ("net", "mean", "optimizer", "reading"):
            getattr(self, name).load_state_dict(stored[name])
        self.read, self.step, self.averages = stored["read"], stored["step"], stored["averages"]
        print(f"resumed at step {self.step}", flush=True)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        parts = {name: getattr(self, name).state_dict() for name in ("net", "mean", "optimizer", "reading")}
        counters = {"read": self.read, "step": self.step, "averages": self.averages}
        with replacing(self.checkpoint) as stream:
            torch.save({**parts, **counters}, stream)

    def run(self) -> None:
        options, started, first = self.options, time.monotonic(), self.step
        threads = options.threads or torch.get_num_threads()
        torch.set_num_threads(1)  # the reader's steps are too small to share
        while self.read < options.reader_steps:
            self.read_step()
        torch.set_num_threads(threads)
        for batch in self.batches():
            self.train_step(batch)
            if self.step % 20 == 0:
                rate = (self.step - first) * options.batch_size / (time.monotonic() - started)
                self.report(rate)
            if self.step % options.checkpoint_steps == 0:
                self.save()
            if self.step % options.sheet_steps == 0:
                save_net(self.mean.module, options.folder / "generator.safetensors")
                self.sheet(options.folder / f"samples-{self.step:06d}.png")
        self.save()
        save_net(self.mean.module, options.folder / "generator.safetensors")

    def batches(self) -> Iterator[Batch]:
        """Yield the batches from the current step on, drawn one ahead by a thread."""
        options = self.options

        def at(step: int) -> Batch:
            return render(*draw_latents(options.batch_size, options.seed * 10_000_019 + 2_000_003 + step))

        with ThreadPoolExecutor(1) as pool:
            ahead = [pool.submit(at, step) for step in range(self.step, min(self.step + 2, self.steps))]
            while ahead:
                yield ahead.pop(0).result()
                if self.step + len(ahead) < self.steps:
                    ahead.append(pool.submit(at, self.step + len(ahead)))

    def read_step(self) -> None:
        """One step of the reader alone."""
        for group in self.reading.param_groups:
            group["lr"] = 3e-3 * _fading(self.read, self.options.reader_steps) + 2e-5
        z, label = draw_latents(512, -1 - self.read - self.options.seed * 1_000_003)
        loss = reading_loss(self.net.reader(z), true_scenes(z, label))
        self.reading.zero_grad()
        loss.backward()
        self.reading.step()
        self.read += 1
        if self.read % 500 == 0:
            print(json.dumps({"reader": self.read, "loss": round(loss.item(), 4)}), flush=True)

    def train_step(self, batch: Batch) -> None:
        """One step of the whole network on one batch."""
        options = self.options
        warm = min(1.0, (self.step + 1) / 100)
        for group in self.optimizer.param_groups:
            group["lr"] = (
                options.learning_rate * group["share"] * warm * (0.01 + _fading(self.step, self.steps))
            )
        code = self.net.reader(batch.z)
        with self.half():
            images, alpha = (part.float() for part in self.net.paint(code, batch.label))
        l1 = ((images - batch.images).abs() * (1 + 5 * batch.alpha)).mean()
        shape = F.binary_cross_entropy(alpha.clamp(1e-4, 1 - 1e-4), batch.alpha.clamp(0, 1))
        reading = reading_loss(code, true_scenes(batch.z, batch.label))
        loss = 8 * l1 + 2 * shape + 0.5 * reading
        measured = {"l1": l1.item(), "shape": shape.item(), "reading": reading.item()}
        if self.step % options.feature_every == 0 and options.feature_weight:
            differ = self.feature_loss(images, batch.images)
            loss = loss + options.feature_weight * differ
            measured["features"] = differ.item()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.mean.update_parameters(self.net)
        self.step += 1
        for name, value in measured.items():
            self.averages[name] = 0.97 * self.averages.get(name, value) + 0.03 * value

    def half(self) -> torch.autocast:
        """Convolutions in bfloat16, which takes less than half of the time."""
        return torch.autocast("cpu", torch.bfloat16)

    def feature_loss(self, images: Tensor, wanted: Tensor) -> Tensor:
        """Relative L1 distance in the embedded CNN's maps, summed over its stages."""
        with self.half():
            with torch.no_grad():
                there = features(self.judge, wanted)
            pairs = zip(features(self.judge, images), there, strict=True)
            terms = [(a.float() - b.float()).abs().mean() / (b.float().abs().mean() + 1e-6) for a, b in pairs]
        return torch.stack(terms).sum()

    def report(self, rate: float) -> None:
        entry = {"step": self.step, "of": self.steps, "pictures": self.step * self.options.batch_size}
        line = json.dumps(
            {**entry, "rate": round(rate, 1), **{k: round(v, 4) for k, v in self.averages.items()}}
        )
        print(line, flush=True)

    @torch.no_grad()
    def sheet(self, path: Path) -> None:
        """Samples of the averaged network over the teacher's pictures of the same latents."""
        batch = render(*draw_latents(36, WATCHED_SEED))
        images = self.mean.module(batch.z, batch.label)
        rows = torch.cat(
            [torch.cat([images[i : i + 12], batch.images[i : i + 12]]) for i in range(0, 36, 12)]
        )
        pixels = (rows.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()
        sheet = np.concatenate(
            [np.concatenate(list(pixels[i : i + 12]), 1) for i in range(0, len(pixels), 12)]
        )
        Image.fromarray(sheet).resize(
            (sheet.shape[1] * 2, sheet.shape[0] * 2), Image.Resampling.NEAREST
        ).save(path)


def _groups(net: LayoutGenerator) -> list[dict[str, Any]]:
    """Parameters with their share of the learning rate: a canvas is seen seldom, the reader has learnt already."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        share = (
            5.0
            if name in ("canvas", "canvas_alpha", "grounds")
            else 0.1
            if name.startswith("reader")
            else 1.0
        )
        groups.setdefault(share, []).append(parameter)
    return [{"params": parameters, "share": share} for share, parameters in groups.items()]


def _towards(mean: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
    """Exponential running mean that forgets the start quickly."""
    return mean + (value - mean) * max(0.01, 1 / (1 + float(count)))


def _fading(step: int, steps: int) -> float:
    """1 until half of the run, then a cosine down to 0."""
    share = min(1.0, step / max(1, steps))
    return 1.0 if share < 0.5 else 0.5 + 0.5 * math.cos(math.pi * (2 * share - 1))


if __name__ == "__main__":
    main()
