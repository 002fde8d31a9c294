"""Second-order statistics and mean-ablations of whole layers over a collection, as resumable steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from clipviz.analysis.collection import reading
from clipviz.analysis.neurons.replacement import CONDITIONS, NOTHING, replaced
from clipviz.analysis.neurons.sums import read_layers, read_together
from clipviz.data.images import Images
from clipviz.indexing import Index
from clipviz.lens import zeroshot
from clipviz.lens.cues import activation_thresholds
from clipviz.lens.neuron_stats import (
    NeuronStats,
    RankOne,
    first_component,
    rank_one,
)
from clipviz.lens.neurons import SecondOrder
from clipviz.models.bundle import Studio
from clipviz.models.clip import ClipModel
from clipviz.models.interventions import indirect_effects, intervened_embeddings, mean_activations
from clipviz.reproduce.evaluation import Evaluation, batches, spaced
from clipviz.reproduce.report import Steps
from clipviz.values import Task

PERCENTILE = 98.0  # "large" effects exceed this percentile of the norms over the reference images
# images in S_n at least; MLP layers examined closely, the last with later heads
MIN_TOP, N_STUDIED = 16, 3
N_SAMPLE = 2_000  # images of an index that are read again for the distribution of norms
# most texts per code in the quick version: 128 texts for 4,096 neurons take minutes per pool
QUICK_ATOMS = 32
PART = 320  # a pass over a large collection stores its results after this many images
N_INDIRECT = 8  # images per neuron for the components of indirect effects


def usable_layers(model: ClipModel) -> list[int]:
    """Return the layers with later attention; statistics without covariances of all of them fit in memory."""
    return list(range(model.n_layers - 1))


class Layer:
    """One layer's neurons over the reference images: statistics, rank-1 directions, norms, thresholds."""

    def __init__(self, model: ClipModel, stats: NeuronStats, norms: Tensor) -> None:
        self.stats, self.norms, self._model = stats, norms, model
        self.thresholds = activation_thresholds(norms.float(), PERCENTILE)

    @cached_property
    def line(self) -> RankOne:
        """The rank-1 directions, computed on demand, since a finished step does not need them."""
        return rank_one(self.stats, self._model.neuron_basis(self.stats.layer))

    def concentration(self) -> float:
        """Return the mean share of a neuron's summed squared norm on the few images above its threshold."""
        squares = self.norms.float().square()
        return float(
            ((squares * (self.norms > self.thresholds)).sum(0) / squares.sum(0).clamp_min(1e-20)).mean()
        )


@dataclass(frozen=True, eq=False)
class Study:
    """The data of chapter 3. reference: other images, for means, directions and thresholds (D, thesis 3.3).

    index: an index of the reference images, with the statistics of some layers' neurons (clipviz index
    --neurons), which are then read from it instead of being computed.
    """

    model: ClipModel
    evaluation: Evaluation
    reference: Images
    steps: Steps
    quiet: bool = False
    quick: bool = False
    kept: dict[int, Layer] = field(default_factory=dict)  # the late layers, which several sections use
    index: Index | None = None
    # the writer and drawer of adversarial scenes; None for those of the model's bundle, if any
    studio: Studio | None = None
    # pairs of classes for these scenes (attack_tasks.pairs_of)
    pairs: str | Sequence[tuple[str, str]] | None = None
    shifted: str | None = None  # a folder of the same classes in another style (ImageNet-R), for Figure B.3

    @property
    def layers(self) -> list[int]:
        """Layers with later attention; with an index, those of them that it contains."""
        usable = usable_layers(self.model)
        return usable if self.index is None else [one for one in usable if one in self.index.neuron_layers]

    @property
    def sample(self) -> Images:
        """The reference images to read: all of them, or an even sample of an index."""
        if self.index is None:
            return self.reference
        return self.reference.subset(spaced(len(self.reference), N_SAMPLE))

    @property
    def late(self) -> list[int]:
        """The three layers before the last (8-10 of 12 in the thesis)."""
        return self.layers[-N_STUDIED:]

    def layer(self, layer: int) -> Layer:
        """Return a layer's statistics over the reference images."""
        return self.of_layers([layer])[0]

    def of_layers(self, layers: Sequence[int]) -> list[Layer]:
        """Return the statistics of several layers, from one pass over the reference images."""
        lacking = [layer for layer in layers if layer not in self.kept]
        if self.index is None:
            made = layer_statistics(self.model, self.reference, lacking, self.steps, self.quiet)
        else:
            made = [
                indexed_layer(self.model, self.index, self.sample, layer, self.steps, self.quiet)
                for layer in lacking
            ]
        found = {**self.kept, **dict(zip(lacking, made, strict=True))}
        self.kept.update({layer: found[layer] for layer in lacking if layer in self.late})
        return [found[layer] for layer in layers]

    @property
    def groups(self) -> list[list[int]]:
        """The layers in groups that a single pass can serve."""
        n_images = max(len(self.reference), len(self.evaluation.images))
        return read_together(self.model, self.layers, n_images, n_top_of(len(self.reference)))

    def accuracy(
        self, embeddings: np.ndarray | Tensor, rows: Sequence[int], tasks: Sequence[Task] | None = None
    ) -> dict[str, float]:
        """Return zero-shot accuracy by task (the evaluation's, or others) of some images' embeddings [row, d_embed]."""
        found = torch.as_tensor(embeddings)
        return {
            task.name: zeroshot.accuracy(found, task.directions.cpu(), [task.labels[i] for i in rows]).top1
            for task in (self.evaluation.tasks if tasks is None else tasks)
        }


