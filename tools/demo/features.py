"""Train the dictionary of directions that ships with the demo, and report what its features are worth.

    python -m tools.demo.features [--quick] [--report]

Writes clipviz/demo/assets/features (cfg.json, sae_weights.safetensors, at most 1 MB in half precision) with REPORT.md
and report.json beside them; --report measures the one that is there. The layer is the first of those whose features
most often show one attribute of the world, measured on scenes that the report does not use. A run that was stopped goes
on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import binom
from torch import Tensor

import clipviz
from clipviz.analysis.neurons.layer import N_TOP
from clipviz.analysis.neurons.sums import NeuronSums
from clipviz.demo.model.evaluate import HELD_OUT_SEEDS, Encoder, zero_shot
from clipviz.demo.shipped import ASSETS
from clipviz.demo.world.scenes import Scenes, render
from clipviz.files import write_whole
from clipviz.lens import intervals
from clipviz.lens.neuron_stats import rank_one
from clipviz.lens.sparse import prepare_dictionary
from clipviz.models import ClipModel
from clipviz.models.dictionaries import Dictionary, Reconstruction
from clipviz.models.dictionaries.points import read_point, reading
from clipviz.models.units import Place
from clipviz.models.untrained import untrained_module

FOLDER = ASSETS / "features"
WORK = Path(__file__).resolve().parents[2] / "build" / "demo" / "features"
TRAINING_SEED, CHOOSING_SEED = 7_000_003, 7_000_033
LARGEST = 1_000_000
"""Bytes of the weights that ship."""
STRONGEST = 20
"""Images of a unit that are looked at."""
RARE = 1e-3
"""Chance of so many images of one attribute among these, below which a unit shows it."""
BEYOND, N_RANDOM = 0.95, 2000
"""Random directions of the embedding, and the share of them that a unit's nearest text has to be nearer than."""
BATCH = 64


@dataclass(frozen=True)
class Sizes:
    """n: features; k: active per token; scenes: to train on; chosen_on, held_out: scenes to choose the layer on and to
    report on; passes: over the training scenes; tried: passes for each layer that is tried; coded: held-out scenes from
    which the directions that are coded in texts are read."""

    n: int = 1280
    k: int = 16
    scenes: int = 3000
    chosen_on: int = 1000
    held_out: int = 1000
    passes: float = 6
    tried: float = 2
    coded: int = 300


QUICK = Sizes(n=256, k=8, scenes=200, chosen_on=200, held_out=300, passes=2, tried=0.5, coded=64)


def pictures(scenes: Scenes) -> list[Image.Image]:
    return [Image.fromarray(picture) for picture in scenes.images]


def strongest(
    model: ClipModel, images: Sequence[Image.Image], score: Callable[[Tensor], Tensor], dictionary: Any
) -> Tensor:
    """Return the largest score of each unit over an image's tokens, [image, unit]; score: of what is at a point."""
    parts = []
    for start in range(0, len(images), BATCH):
        pixels = model.prepare(images[start : start + BATCH])
        stream, _ = read_point(model, pixels, dictionary.layer, dictionary.point)
        parts.append(score(stream).amax(1).cpu())
    return torch.cat(parts)


def values(scenes: Scenes) -> dict[tuple[str, int], np.ndarray]:
    """Return every attribute's values that at most a third of the scenes have and STRONGEST have at least, [image]."""
    found = {}
    for name in scenes.columns:
        column = scenes.attribute(name)
        for value in np.unique(column[column >= 0]).tolist():
            here = column == value
            if STRONGEST <= here.sum() <= len(here) / 3:
                found[name, value] = here
    return found


def showing(scores: Tensor, scenes: Scenes) -> np.ndarray:
    """Return which units show one attribute, [unit]: the value is chosen on every other scene and tested on the
    rest.

    A unit shows a value if at least half of its STRONGEST images of the rest have it, and so many would have it by
    chance with a probability below RARE. Units that are active on fewer images show none.
    """
    known = values(scenes)
    if not known:
        return np.zeros(scores.shape[1], bool)
    table = torch.tensor(np.stack(list(known.values())), dtype=torch.float32)  # [value, image]
    halves = [range(start, len(scores), 2) for start in (0, 1)]
    hits, bases = [], []
    for rows in halves:
        top = scores[list(rows)].topk(STRONGEST, 0)
        among = table[:, list(rows)]
        hits.append(among[:, top.indices].sum(1).double().numpy())  # [value, unit]
        bases.append(among.mean(1).double().numpy()[:, None])
    chances = [binom.sf(hit - 1, STRONGEST, base) for hit, base in zip(hits, bases, strict=True)]
    chosen = chances[0].argmin(0)
    units = np.arange(scores.shape[1])
    active = np.all([(scores[list(rows)] > 0).sum(0).numpy() >= STRONGEST for rows in halves], 0)
    return (hits[1][chosen, units] >= STRONGEST / 2) & (chances[1][chosen, units] < RARE) & active


