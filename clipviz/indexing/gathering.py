"""Collect batches into one shard of an index: one trace per batch, stored compactly, with statistics in float64."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipviz.data.store.layout import BLOBS, MARKS, N_MARKS, Shard
from clipviz.indexing.reading import Batch
from clipviz.indexing.second import batch_statistics, fold_neurons
from clipviz.lens.covariance import Moments, code_moments, merge_means
from clipviz.lens.trace import Trace
from clipviz.models.towers.anatomy import unmixed

HALF_MAX = 65_504.0
_CHECKED = 2  # images per shard for which summed effects are compared with the model's output
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Gathering:
    """The rows and statistics of one shard, added batch by batch in the order of the images."""

    def __init__(
        self, model: Any, layers: tuple[int, ...], settings: dict[str, Any], marks: bool = True
    ) -> None:
        self.model = model
        self.marks = marks  # an index of an earlier version has no marks, so appended images have none either
        self.layers = list(layers)
        self.precision = settings["precision"]
        self.neurons: list[int] = settings["neurons"]
        self.n_top: int = settings["neuron_top"]
        self.columns: dict[str, list[np.ndarray]] = {}
        self.facts: list[dict[str, bytes]] = []
        self.skipped: list[tuple[str, str]] = []
        self.statistics: dict[str, np.ndarray] | None = None
        self.sum_check: float | None = None

    def add(self, batch: Batch) -> None:
        self.skipped += batch.skipped
        if batch.pixels is None:
            return
        pixels = batch.pixels.to(self.model.device, non_blocking=True)
        with self._mixed():
            trace = self.model.trace(pixels, tokens=False)
        facts = batch.facts
        usable = _usable(trace, self.layers)
        if not bool(usable.all()):
            names = [fact["name"].decode("utf-8", "surrogateescape") for fact in facts]
            lost = [name for name, good in zip(names, usable.tolist(), strict=True) if not good]
            self.skipped += [
                (name, "the model returned numbers that are infinite or too large") for name in lost
            ]
            facts = [fact for fact, good in zip(facts, usable.tolist(), strict=True) if good]
            trace, pixels = trace[usable], pixels[usable]
        if facts:
            self._keep(trace, pixels, facts)

    def shard(self) -> Shard:
        """Return the collected shard; it has no rows if no image was usable."""
        weights, n_layers = self.model.weights, len(self.layers)
        empty = {
            "codes.npy": np.empty((0, n_layers, weights.n_heads, weights.d_code), np.float16),
            "embedding.npy": np.empty((0, weights.d_embed), np.float16),
            "mean.npy": np.empty(0, np.float32),
            "std.npy": np.empty(0, np.float32),
        }
        arrays = {f: np.concatenate(self.columns[f]) if self.columns else empty[f] for f in empty}
        if self.marks:
            marks = b"".join(fact["marks"] for fact in self.facts)
            arrays[MARKS] = np.frombuffer(marks, "<u8").reshape(-1, N_MARKS)
        return Shard(
            arrays=arrays,
            blobs={name: [fact[name] for fact in self.facts] for name in BLOBS},
            statistics=self.statistics or {},
            skipped=self.skipped,
            sum_check=self.sum_check or 0.0,
        )

    def _mixed(self) -> AbstractContextManager[Any]:
        if self.precision not in _DTYPES:
            return unmixed(self.model.device)  # independent of the caller's autocast
        return torch.autocast(self.model.device.type, _DTYPES[self.precision])

    def _keep(self, trace: Trace, pixels: Tensor, facts: list[dict[str, bytes]]) -> None:
        if self.sum_check is None:
            self.sum_check = trace[:_CHECKED].sum_check()
        part = statistics(trace, self.layers)
        if self.neurons:
            with self._mixed():
                seconds = self.model.second_orders(pixels, self.neurons)
            part |= batch_statistics(seconds, self.n_top)
        self.statistics = fold(self.statistics, part, len(self.facts))
        self.facts += facts
        columns = {
            "codes.npy": trace.codes[:, self.layers].half(),
            "embedding.npy": trace.embedding.half(),
            "mean.npy": trace.mean.float(),
            "std.npy": trace.std.float(),
        }
        for file, column in columns.items():
            self.columns.setdefault(file, []).append(column.cpu().numpy())


def statistics(trace: Trace, layers: list[int]) -> dict[str, np.ndarray]:
    """Return the float64 statistics of one batch, from its unrounded codes."""
    found = code_moments(trace.to_codes(layers))
    means = {"mlp_mean": trace.mlp_effects(), "embedding_mean": trace.embedding}
    return {
        "count": np.array(found.count),
        "code_mean": found.mean.cpu().numpy(),
        "code_scatter": found.scatter.cpu().numpy(),
        **{name: tensor.cpu().double().mean(0).numpy() for name, tensor in means.items()},
    }


def fold(
    total: dict[str, np.ndarray] | None, part: dict[str, np.ndarray], rows: int
) -> dict[str, np.ndarray]:
    """Return the merged statistics of `total` and `part`, whose images come after the first `rows`."""
    if not part:
        return total or {}
    if not total:
        return part
    a, b = (
        Moments(int(s["count"]), torch.from_numpy(s["code_mean"]), torch.from_numpy(s["code_scatter"]))
        for s in (total, part)
    )
    both = a + b
    means = {
        name: merge_means(a.count, torch.from_numpy(total[name]), b.count, torch.from_numpy(part[name]))
        for name in ("mlp_mean", "embedding_mean")
    }
    return {
        "count": np.array(both.count),
        "code_mean": both.mean.numpy(),
        "code_scatter": both.scatter.numpy(),
        **{name: mean.numpy() for name, mean in means.items()},
        **fold_neurons(total, part, rows),
    }


def _usable(trace: Trace, layers: list[int]) -> Tensor:
    """Return which images have numbers that float16 can hold."""
    # NaN is propagated
    largest = torch.maximum(trace.codes[:, layers].abs().amax((1, 2, 3)), trace.embedding.abs().amax(1))
    finite = torch.isfinite(trace.mean + trace.std) & torch.isfinite(trace.mlp_writes).all(2).all(1)
    return (largest <= HALF_MAX) & finite
