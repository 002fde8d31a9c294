"""Zero-shot tests of a CLIP on the demo world, by family of attributes, with the level of chance."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipviz.demo.model.network import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    build,
    load_weights,
    preprocess,
    read_config,
    tokenize,
)
from clipviz.demo.world import truth
from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.captions import FACTS, facts
from clipviz.demo.world.sampling import Theme, sample_scene
from clipviz.demo.world.scene import GLYPH, OBJECT, OWN_COLOUR, SHAPE, Scene
from clipviz.demo.world.scenes import Scenes, compose, render, spurious
from clipviz.lens import zeroshot

HELD_OUT_SEEDS = (1_000_003, 1_000_033, 1_000_037, 1_000_039, 1_000_081)
"""Scenes rendered from these seeds never enter training, which draws from other streams."""
HELD_OUT_SEED = HELD_OUT_SEEDS[0]


@dataclass(frozen=True)
class Encoder:
    """The two towers as functions from uint8 images [image, row, column, 3] and from sentences to unit vectors."""

    images: Callable[[np.ndarray], Tensor]
    texts: Callable[[Sequence[str]], Tensor]

    @functools.cached_property
    def directions(self) -> dict[str, Tensor]:
        """Return for each family the mean unit vector of the sentences of each value, [value, d_embed]."""
        found = {}
        for family, values in FACTS.items():
            units = self.texts([sentence for sentences in values for sentence in sentences])
            found[family] = zeroshot.of_prompts(units, list(map(len, values)))
        return found


def encoder_of(model: Any, batch_size: int = 100) -> Encoder:
    """Return the encoder of an open_clip model that takes the demo's images and token ids."""
    device = next(model.parameters()).device

    @torch.inference_mode()
    def encode_images(images: np.ndarray) -> Tensor:
        chunks = torch.from_numpy(images).split(batch_size)
        return torch.cat(
            [F.normalize(model.encode_image(preprocess(chunk).to(device)), dim=-1).cpu() for chunk in chunks]
        )

    @torch.inference_mode()
    def encode_texts(texts: Sequence[str]) -> Tensor:
        return torch.cat(
            [
                F.normalize(model.encode_text(chunk.to(device)), dim=-1).cpu()
                for chunk in tokenize(texts).split(256)
            ]
        )

    return Encoder(encode_images, encode_texts)


def _untreated(scene: Scene) -> bool:
    return scene.treatment == 0 and scene.second is None


def _test_value(family: str, scene: Scene) -> int | None:
    """Return the value that a scene is tested on, or None if the family's test excludes the scene."""
    if family == "treatment":
        return scene.treatment
    if not _untreated(scene):
        return None
    values = [value for name, value in facts(scene) if name == family]
    if len(values) != 1 or (family == "count" and values[0] == 0):
        return None
    return values[0]


def truths(family: str, scenes: Scenes) -> list[int | None]:
    """Return the value of every scene in a family of FACTS, or None if the family's test excludes the scene."""
    return [_test_value(family, scene) for scene in scenes.scenes]


FAMILY_TESTS = (
    *("object", "category", "shape", "glyph", "colour", "count", "background", "background colour"),
    *("treatment", "style", "size", "position"),
)


def zero_shot(encoder: Encoder, scenes: Scenes) -> dict[str, dict[str, Any]]:
    """Return the accuracy of every family on the scenes to which it applies: {family: {accuracy, chance, n}}.

    All families but treatment are tested on untreated scenes with one kind of thing; count on 2 to 6 copies;
    "object, single, own colour" on lone objects as they were drawn.
    """
    directions, units = encoder.directions, encoder.images(scenes.images)
    results = {}
    for family in FAMILY_TESTS:
        truth = truths(family, scenes)
        results[family] = _accuracy(units, directions[family], truth, first=1 if family == "count" else 0)
    lone = [
        scene.subject.word if _untreated(scene) and scene.single and _as_drawn(scene) else None
        for scene in scenes.scenes
    ]
    results["object, single, own colour"] = _accuracy(units, directions["object"], lone)
    return results


def _as_drawn(scene: Scene) -> bool:
    return scene.subject.kind == OBJECT and scene.subject.colour == OWN_COLOUR


def _accuracy(
    units: Tensor, directions: Tensor, truth: Sequence[int | None], first: int = 0
) -> dict[str, Any]:
    rows = [index for index, value in enumerate(truth) if value is not None]
    wanted = torch.tensor([truth[index] for index in rows])
    chosen = (units[rows] @ directions[first:].T).argmax(1) + first
    accuracy = (chosen == wanted).float().mean().item() if rows else float("nan")
    return {"accuracy": accuracy, "chance": 1 / (len(directions) - first), "n": len(rows)}


N_NEAREST = 5
"""Number of texts nearest to a picture that are judged."""


