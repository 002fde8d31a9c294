"""The shipped dictionaries of shared units in numbers, as tables for the cards."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipviz import demo
from clipviz.data import dictionary
from clipviz.data.dictionary import Dictionary

NAMES = {
    "clip": "CLIP",
    "cnn": "supervised CNN",
    "vit": "masked autoencoder",
    "demo generator": "this generator",
}


def write(path: Path) -> None:
    """A report with a section for each dictionary: its rows and, for each partner, its pairs beside chance."""
    bundle = demo.bundle()
    sections = []
    for title, folder in (
        ("The CLIP's dictionary", bundle.dictionary),
        ("The generator's dictionary", bundle.generator_dictionary),
    ):
        assert folder is not None
        sections.append(section(title, dictionary.open_folder(folder)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(sections), encoding="utf-8")


def section(title: str, opened: Dictionary) -> str:
    """Return two tables: all rows beside those with an untrained copy of the CLIP, and every partner's pairs."""
    concepts, about = opened.concepts, opened.about
    units, heldout = np.asarray(concepts.units), np.asarray(concepts.heldout)
    lines = [
        f"## {title}",
        "",
        "| mined on, held out | rows | concepts | rows with an untrained copy of the CLIP |",
        "| --- | --- | --- | --- |",
        f"| {about['n_images']}, {about['n_heldout']} pictures | {len(concepts)} "
        f"| {len(set(np.asarray(concepts.cluster).tolist()))} | {about['n_untrained']} |",
        "",
        "| partner | best buddies above chance | on shuffled pictures | rows | mean r on other pictures |",
        "| --- | --- | --- | --- | --- |",
    ]
    for i, name in enumerate(concepts.models[1:], start=1):
        there = units[:, i] >= 0
        lines.append(
            f"| {NAMES[name]} | {concepts.n_pairs[i]:,} | {concepts.n_chance[i]} | {there.sum()} "
            f"| {heldout[there, i].mean():.2f} |"
        )
    return "\n".join([*lines, ""])