def n_top_of(n_images: int) -> int:
    """Return how many reference images are a neuron's top images: 2%, at least 16, at most 100 (the thesis's)."""
    return max(MIN_TOP, min(100, round(0.02 * n_images)))


def layer_statistics(
    model: ClipModel,
    images: Sequence[Image.Image],
    layers: Sequence[int],
    steps: Steps,
    quiet: bool = False,
) -> list[Layer]:
    """Return statistics of some layers over the reference images, from one pass; their top images are S_n."""

    def make(places: list[int]) -> Iterator[dict[str, Any]]:
        wanted = [layers[place] for place in places]
        bar = "" if quiet else f"reading layers {', '.join(map(str, wanted))}"
        for sums in read_layers(model, images, wanted, n_top_of(len(images)), bar=bar, scatter=False):
            tensors = {name: value for name, value in vars(sums.stats).items() if isinstance(value, Tensor)}
            arrays = {name: value.cpu().numpy() for name, value in tensors.items()}
            yield {**arrays, "norms": sums.norms.cpu().numpy(), "count": sums.count}

    found = steps.get_all([f"neurons-statistics-{layer}" for layer in layers], make)
    return [_as_layer(model, layer, step) for layer, step in zip(layers, found, strict=True)]


def _as_layer(model: ClipModel, layer: int, found: dict[str, Any]) -> Layer:
    """Return a layer from its stored step."""
    tensors = {
        name: torch.from_numpy(value).to(model.device)
        for name, value in found.items()
        if isinstance(value, np.ndarray)
    }
    norms = tensors.pop("norms")
    tensors.pop("scatter", None)  # from steps that stored it
    stats = NeuronStats(layer=layer, count=int(found["count"]), scatter=None, **tensors)
    return Layer(model, stats, norms)


def indexed_layer(
    model: ClipModel,
    index: Index,
    sample: Sequence[Image.Image],
    layer: int,
    steps: Steps,
    quiet: bool = False,
) -> Layer:
    """Return one layer with an index's statistics; the norms, which it does not contain, are read from a sample."""

    def make() -> dict[str, Any]:
        parts = [
            model.second_order(pictures, layer).norms().half()
            for _, pictures in batches(sample, f"norms of layer {layer}", quiet)
        ]
        return {"norms": torch.cat(parts).cpu().numpy()}

    norms = torch.from_numpy(steps.get(f"neurons-norms-{layer}", make)["norms"])
    return Layer(model, index.neurons(layer, model.device), norms.to(model.device))


