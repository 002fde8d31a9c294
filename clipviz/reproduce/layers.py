"""Second-order statistics and mean-ablations of whole layers over a collection, as steps that can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from clipviz.lens.cues import activation_thresholds
from clipviz.lens.neuron_stats import (
    NeuronStats,
    RankOne,
    ablated,
    first_component,
    neuron_stats,
    rank_one,
    rebuilt,
)
from clipviz.models.clip import ClipModel
from clipviz.models.interventions import indirect_effects, intervened_embeddings, mean_activations
from clipviz.reproduce.report import Steps

BATCH = 32
PERCENTILE = 98.0  # of the norms over the reference images: "large" effects are above it
LARGEST = 1 << 30  # bytes of one layer's covariances
CONDITIONS = ("w/o all neurons", "w/o small norm", "w/o large norm", "reconstruction from PC 1")
MIN_TOP = 16


def usable_layers(model: ClipModel) -> list[int]:
    """Layers with later attention whose covariances [neuron, later head, later head] fit in memory."""
    weights = model.weights
    n_neurons = int(weights.layers[0].mlp_output.shape[1])
    size = [
        4 * n_neurons * (weights.n_heads * (weights.n_layers - 1 - layer)) ** 2
        for layer in range(weights.n_layers)
    ]
    return [layer for layer in range(weights.n_layers - 1) if size[layer] <= LARGEST]


def batches(
    images: Sequence[Image.Image], name: str, quiet: bool
) -> Iterator[tuple[list[int], list[Image.Image]]]:
    """(rows, pictures) of the images that can be read."""
    for start in tqdm(range(0, len(images), BATCH), desc=name, unit="batch", disable=quiet):
        rows, pictures = [], []
        for row in range(start, min(start + BATCH, len(images))):
            try:
                pictures.append(images[row])
                rows.append(row)
            except (ValueError, OSError):
                continue
        if rows:
            yield rows, pictures


class Layer:
    """One layer's neurons over the reference images: statistics, rank-1 directions, norms, thresholds."""

    def __init__(self, model: ClipModel, stats: NeuronStats, norms: Tensor) -> None:
        self.stats, self.norms = stats, norms
        self.line: RankOne = rank_one(stats, model.neuron_basis(stats.layer))
        self.thresholds = activation_thresholds(norms.float(), PERCENTILE)

    def concentration(self) -> float:
        """Mean share of a neuron's summed squared norm that falls on the few images above its threshold."""
        squares = self.norms.float().square()
        return float(
            ((squares * (self.norms > self.thresholds)).sum(0) / squares.sum(0).clamp_min(1e-20)).mean()
        )


def layer_statistics(
    model: ClipModel, images: Sequence[Image.Image], layer: int, steps: Steps, quiet: bool = False
) -> Layer:
    """Statistics of one layer over the reference images; the top 2% of them, at least 16, are the thesis's S_n."""
    n_top = max(MIN_TOP, min(100, round(0.02 * len(images))))

    def make() -> dict[str, Any]:
        total, norms = None, []
        for rows, pictures in batches(images, f"reading layer {layer}", quiet):
            second = model.second_order(pictures, layer)
            part = neuron_stats(second, rows, n_top)
            total = part if total is None else total.merge(part)
            norms.append(second.norms().half().cpu())
        if total is None:
            raise ValueError("expected images that can be read, got none")
        arrays = {
            name: value.cpu().numpy() for name, value in vars(total).items() if isinstance(value, Tensor)
        }
        return {**arrays, "norms": torch.cat(norms).numpy(), "count": total.count}

    found = steps.get(f"neurons-statistics-{layer}", make)
    tensors = {
        name: torch.from_numpy(value).to(model.device)
        for name, value in found.items()
        if isinstance(value, np.ndarray)
    }
    norms = tensors.pop("norms")
    return Layer(model, NeuronStats(layer=layer, count=int(found["count"]), **tensors), norms)


