"""Choose what the demo shows first, by rule from what is significant: python -m tools.demo.choices.

Writes clipviz/demo/assets/chosen.json, which the first view, the tour and the pictures of the documentation follow, and
the documentation's words on the tour's last step, so that all of them hold for whatever model ships:
- the first image is a flamingo in its own colours, not small, whose own text is the nearest of all texts of the pool
  (else one nearest to it), a large one if there is one;
- its first head has a label that random rotations do not give, and texts of that label above their ticks: among the
  texts that are true of the picture, the one whose strongest head is such a head and writes most towards it;
- the bird of the tour is a waterbird in a forest that is taken for a landbird, and for a waterbird again without the
  heads of the shortcut; the text of its place, and the text of that head which takes its turn, are chosen likewise;
- the neuron and the feature of the gallery are those with a text that is true of most of the images where they act
  most.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import clipviz
from clipviz.analysis.heads.ablation import Outcome
from clipviz.data.texts import broad
from clipviz.demo.contents import BIRDS, FIRST
from clipviz.demo.shipped import ASSETS
from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.captions import FACTS
from clipviz.demo.world.vocabulary import with_article
from clipviz.files import write_whole
from clipviz.lens.sparse import prepare_dictionary
from tools.demo import cards

ROOT = Path(__file__).resolve().parents[2]

N_FIRST, N_STRONGEST, N_TOP, N_SHOWN = 5, 100, 20, 24
"""Texts of a head or a neuron that are looked at, neurons of a layer, images of a neuron, and images on the desk."""


FEW = 240
"""Images of the gallery's session."""


class Told(NamedTuple):
    """A text that is true of a picture, its strongest head, what that writes, and the head's first text that fits."""

    text: str
    layer: int
    head: int
    effect: float
    written: str


def main() -> None:
    session = clipviz.Session(clipviz.load("demo", device="cpu"), background=False)
    session.wait(600, background=True)
    chosen = {**first_view(session), "tour": tour(session)}
    few = clipviz.Session(session.model, session.images.opened.subset(range(FEW)), "demo", background=False)
    few.wait(600, background=True)
    chosen["neuron"] = list(clearest(few, few.neurons.late_layers)[:2])
    feature = clearest(few, few.neurons.dictionaries)
    chosen["feature"] = list(feature[1:])
    write("dictionaries", "feature", followed(few, feature))
    few.close()
    write("demo", "repair", f"*{chosen['tour'].pop('repair')}*")
    write_whole(ASSETS / "chosen.json", (json.dumps(chosen, indent=1) + "\n").encode())
    print(json.dumps(chosen, indent=1))
    session.close()


def write(page: str, name: str, paragraph: str) -> None:
    """Write a paragraph into its place on a page of the documentation."""
    path = ROOT / "docs" / f"{page}.md"
    path.write_text(cards.said(path.read_text("utf-8"), name, paragraph), "utf-8")


def true_texts(session: clipviz.Session, image: int) -> list[str]:
    """Return the texts of the pool that are true of an image of the world."""
    texts = list(session.texts)
    known = session.model.bundle.truths(texts, session.images.opened, image)
    return [text for text, true in zip(texts, known, strict=True) if true]


def told(session: clipviz.Session, image: int, texts: list[str]) -> list[Told]:
    """Of some texts those whose strongest head has a clear label of the text's own family and a text of that family
    above its tick, one that is true of the image if there is one; the strongest first."""
    true = set(true_texts(session, image))
    families = dict(zip(session.texts, session.texts.opened.families, strict=True))
    found = []
    for text in texts:
        layer, head = session.heads.strongest(text, image)
        label = session.heads.label(layer, head).name
        if label != broad(families[text]):
            continue
        span = session.heads.textspan(layer, head, N_FIRST)
        ticks = np.quantile(span.null_gains, 0.95, axis=0)
        fits = [
            written
            for written, gain, tick in zip(span.texts, span.gains, ticks, strict=True)
            if gain > tick and broad(families[written]) == label
        ]
        if fits:
            effect = float(session.heads.effects(text, image).heads[layer, head])
            found.append(Told(text, layer, head, effect, next((one for one in fits if one in true), fits[0])))
    return sorted(found, key=lambda one: -one.effect)


def first_view(session: clipviz.Session) -> dict[str, Any]:
    """Return the first image and the text whose strongest head is selected."""
    table, text = session.images.opened.attributes, with_article(FIRST["class"])
    fits = [
        i
        for i in range(len(session.images))
        if all(table[column][i] == value for column, value in FIRST.items() if column != "size")
        and table["size"][i] in ("large", "medium")
        and table["colour"][i] in (None, "pink")
    ]
    ranks = {i: session.images.percentiles(text, i).rank for i in fits}
    nearest = sorted(fits, key=lambda i: (ranks[i], table["size"][i] != "large", i))
    known = ((i, told(session, i, true_texts(session, i))) for i in nearest)
    image, about = next(((i, found) for i, found in known if found), (nearest[0], []))
    return {
        "image": session.images.names[image],
        "rank of its own text": ranks[image],
        "quality": about[0].text if about else f"something {table['colour'][image] or 'pink'}",
        "head": [about[0].layer, about[0].head] if about else None,
    }