def nearest_texts(
    units: Tensor, text_units: Tensor, texts: Sequence[str], scenes: Scenes
) -> dict[str, list[int]]:
    """Return how often the texts nearest to a picture are true of it.

    units: [image, d_embed] and text_units: [text, d_embed], unit length. The result for "first" and those that begin
    with "class" is a pair: the number of scenes for which it holds, and the number of scenes counted. "first": the
    nearest text is true. "class": a true text among the nearest five names the class of the scene; only scenes with one
    kind of thing, whose class a text of the pool names, are counted. "class, untreated": the same for scenes without a
    treatment. "class, of texts with a class": of the texts that name a class, the nearest names this one. "five": the
    numbers of scenes with 0, 1, ... 5 true texts among the nearest five. "of another picture" is the chance level: the
    same texts judged on the next scene. A text whose truth is unknown counts as not true.
    """
    known = truth.truths(texts, scenes.attributes) == truth.TRUE
    cosines = units @ text_units.T
    nearest = cosines.topk(N_NEAREST, 1).indices.numpy()
    found = np.take_along_axis(known, nearest, 1)
    others = np.take_along_axis(np.roll(known, -1, 0), nearest, 1)
    named = truth.classes_named(texts)
    nameable: frozenset[int] = frozenset().union(*named)
    first, second, treatment = (
        scenes.attribute(column).tolist() for column in ("class", "second class", "treatment")
    )
    one = [i for i in range(len(scenes)) if first[i] in nameable and second[i] < 0]
    right = [any(first[i] in named[text] for text in nearest[i][found[i]].tolist()) for i in one]
    untreated = [ok for i, ok in zip(one, right, strict=True) if treatment[i] == 0]
    with_class = [text for text, classes in enumerate(named) if classes]
    recognised = cosines[one][:, with_class].argmax(1).tolist() if one else []
    return {
        "class": [sum(right), len(one)],
        "class, untreated": [sum(untreated), len(untreated)],
        "class, of texts with a class": [
            sum(first[i] in named[with_class[text]] for i, text in zip(one, recognised, strict=True)),
            len(one),
        ],
        **{
            f"{what}{whose}": counted
            for whose, true in (("", found), (", of another picture", others))
            for what, counted in (
                ("first", [int(true[:, 0].sum()), len(true)]),
                ("five", np.bincount(true.sum(1), minlength=N_NEAREST + 1).tolist()),
            )
        },
    }


def large_plain(kind: int, n: int, seed: int, unseen_views: bool = False) -> Scenes:
    """Return large solid shapes or glyphs in the middle of a white background (black for white shapes)."""
    rng = np.random.default_rng([seed, 5, kind])
    white, black = words.COLOURS.index("white"), words.COLOURS.index("black")
    theme = Theme(
        kind, words.BACKGROUNDS.index("plain"), (white, black), layout="single", large=True, plain=True
    )
    scenes = []
    for _ in range(n):
        scene = sample_scene(rng, theme, unseen_views=unseen_views)
        backdrop = (black, white) if scene.subject.colour == white else (white, black)
        thing = replace(scene.subject, fill=0)
        scenes.append(replace(scene, thing=thing, background_colours=backdrop, column=1, row=1))
    return compose(scenes, seed, unseen_views=unseen_views)


def bird_groups(encoder: Encoder, n_per_group: int, seed: int, painted: bool = True) -> dict[str, float]:
    """Return the accuracy of waterbird against landbird in each bird/place group, the worst group and the mean."""
    scenes = spurious(n_per_group, seed, painted)
    landbird = (encoder.images(scenes.images) @ encoder.directions["bird"].T).argmax(1).numpy()
    right = landbird == (scenes.groups >= 2)
    by_group = {
        name: float(right[scenes.groups == group].mean()) for group, name in enumerate(words.BIRD_GROUPS)
    }
    return {**by_group, "worst group": min(by_group.values()), "mean": float(right.mean())}


def report(
    encoder: Encoder,
    n: int = 2000,
    seed: int = HELD_OUT_SEED,
    unseen_views: bool = False,
    n_large: int = 720,
) -> dict[str, dict[str, Any]]:
    """Return zero_shot on `n` held-out scenes, with additional tests of large plain shapes and glyphs."""
    results = zero_shot(encoder, render(n, seed, unseen_views=unseen_views))
    for kind, family in ((SHAPE, "shape"), (GLYPH, "glyph")):
        scenes = large_plain(kind, n_large, seed, unseen_views)
        truth = [scene.subject.word for scene in scenes.scenes]
        results[f"{family}, large, plain"] = _accuracy(
            encoder.images(scenes.images), encoder.directions[family], truth
        )
    return results


def as_markdown(tables: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return one row per family, one column per test set: accuracy of {title: {family: {accuracy, chance, n}}}."""
    first = next(iter(tables.values()))
    lines = [f"| zero-shot | chance | {' | '.join(tables)} |", f"| --- | --- {'| --- ' * len(tables)}|"]
    for family, result in first.items():
        cells = [f"{table[family]['accuracy']:.3f}" for table in tables.values()]
        lines.append(f"| {family} | {result['chance']:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, nargs="*", default=[WEIGHTS_FILE], help="safetensors files")
    parser.add_argument("--config", type=Path, default=CONFIG_FILE)
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args(arguments)
    tables, groups = {}, {}
    for path in options.weights:
        model = load_weights(build(read_config(options.config)), path).eval()
        model.visual.patch_dropout = torch.nn.Identity()
        encoder = encoder_of(model)
        tables[f"{path.stem}"] = report(encoder, options.images)
        tables[f"{path.stem}, unseen views"] = report(encoder, options.images, unseen_views=True)
        for painted, birds in ((True, "painted birds"), (False, "birds in their own colours")):
            found = bird_groups(encoder, max(1, options.images // 20), HELD_OUT_SEED, painted)
            groups[f"{path.stem}, {birds}"] = found
    print(as_markdown(tables))
    for name, accuracies in groups.items():
        print(name, {group: round(accuracy, 3) for group, accuracy in accuracies.items()})


if __name__ == "__main__":
    main()