def layer_embeddings(
    model: ClipModel,
    images: Sequence[Image.Image],
    known: Layer,
    steps: Steps,
    quiet: bool = False,
    codes: bool = False,
) -> dict[str, Any]:
    """Unit embeddings before and after every condition, [image, d_embed]; rows: which images they are.

    codes=True also leaves what Figure 3.4 needs: "left", the embedding without the layer's effects (their mean
    added back), and "coefficients" x_n [image, neuron].
    """
    layer = known.stats.layer

    def make() -> dict[str, Any]:
        parts: dict[str, list[Tensor]] = {}
        kept: list[int] = []
        for rows, pictures in batches(images, f"ablating layer {layer}", quiet):
            second = model.second_order(pictures, layer)
            large = second.norms() > known.thresholds
            made = {
                "baseline": normalize(second.embedding, dim=1),
                CONDITIONS[0]: ablated(second, known.stats),
                CONDITIONS[1]: ablated(second, known.stats, ~large),
                CONDITIONS[2]: ablated(second, known.stats, large),
                CONDITIONS[3]: rebuilt(second, known.line, stats=known.stats),
                "share of large": large.float().mean(1),
            }
            if codes:
                made["coefficients"] = known.line.coefficients(second)
                made["left"] = made[CONDITIONS[3]] - made["coefficients"] @ known.line.directions
            for name, value in made.items():
                parts.setdefault(name, []).append(value.cpu())
            kept += rows
        return {"rows": kept, **{name: torch.cat(values).numpy() for name, values in parts.items()}}

    return steps.get(f"neurons-ablations-{layer}{'-codes' if codes else ''}", make)


def intervened(
    model: ClipModel,
    images: Sequence[Image.Image],
    reference: Sequence[Image.Image],
    layer: int,
    steps: Steps,
    n_directions: int,
    n_compared: tuple[int, int],
    quiet: bool = False,
) -> dict[str, Any]:
    """Indirect effects of one layer by real interventions.

    "embeddings": images with every activation of the layer at its per-token mean; "directions" [neuron, d_embed]:
    first components of each neuron's indirect effects over n_directions reference images; "compared indirect"
    and "compared second" [image, chosen, d_embed]: both effects of the same (images, neurons) = n_compared.
    """

    def make() -> dict[str, Any]:
        pixels = (pictures for _, pictures in batches(reference, "mean activations", quiet))
        mean = mean_activations(model, pixels, layer)
        embeddings, rows = [], []
        for some, pictures in batches(images, "intervening", quiet):
            embeddings.append(intervened_embeddings(model, pictures, layer, mean).cpu())
            rows += some
        n_neurons = int(model.weights.layers[layer].mlp_output.shape[1])
        few = model.prepare(
            [p for _, ps in batches(reference[:n_directions], "a few images", True) for p in ps]
        )
        found = []
        for start in tqdm(range(0, n_neurons, 64), desc="indirect effects", unit="64 neurons", disable=quiet):
            neurons = range(start, min(start + 64, n_neurons))
            found.append(indirect_effects(model, few, layer, mean, neurons).cpu())
        effects = torch.cat(found, 1)
        n_images, n_chosen = n_compared
        chosen = torch.randperm(n_neurons, generator=torch.Generator().manual_seed(0))[:n_chosen].tolist()
        some = model.prepare([p for _, ps in batches(reference[:n_images], "more images", True) for p in ps])
        return {
            "rows": rows,
            "embeddings": torch.cat(embeddings).numpy(),
            "directions": signed_components(effects.transpose(0, 1)).numpy(),
            "compared indirect": indirect_effects(model, some, layer, mean, chosen).cpu().numpy(),
            "compared second": model.second_order(some, layer).effects(chosen).cpu().numpy(),
        }

    return steps.get(f"neurons-indirect-{layer}", make)


def signed_components(effects: Tensor) -> Tensor:
    """First components [neuron, d_embed] of centred effects [neuron, image, d_embed]; most large ones project positively."""
    centred = effects - effects.mean(1, keepdim=True)
    directions, _, _ = first_component(centred)
    along = torch.einsum("nid,nd->ni", centred, directions)
    sizes = along.abs().topk(max(1, along.shape[1] // 3), dim=1).indices
    flip = torch.where(along.gather(1, sizes).sign().sum(1) < 0, -1.0, 1.0)
    return directions * flip[:, None]


def component_share(effects: np.ndarray, top: float = 0.25) -> float:
    """Mean share of variance of the first component over each neuron's largest effects, centred by the mean of all.

    effects: [image, neuron, d_embed]; top: share of the images, by norm.
    """
    found = torch.from_numpy(effects).transpose(0, 1)
    n_top = max(2, round(top * found.shape[1]))
    order = found.norm(dim=2).topk(n_top, dim=1).indices
    centred = (found - found.mean(1, keepdim=True)).gather(1, order[..., None].expand(-1, -1, found.shape[2]))
    return float(first_component(centred)[1].mean())