def feature_scores(model: ClipModel, images: Sequence[Image.Image], dictionary: Dictionary) -> Tensor:
    here = dictionary.to(model.device)
    return strongest(model, images, lambda stream: here.encode(stream).activations, here)


def random_directions(dictionary: Dictionary, seed: int = 0) -> Dictionary:
    """Return as many random directions as a dictionary has features, read from what is at its point minus its bias."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(dictionary.n_units, dictionary.d_in, generator=generator)
    drawn = drawn / drawn.norm(dim=1, keepdim=True)
    nothing = torch.zeros(dictionary.n_units)
    return Dictionary(dictionary.layer, dictionary.point, drawn, nothing, drawn, dictionary.bias)


def worded(model: ClipModel, images: Sequence[Image.Image], place: Place) -> np.ndarray:
    """Return which units have a text beyond chance, [unit]: one nearer than the nearest of 95% of random directions.

    A unit's direction is the first component of its second-order effect over its top images. Its sign is arbitrary, so
    that a text may be near to either end.
    """
    sums = NeuronSums(n_top=N_TOP, norms=False, scatter=False)
    for start in range(0, len(images), BATCH):
        shown = images[start : start + BATCH]
        sums.add(range(start, start + len(shown)), model.second_order(list(shown), place))
    directions = rank_one(sums.stats, model.neuron_basis(place)).directions
    texts = prepare_dictionary(model.encode_texts(list(clipviz.demo.texts())).to(directions))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(N_RANDOM, directions.shape[1], generator=generator).to(directions)
    null = (drawn / drawn.norm(dim=1, keepdim=True) @ texts.T).abs().amax(1).quantile(BEYOND)
    return ((directions @ texts.T).abs().amax(1) > null).cpu().numpy()


def neuron_scores(model: ClipModel, images: Sequence[Image.Image], layer: int) -> Tensor:
    place = argparse.Namespace(layer=layer, point="mlp hidden")
    return strongest(model, images, lambda hidden: hidden, place)


def encoder(model: ClipModel, dictionary: Dictionary | None = None) -> Encoder:
    """Return the model for zero-shot tests, with a dictionary's reconstruction in place if one is given."""

    here = None if dictionary is None else dictionary.to(model.device)

    def embedded(images: np.ndarray) -> Tensor:
        parts = []
        for start in range(0, len(images), BATCH):
            pixels = model.prepare([Image.fromarray(one) for one in images[start : start + BATCH]])
            if here is None:
                parts.append(model.encode_images(pixels))
            else:
                with reading(model, here.layer, here.point, here.reconstruct):
                    parts.append(model.encode_images(pixels))
        found = torch.cat(parts).cpu()
        return found / found.norm(dim=1, keepdim=True)

    return Encoder(embedded, lambda texts: model.encode_texts(list(texts)).cpu())


def alike(one: Dictionary, other: Dictionary) -> Tensor:
    """For each feature the largest cosine of its direction with one of another dictionary, [unit]."""
    first, second = (d.decoder / d.decoder.norm(dim=1, keepdim=True) for d in (one, other))
    return (first @ second.T).amax(1)


def untrained(model: ClipModel) -> ClipModel:
    network = untrained_module(model.network)
    return clipviz.wrap(network, model.tokenizer, model.preprocess, name="untrained")


def tried_layers(
    model: ClipModel,
    train_on: Sequence[Image.Image],
    scenes: Scenes,
    sizes: Sizes,
    work: Path,
    print: Callable,
) -> dict[int, float]:
    """Return the share of each layer's features that show one attribute after a short training. The last layer is
    left out, since it has no later heads.

    work: where the shares are kept, so that a run that was stopped goes on.
    """
    path = work / "layers.json"
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    asked = f"{model.weights_fingerprint} {sizes}"
    shares = {int(layer): share for layer, share in known.get(asked, {}).items()}
    for layer in range(model.n_layers - 1):
        if layer in shares:
            continue
        tried = Dictionary.train(model, train_on, layer, sizes.n, sizes.k, passes=sizes.tried)
        shares[layer] = float(showing(feature_scores(model, pictures(scenes), tried), scenes).mean())
        print(f"layer {layer}: {shares[layer]:.1%} of the features show one attribute")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({asked: shares}).encode())
    return shares


