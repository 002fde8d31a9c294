"""A small trainer of TopK dictionaries, which explain the tokens at a point of a model with k features each.

The method of Gao et al. 2024 ("Scaling and evaluating sparse autoencoders"): the k largest of the encoder's
    products are kept. The loss of a step is the reconstruction error plus a small auxiliary term, which trains
    features that have not been active for long to explain the rest, since they would otherwise never become
    active: loss = sum |e|^2 / sum |x - mean|^2 + AUXILIARY sum |e - e_dead|^2 / sum |e|^2,
e = x - sum_f a_f d_f - b, and e_dead the reconstruction of e by the dead features of largest products. Directions
have unit length. During training inputs are divided by their root mean square; this is undone at the end.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.data.images import open_images
from clipviz.models.checksummed import read_weights, write_weights
from clipviz.models.dictionaries.kinds import POINTS, Point
from clipviz.models.dictionaries.points import check_point, read_point
from clipviz.values.training import TrainingLog

if TYPE_CHECKING:
    from clipviz.models.opened import Opened

AUXILIARY = 1 / 32
WARM_UP = 0.02
"""The learning rate rises over this share of the steps, and falls over ten times this share at the end."""
IMAGES = 32
"""Images per forward pass."""
HELD_BYTES = 1 << 30
"""Bytes of tokens held in memory: all tokens of a small collection, or one part of a large one at a time."""
CHECKPOINT = "training.safetensors"


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run. Two runs with the same recipe on one machine give the same dictionary.

    n: features; k: active features per token; batch: tokens per step; passes: passes over the images; rate:
    Adam's learning rate, by default scaled with the number of features; dead_after: tokens after which a feature
    that was never active counts as dead; noted: steps between two entries of the log; kept: steps between two
    checkpoints.
    """

    n: int
    k: int
    batch: int = 2048
    passes: float = 20
    rate: float | None = None
    dead_after: int = 200_000
    seed: int = 0
    noted: int = 50
    kept: int = 500

    def __post_init__(self) -> None:
        for name in ("n", "k", "batch", "dead_after", "noted", "kept"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"expected {name} as a positive integer, got {value!r}")
        if self.k > self.n:
            raise ValueError(f"expected k within 1..{self.n}, the number of features, got {self.k}")
        if not self.passes > 0:
            raise ValueError(f"expected a positive number of passes over the images, got {self.passes!r}")

    @property
    def step_size(self) -> float:
        return 2e-4 * (2**14 / self.n) ** 0.5 if self.rate is None else self.rate


class Losses(NamedTuple):
    """The losses of one step. loss: the minimised quantity; explained: explained share; active: features that any
    token activates, [unit].
    """

    loss: Tensor
    explained: Tensor
    active: Tensor