def layer_embeddings(
    model: ClipModel,
    images: Sequence[Image.Image],
    known: Sequence[Layer],
    steps: Steps,
    quiet: bool = False,
    codes: bool = False,
    name: str = "images",
) -> list[dict[str, Any]]:
    """Return the unit embeddings of every layer before and after each condition, [image, d_embed]; rows: the images.
    One pass serves all layers, and its results are stored after every PART images.

    codes=True also returns what Figure 3.4 needs: "left", the embedding without the layer's effects (their mean
    added back), and "coefficients" x_n [image, neuron]. name: name of the images, for the steps.
    """
    names = [f"neurons-{name}-{one.stats.layer}{'-codes' if codes else ''}" for one in known]

    def make(places: list[int]) -> Iterator[dict[str, Any]]:
        starts = range(0, len(images), PART)
        found: list[list[dict[str, Any]]] = []
        for start in starts:
            rows = range(start, min(start + PART, len(images)))

            def read(lacking: list[int], rows: range = rows) -> list[dict[str, Any]]:
                return _after_conditions(
                    model, images, rows, [known[places[i]] for i in lacking], codes, quiet
                )

            if len(starts) == 1:
                found.append(read(list(range(len(places)))))
            else:
                found.append(steps.get_all([f"{names[place]}-from-{start}" for place in places], read))
        for i, place in enumerate(places):
            parts = [part[i] for part in found if part[i]["rows"]]
            yield {
                "rows": [row for part in parts for row in part["rows"]],
                "variance of PC 1": float(known[place].line.share.mean()),
                **{
                    what: np.concatenate([part[what] for part in parts])
                    for what, value in parts[0].items()
                    if isinstance(value, np.ndarray)
                },
            }

    made = steps.get_all(names, make)
    for one in names:
        steps.forget(f"{one}-from-*")
    return made


def _after_conditions(
    model: ClipModel, images: Any, rows: range, known: Sequence[Layer], codes: bool, quiet: bool
) -> list[dict[str, Any]]:
    """Return the results of `layer_embeddings` for some images, layer by layer, from one pass."""
    numbers = [one.stats.layer for one in known]
    bar = "" if quiet else f"ablating layers {', '.join(map(str, numbers))}"
    parts: list[dict[str, list[Tensor]]] = [{} for _ in known]
    kept: list[int] = []
    for some, pictures in reading.batches(images, rows, bar):
        seconds = model.each_second_order(pictures, numbers)
        for part, one, second in zip(parts, known, seconds, strict=True):
            for what, value in _conditions(one, second, codes).items():
                part.setdefault(what, []).append(value.cpu())
        kept += some
    return [
        {"rows": kept, **{what: torch.cat(values).numpy() for what, values in part.items()}} for part in parts
    ]


def _conditions(known: Layer, second: SecondOrder, codes: bool) -> dict[str, Tensor]:
    """Return unit embeddings of some images before and after each condition, and what `layer_embeddings` adds."""
    large = second.norms() > known.thresholds
    made = replaced(second, known.stats, known.line, large)
    made = {"baseline": made.pop(NOTHING), **made, "share of large": large.float().mean(1)}
    if codes:
        made["coefficients"] = known.line.coefficients(second)
        made["left"] = made[CONDITIONS[3]] - made["coefficients"] @ known.line.directions
    return made


def mean_of(
    model: ClipModel, reference: Sequence[Image.Image], layer: int, steps: Steps, quiet: bool = False
) -> Tensor:
    """Return per-token mean activations of one layer over the reference images, [token, neuron]."""

    def make() -> dict[str, Any]:
        pictures = (some for _, some in batches(reference, f"mean activations of layer {layer}", quiet))
        return {"mean": mean_activations(model, pictures, layer).cpu().numpy()}

    return torch.from_numpy(steps.get(f"neurons-mean-{layer}", make)["mean"]).to(model.device)