def first_of_the_best(shares: Mapping[int, float], n: int) -> int:
    """Return the first layer whose share of n features is not lower than the largest beyond chance: the 95% interval
    of the difference holds 0. A feature of an earlier layer has more later heads that read it.
    """
    counted = {layer: intervals.share(round(share * n), n) for layer, share in shares.items()}
    best = max(counted.values(), key=lambda one: one.value)
    return min(layer for layer, one in counted.items() if intervals.difference(one, best).low <= 0)


def report(
    model: ClipModel,
    dictionary: Dictionary,
    other_seed: Dictionary,
    control: tuple[ClipModel, Dictionary],
    scenes: Scenes,
    coded: int,
    tried: Mapping[int, float],
) -> dict[str, Any]:
    """Return what the dictionary is worth on held-out scenes, as plain values.

    coded: scenes from which the directions that are compared with texts are read; tried: that of `tried_layers`.
    """
    shown = pictures(scenes)
    measured: Reconstruction = model.measure_dictionary(shown[:500], dictionary)
    of_control = control[0].measure_dictionary(shown[:500], control[1])
    units = {
        "features": feature_scores(model, shown, dictionary),
        "neurons of the layer": neuron_scores(model, shown, dictionary.layer),
        "random directions": feature_scores(model, shown, random_directions(dictionary)),
        "features of a random network": feature_scores(*(control[0], shown, control[1])),
    }
    attributes = {name: asdict(intervals.share_of(showing(scores, scenes))) for name, scores in units.items()}
    places: dict[str, tuple[ClipModel, Place]] = {
        "features": (model, dictionary),
        "neurons of the layer": (model, dictionary.layer),
        "random directions": (model, random_directions(dictionary)),
        "features of a random network": control,
    }
    texts = {
        name: asdict(intervals.share_of(worded(one, shown[:coded], place)))
        for name, (one, place) in places.items()
    }
    whole, rebuilt = (zero_shot(encoder(model, given), scenes) for given in (None, dictionary))
    cosines = alike(dictionary, other_seed)
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(dictionary.decoder.shape, generator=generator)
    chance = alike(dictionary, argparse.Namespace(decoder=drawn))
    return {
        "layer": dictionary.layer,
        "n": dictionary.n_units,
        "k": dictionary.k,
        "scenes": len(scenes),
        "layers": {str(layer): share for layer, share in tried.items()},
        "reconstruction": vars(measured),
        "reconstruction of a random network": vars(of_control),
        "units with one attribute": attributes,
        "units with a text": texts,
        "zero-shot": {
            family: {
                "plain": accuracy["accuracy"],
                "reconstruction": rebuilt[family]["accuracy"],
                "chance": accuracy["chance"],
                "n": accuracy["n"],
            }
            for family, accuracy in whole.items()
            if accuracy["n"]
        },
        "seeds": {
            "mean cosine": float(cosines.mean()),
            "share above .9": asdict(intervals.share_of((cosines > 0.9).numpy())),
            "mean cosine with random directions": float(chance.mean()),
        },
    }


def of_dictionary(found: Mapping[str, Any]) -> str:
    """Return in words what the dictionary is, and why it is one of this layer."""
    shares = ", ".join(f"{share:.0%}" for share in found["layers"].values())
    return (
        f"It is a TopK dictionary of {found['n']:,} features, {found['k']} active per token, of the stream after layer "
        f"{found['layer']}. The layer is the first of those whose features most often show one attribute of the world "
        f"after a short training, by the 95% interval of the difference (layers 0 to {len(found['layers']) - 1}: "
        f"{shares})."
    )


def of_seeds(found: Mapping[str, Any]) -> str:
    """Return in words how much a second seed gives the same features."""
    seeds, above = found["seeds"], found["seeds"]["share above .9"]
    chance = seeds["mean cosine with random directions"]
    return (
        "A second seed gives other features: the largest cosine of a direction with one of the other run is "
        f"{seeds['mean cosine']:.3f} on average (random directions: {chance:.3f}), "
        f"and {above['value']:.1%} ({above['low']:.1%} to {above['high']:.1%}) have one above 0.9."
    )