def losses(
    encoder: Float[Tensor, "unit d_in"],
    encoder_bias: Float[Tensor, " unit"],
    decoder: Float[Tensor, "unit d_in"],
    bias: Float[Tensor, " d_in"],
    inputs: Float[Tensor, "token d_in"],
    k: int,
    dead: Tensor,
) -> Losses:
    """Return the losses of one step, see the module; dead: [unit], the features that count as dead."""
    products = (inputs - bias) @ encoder.T + encoder_bias
    kept = torch.relu(products).topk(k, -1)
    activations = torch.zeros_like(products).scatter(-1, kept.indices, kept.values)
    error = inputs - activations @ decoder - bias
    left = error.square().sum()
    spread = (inputs - inputs.mean(0)).square().sum()
    loss = left / spread
    n_dead = int(dead.sum())
    if n_dead:
        revived = torch.relu(products[:, dead]).topk(min(n_dead, max(k, inputs.shape[1] // 2)), -1)
        silent = torch.zeros_like(products[:, dead]).scatter(-1, revived.indices, revived.values)
        rest = error.detach()
        loss = loss + AUXILIARY * (rest - silent @ decoder[dead]).square().sum() / rest.square().sum()
    return Losses(loss, (1 - left / spread).detach(), (activations.detach() > 0).any(0))


def train(
    model: Opened,
    images: Any,
    layer: int,
    n: int,
    k: int,
    point: Point = "residual",
    path: str | Path | None = None,
    progress: Callable[[TrainingLog], None] | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Train a TopK dictionary on the tokens of some images and return its fields; see Dictionary.train."""
    recipe = Recipe(n, k, **how)
    if point not in POINTS:
        raise ValueError(f"expected a point among {', '.join(POINTS)}, got {point!r}")
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < model.n_layers:
        raise ValueError(f"expected a layer within 0..{model.n_layers - 1} (counted from 0), got {layer!r}")
    check_point(model.tower, layer, point, f"{point} of layer {layer}")
    images = getattr(images, "images", images)
    if isinstance(images, str | Path):
        images = open_images(images)
    if len(images) == 0:
        raise ValueError("expected at least one image to train on, got none")
    tokens = Tokens(model, images, layer, point, recipe)
    run = Run(tokens, recipe, None if path is None else Path(path))
    while not run.finished:
        run.step()
        if progress is not None and run.n_steps % recipe.noted == 0:
            progress(run.log())
    source = f"trained on {len(images):,} images"
    return run.fields() | {
        "layer": layer,
        "point": point,
        "source": source,
        "model": model.weights_fingerprint,
    }


class Tokens:
    """The tokens of some images at a point, in batches that are shuffled in every pass and reproducible by their
    seed.

    A pass shuffles the images, then the tokens within each part that fits in memory.
    """

    def __init__(self, model: Opened, images: Any, layer: int, point: Point, recipe: Recipe) -> None:
        self.model, self.images, self.layer, self.point, self.recipe = model, images, layer, point, recipe
        first = self._read(range(min(IMAGES, len(images))))
        self.per_image, self.d_in = first.shape[1], first.shape[2]
        held = HELD_BYTES // (first.element_size() * self.per_image * self.d_in)
        self.part = min(len(images), max(IMAGES, held))
        flat = first.flatten(0, 1).double()
        self.mean = flat.mean(0)
        self.scale = float((flat - self.mean).square().sum(-1).mean().sqrt()) / self.d_in**0.5 or 1.0
        self._kept: tuple[tuple[int, ...], Tensor] | None = None

    @property
    def n_steps(self) -> int:
        """The number of steps of the whole run."""
        return max(1, math.ceil(self.recipe.passes * self._steps_of(len(self.images))))

    def identity(self) -> str:
        """Return what a checkpoint must match: the model, the point, the number of images and the first of them."""
        numbers = self._read([0]).double().sum().item()
        said = [
            self.model.fingerprint,
            self.layer,
            self.point,
            len(self.images),
            f"{numbers:.6g}",
            repr(self.recipe),
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def batches(self, done: int) -> Iterator[Tensor]:
        """Yield batches from a step on, endlessly, divided by the scale."""
        while True:
            turn, place = divmod(done, self._steps_of(len(self.images)))
            generator = torch.Generator().manual_seed(1_000_003 * self.recipe.seed + turn)
            order = torch.randperm(len(self.images), generator=generator).tolist()
            seen = 0
            for start in range(0, len(order), self.part):
                rows = order[start : start + self.part]
                shuffled = torch.randperm(len(rows) * self.per_image, generator=generator)
                parts = shuffled.split(self.recipe.batch)
                if seen + len(parts) > place:
                    tokens = self._of(rows)
                    for chosen in parts[max(0, place - seen) :]:
                        yield tokens[chosen.to(tokens.device)] / self.scale
                        done += 1
                seen += len(parts)

    def _steps_of(self, n_images: int) -> int:
        """Return the number of steps of one pass."""
        whole, rest = divmod(n_images, self.part)
        batch = self.recipe.batch
        return whole * -(-self.part * self.per_image // batch) + -(-rest * self.per_image // batch)

    def _of(self, rows: Sequence[int]) -> Tensor:
        """Return the tokens of some images, [token, d_in]. If all images fit in memory, they are read once."""
        if self.part < len(self.images):
            return self._read(rows).flatten(0, 1)
        if self._kept is None:
            self._kept = (), self._read(range(len(self.images)))
        return self._kept[1][list(rows)].flatten(0, 1)

    def _read(self, rows: Sequence[int]) -> Float[Tensor, "image token d_in"]:
        parts = []
        for start in range(0, len(rows), IMAGES):
            chosen = list(rows[start : start + IMAGES])
            taken = (
                self.images[chosen] if isinstance(self.images, Tensor) else [self.images[i] for i in chosen]
            )
            pixels = self.model.prepare(taken)
            parts.append(read_point(self.model, pixels, self.layer, self.point)[0])
        return torch.cat(parts)


class Run:
    """One training run: weights, Adam's moments, and progress. It continues from a checkpoint if there is one."""

    def __init__(self, tokens: Tokens, recipe: Recipe, folder: Path | None) -> None:
        self.tokens, self.recipe, self.folder = tokens, recipe, folder
        device = tokens.model.device
        generator = torch.Generator().manual_seed(recipe.seed)
        directions = torch.randn(recipe.n, tokens.d_in, generator=generator)
        directions = directions / directions.norm(dim=1, keepdim=True)
        start = {
            "encoder": directions,
            "encoder_bias": torch.zeros(recipe.n),
            "decoder": directions,
            "bias": (tokens.mean / tokens.scale).float(),
        }
        self.weights = {name: value.clone().to(device).requires_grad_(True) for name, value in start.items()}
        self.optimizer = torch.optim.Adam(list(self.weights.values()), lr=recipe.step_size, eps=1e-8)
        # tokens since a feature was active
        self.silent = torch.zeros(recipe.n, dtype=torch.long, device=device)
        self.n_steps, self.n_tokens, self.total, self.seconds = 0, 0, tokens.n_steps, 0.0
        self.notes: list[tuple[int, float, float]] = []
        self._mark = tokens.identity()
        self._resume()
        self._batches = tokens.batches(self.n_steps)

    @property
    def finished(self) -> bool:
        return self.n_steps >= self.total

    def step(self) -> None:
        """Run one step; log it and save a checkpoint when due."""
        started = time.monotonic()
        inputs = next(self._batches).float()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.step_size * self._rise()
        dead = self.silent >= self.recipe.dead_after
        with torch.enable_grad():
            found = losses(**self.weights, inputs=inputs, k=self.recipe.k, dead=dead)
            self.optimizer.zero_grad()
            found.loss.backward()
        self._keep_lengths_out()
        self.optimizer.step()
        with torch.no_grad():
            decoder = self.weights["decoder"]
            decoder /= decoder.norm(dim=1, keepdim=True)
        self.silent = torch.where(found.active, 0, self.silent + len(inputs))
        self.n_steps, self.n_tokens = self.n_steps + 1, self.n_tokens + len(inputs)
        self.seconds += time.monotonic() - started
        if self.n_steps % self.recipe.noted == 0 or self.finished:
            self.notes.append((self.n_steps, float(found.explained), float(dead.double().mean())))
        if self.folder is not None and self.n_steps % self.recipe.kept == 0:
            self._keep()

    def log(self) -> TrainingLog:
        steps, explained, dead = zip(*self.notes, strict=True) if self.notes else ((), (), ())
        return TrainingLog(steps, explained, dead, self.n_tokens, self.seconds)

    def fields(self) -> dict[str, Any]:
        """Return the fields of a Dictionary, in the units of the point."""
        held = {name: value.detach().clone() for name, value in self.weights.items()}
        for name in ("encoder_bias", "bias"):
            held[name] = held[name] * self.tokens.scale
        return {**held, "activation": "topk", "k": self.recipe.k, "log": self.log()}

    def _rise(self) -> float:
        """Return the factor of the learning rate: rising in the first steps, falling in the last."""
        up = (self.n_steps + 1) / max(1.0, WARM_UP * self.total)
        down = (self.total - self.n_steps) / max(1.0, 10 * WARM_UP * self.total)
        return min(1.0, up, down)

    def _keep_lengths_out(self) -> None:
        """Remove the component of the directions' gradients that would only change their lengths."""
        decoder = self.weights["decoder"]
        assert decoder.grad is not None
        with torch.no_grad():
            along = (decoder.grad * decoder).sum(1, keepdim=True)
            decoder.grad -= along * decoder

    def _keep(self) -> None:
        assert self.folder is not None
        moments = {
            f"{name} {key}": state[key]
            for name, weight in self.weights.items()
            for state in (self.optimizer.state[weight],)
            for key in ("exp_avg", "exp_avg_sq", "step")
        }
        held = {name: value.detach() for name, value in self.weights.items()}
        run = {"steps": self.n_steps, "tokens": self.n_tokens, "seconds": self.seconds, "notes": self.notes}
        told = {"mark": self._mark, "run": json.dumps(run)}
        write_weights(self.folder / CHECKPOINT, held | moments | {"silent": self.silent}, told)

    def _resume(self) -> None:
        if self.folder is None or not (self.folder / CHECKPOINT).exists():
            return
        path = self.folder / CHECKPOINT
        held, told = read_weights(path, "a training run", f"delete {path} to start again")
        if told.get("mark") != self._mark:
            raise ValueError(
                f"expected a training run of these images, model and settings at {path}, got a "
                "different run; delete it to start again, or train into another folder"
            )
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(held[name])
                moments = {key: held[f"{name} {key}"] for key in ("exp_avg", "exp_avg_sq", "step")}
                self.optimizer.state[weight] = {
                    key: value.to(weight.device) if key != "step" else value for key, value in moments.items()
                }
        self.silent = held["silent"].to(self.silent.device)
        run = json.loads(told["run"])
        self.n_steps, self.n_tokens, self.seconds = run["steps"], run["tokens"], run["seconds"]
        self.notes = [tuple(note) for note in run["notes"]]