def intervened(
    model: ClipModel,
    images: Sequence[Image.Image],
    reference: Sequence[Image.Image],
    layer: int,
    steps: Steps,
    n_compared: tuple[int, int],
    quiet: bool = False,
) -> dict[str, Any]:
    """Return indirect effects of one layer by actual interventions, for Table 3.1.

    "embeddings" [image, d_embed]: with every activation of the layer at its per-token mean, "rows": the images;
    "indirect" and "second order" [image, chosen, d_embed]: both effects of n_compared = (images, neurons), random
    neurons on the first reference images.
    """
    mean = mean_of(model, reference, layer, steps, quiet)
    n_images, n_chosen = n_compared

    def make() -> dict[str, Any]:
        embeddings, rows = [], []
        for some, pictures in batches(images, f"intervening in layer {layer}", quiet):
            embeddings.append(intervened_embeddings(model, pictures, layer, mean).cpu())
            rows += some
        n_neurons = model.neuron_basis(layer).n_neurons
        chosen = torch.randperm(n_neurons, generator=torch.Generator().manual_seed(0))[:n_chosen].tolist()
        few = [reference[row] for row in range(min(n_images, len(reference)))]
        pixels = model.prepare(few)
        return {
            "rows": rows,
            "embeddings": torch.cat(embeddings).numpy(),
            "indirect": indirect_effects(model, pixels, layer, mean, chosen).cpu().numpy(),
            "second order": model.second_order(pixels, layer).effects(chosen).cpu().numpy(),
        }

    return steps.get(f"neurons-indirect-{layer}", make)


def indirect_directions(
    model: ClipModel,
    reference: Sequence[Image.Image],
    known: Layer,
    steps: Steps,
    n_top: int = N_INDIRECT,
    quiet: bool = False,
    sample: Sequence[Image.Image] | None = None,
    n_neurons: int | None = None,
) -> Tensor:
    """Return the first component [neuron, d_embed] of every neuron's indirect effects, signed like second-order
    ones.

    Interventions are expensive: each neuron's effects are measured on the n_top reference images where its
    second-order effect is largest. They are changes relative to the mean activation, so nothing is subtracted.
    sample: the images whose activations are averaged, default all of `reference`. n_neurons: size of an even
    sample of neurons.
    """
    layer, top = known.stats.layer, known.stats.top_images[:, :n_top].cpu()
    chosen = torch.tensor(spaced(len(top), n_neurons or len(top)))
    top = top[chosen]
    which = "" if len(chosen) == len(known.stats.top_images) else f"-{len(chosen)}"

    def make() -> dict[str, Any]:
        mean = mean_of(model, reference if sample is None else sample, layer, steps, quiet)
        effects = torch.zeros(*top.shape, model.weights.d_embed)
        rows = sorted(set(top[top >= 0].tolist()))
        for row in tqdm(rows, desc=f"indirect effects of layer {layer}", unit="image", disable=quiet):
            neurons, places = (top == row).nonzero(as_tuple=True)
            found = indirect_effects(model, reference[row], layer, mean, chosen[neurons].tolist())
            effects[neurons, places] = found[0].float().cpu()
        return {"directions": signed_components(effects).numpy()}

    return torch.from_numpy(steps.get(f"neurons-indirect-directions-{layer}{which}", make)["directions"])


def signed_components(effects: Float[Tensor, "neuron image d_embed"]) -> Float[Tensor, "neuron d_embed"]:
    """Return the first components of effects, signed so that most images project positively on them."""
    directions, _, _ = first_component(effects)
    along = torch.einsum("nid,nd->ni", effects, directions)
    return directions * torch.where(along.sign().sum(1) < 0, -1.0, 1.0)[:, None]


def component_share(effects: np.ndarray, top: float = 0.25, n_top: int | None = None) -> float:
    """Return the mean share of variance of the first component over each neuron's largest effects, centred by the
    mean of all.

    effects: [image, neuron, d_embed]; top: share of the images, by norm; n_top: or their number (100 in the
    thesis).
    """
    found = torch.from_numpy(effects).transpose(0, 1)
    n_top = max(2, round(top * found.shape[1]) if n_top is None else min(n_top, found.shape[1]))
    order = found.norm(dim=2).topk(n_top, dim=1).indices
    centred = (found - found.mean(1, keepdim=True)).gather(1, order[..., None].expand(-1, -1, found.shape[2]))
    return float(first_component(centred)[1].mean())