def tour(session: clipviz.Session) -> dict[str, Any]:
    """Return the bird that is named right again, where it stands, and what the head of that place writes."""
    table, task = session.images.opened.attributes, session.ablation.tasks()[BIRDS]
    shortcut = next(preset for preset in session.ablation.presets(task=task) if preset.kind == "shortcut")
    after = clipviz.Ablation(heads=frozenset(shortcut.heads))
    mended = []
    for i in range(len(session.images)):
        lone = table["bird group"][i] == "waterbird/forest" and table["treatment"][i] == "none"
        if not lone or task.labels[i] < 0:
            continue
        desk = session.ablation.desk(task, i)
        named = [int(desk.probabilities(ablation).argmax()) for ablation in (clipviz.Ablation(), after)]
        if named == [1, task.labels[i]]:
            mended.append((table["class"][i] != FIRST["class"], table["size"][i] != "large", i))
    places = [
        text for text in FACTS["background"][words.BACKGROUNDS.index("forest")] if text in session.texts
    ]
    for _, _, i in sorted(mended):
        about = told(session, i, places)
        if about:
            repaired = repair(table["class"][i], session.ablation.run(after, task))
            return {
                "image": session.images.names[i],
                "bird": table["class"][i],
                **about[0]._asdict(),
                **repaired,
            }
    raise SystemExit(
        "expected a waterbird in a forest that is named right again and whose place a head with a label tells, got "
        f"none of {len(mended)} that are named right again; give the tour another last step"
    )


def repair(bird: str, outcome: Outcome) -> dict[str, str]:
    """Return what the last step of the tour does to all birds, in a paragraph for docs/demo.md."""
    worst = outcome.worst
    low, middle, high = np.quantile(worst.random, (0.025, 0.5, 0.975)).tolist()
    return {
        "repair": (
            "With classes learnt from pictures of which 80% show the bird in its usual habitat, "
            f"{with_article(bird)} in a forest is taken for a landbird. Without the {outcome.n_heads} heads that tell "
            "water from forest it is a waterbird, and accuracy on the worst group goes from "
            f"{worst.before:.0%} ({worst.name}, {worst.n_images} images) to {worst.after:.0%}, a change of "
            f"{100 * worst.change.value:.0f} points (95% interval {100 * worst.change.low:.0f} to "
            f"{100 * worst.change.high:.0f}). Without as many other heads of the same "
            f"layers the worst group is at {middle:.0%} (median of {len(worst.random)} draws; 95% of them within "
            f"{low:.0%} to {high:.0%})."
        )
    }


class Unit(NamedTuple):
    """A neuron or a feature, and the text that is true of most of the images where it acts most."""

    layer: int | str
    unit: int
    text: str


def clearest(session: clipviz.Session, layers: Iterable[int | str]) -> Unit:
    """Return the unit of the largest effects among those with a text, of the nearest few, that is true of most of
    the images where it acts most. layers: numbers of layers, or names of dictionaries in use."""
    truths, found = session.model.bundle.truths, []
    rows = prepare_dictionary(session.texts.pool())
    for layer in layers:
        known = session.neurons.layer(layer)
        strongest = known.stats.total.topk(min(N_STRONGEST, len(known.stats.total))).indices
        nearest = (known.line.directions[strongest] @ rows.T).topk(N_FIRST, 1).indices.tolist()
        for one, places in zip(strongest.tolist(), nearest, strict=True):
            texts = [session.texts[place] for place in places]
            top = known.stats.top_images[one, :N_TOP].tolist()
            said = np.array([truths(texts, session.images.opened, i) for i in top if i >= 0]) == True  # noqa: E712
            shares = said.mean(0)
            unit = Unit(layer, one, texts[int(shares.argmax())])
            found.append((float(shares.max()), float(known.stats.total[one]), unit))
    return max(found, key=lambda one: one[:2])[2]


def followed(session: clipviz.Session, chosen: Unit) -> str:
    """Return what a feature does, from pictures to texts to an intervention, in a paragraph."""
    layer, feature, text = chosen
    truths, images = session.model.bundle.truths, session.images.opened
    known = session.neurons.layer(layer)
    top = [i for i in known.stats.top_images[feature, :N_SHOWN].tolist() if i >= 0]
    true = [i for i in range(len(images)) if truths([text], images, i)[0] is True]
    [code], effects = (
        session.neurons.describe(layer, [feature]),
        session.neurons.effects(feature, top[0], layer),
    )
    first, weight = max(code.words, key=lambda word: word.weight)
    towards = session.texts.direction(text).to(effects.second_order)
    second, directly, indirect = (
        float(effect.to(towards) @ towards)
        for effect in (effects.second_order, effects.first_order, effects.indirect)
    )
    return (
        f"Of the {len(top)} images on which feature {feature} has the largest effects, \u201c{text}\u201d is true of "
        f"{len(set(top) & set(true))} (of all {len(images)} images, of {len(true)}). The text of largest positive "
        f"weight in what it writes is \u201c{first}\u201d ({weight:+.2f}). On the first of these images it changes "
        f"the cosine with \u201c{text}\u201d by {second:+.3f} by way of later heads, against its mean, and by "
        f"{directly:+.3f} directly. When the model runs again with the feature at its mean, the difference is "
        f"{indirect:+.3f}."
    )


if __name__ == "__main__":
    main()