def as_markdown(found: Mapping[str, Any]) -> str:
    """Return the report in words and tables."""
    measured, control = found["reconstruction"], found["reconstruction of a random network"]
    lines = [
        "# The demo's dictionary of directions",
        "",
        f"A TopK dictionary of {found['n']:,} features, {found['k']} active per token, of the residual stream after "
        f"layer {found['layer']}. Measured on {found['scenes']:,} scenes that training never showed; intervals are "
        "95%.",
        "",
        "## Reconstruction",
        "",
        "| reconstruction | the demo | the same training on a random network |",
        "| --- | --- | --- |",
    ]
    rows = (
        ("variance explained", "explained", "{:.3f}"),
        ("active features per token", "n_active", "{:.1f}"),
        (f"dead features of {found['n']:,}", "n_dead", "{:,}"),
        ("cosine of the embedding with the reconstruction in place", "cosine", "{:.3f}"),
        ("the same with the mean in place", "cosine_of_mean", "{:.3f}"),
    )
    lines += [
        f"| {name} | {form.format(measured[key])} | {form.format(control[key])} |" for name, key, form in rows
    ]
    lines += [
        "",
        "## Units",
        "",
        f"A unit shows one attribute if at least half of its {STRONGEST} strongest scenes have it, p < {RARE:g}; the "
        "attribute is chosen on every other scene and tested on the rest. It has a text if the text nearest to the "
        f"direction that it writes is nearer than that of {BEYOND:.0%} of {N_RANDOM:,} random directions, of which "
        f"{1 - BEYOND:.0%} have one by this measure.",
        "",
        "| units | with one attribute | with a text | n |",
        "| --- | --- | --- | --- |",
    ]
    for name, one in found["units with one attribute"].items():
        shares = (one, found["units with a text"][name])
        cells = [f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})" for share in shares]
        lines.append(f"| {name} | {' | '.join(cells)} | {one['n']:,} |")
    lines += [
        "",
        "## Zero-shot",
        "",
        "| zero-shot accuracy | plain | reconstruction in place | chance | n |",
        "| --- | --- | --- | --- | --- |",
    ]
    for family, one in found["zero-shot"].items():
        lines.append(
            f"| {family} | {one['plain']:.3f} | {one['reconstruction']:.3f} | {one['chance']:.3f} | {one['n']:,} |"
        )
    lines += ["", "## Seeds", "", of_seeds(found), ""]
    return "\n".join(lines)


def make(
    model: ClipModel,
    folder: Path,
    work: Path,
    sizes: Sizes,
    only_report: bool = False,
    print: Callable = print,
) -> dict[str, Any]:
    """Train, save and report; returns the report. work: where runs are kept that were stopped."""
    train_on = pictures(render(sizes.scenes, TRAINING_SEED))
    tried = tried_layers(model, train_on, render(sizes.chosen_on, CHOOSING_SEED), sizes, work, print)
    layer = Dictionary.load(folder).layer if only_report else first_of_the_best(tried, sizes.n)

    def trained(name: str, of: ClipModel, seed: int) -> Dictionary:
        if (work / name / "cfg.json").exists():
            kept = Dictionary.load(work / name)
            if (kept.model, kept.layer, kept.n_units, kept.k) == (
                of.weights_fingerprint,
                layer,
                sizes.n,
                sizes.k,
            ):
                return kept
        how = {"passes": sizes.passes, "seed": seed}
        found = Dictionary.train(of, train_on, layer, sizes.n, sizes.k, path=work / name, **how)
        print(f"{name}: {found.log}")
        return found

    if not only_report:
        trained("first", model, 0).save(folder, half=True)
        size = (folder / "sae_weights.safetensors").stat().st_size
        if size > LARGEST:
            raise ValueError(
                f"expected at most {LARGEST:,} bytes to ship, got {size:,}; train fewer features"
            )
    random_network = untrained(model)
    shipped = Dictionary.load(folder)
    control = (random_network, trained("random network", random_network, 0))
    found = report(
        model,
        shipped,
        trained("second", model, 1),
        control,
        render(sizes.held_out, HELD_OUT_SEEDS[0]),
        sizes.coded,
        tried,
    )
    write_whole(folder / "report.json", (json.dumps(found, indent=1) + "\n").encode())
    write_whole(folder / "REPORT.md", as_markdown(found).encode())
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a small one, in the folder of what is being worked on"
    )
    parser.add_argument("--report", action="store_true", help="measure the one that is there")
    options = parser.parse_args(arguments)
    folder, sizes = (WORK / "quick", QUICK) if options.quick else (FOLDER, Sizes())
    work = WORK / "quick runs" if options.quick else WORK
    found = make(clipviz.load("demo"), folder, work, sizes, options.report)
    print(as_markdown(found))


if __name__ == "__main__":
    main()
