"""Pages of one class, units that stand out, and where the pictures of a report go."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import numpy as np
import torch

import clipviz
from clipviz.analysis.generation import Guides
from clipviz.analysis.shared_units import SharedUnits
from clipviz.data import dictionary
from clipviz.figures import style
from clipviz.lens.invert import UnitPairs
from clipviz.reproduce import chapter4, concept_pages, inverting
from clipviz.reproduce.report import Report


def group(layer, units, mean, std):
    values = torch.tensor(units), torch.tensor(mean), torch.tensor(std)
    return UnitPairs(layer, layer, values[0], values[0], values[1], values[2], values[1], values[2])


def test_concepts_of_a_class_are_those_with_most_examples_of_it():
    classes = ["owl", "owl", "car", "car", ""]
    book = SimpleNamespace(
        concepts=SimpleNamespace(examples=np.array([[0, 2, 3], [0, 1, 2], [2, 3, 4], [1, 0, 2]])),
        listed=lambda: [3, 0, 2, 1],
    )
    assert concept_pages.concepts_of_class(book, classes, "owl") == [3, 1, 0]
    assert concept_pages.concepts_of_class(book, classes, "car") == [0, 2, 3, 1]
    assert concept_pages.concepts_of_class(book, classes, "bus") == []


def test_classes_come_from_attributes_or_folders():
    named = SimpleNamespace(attributes={"class": ["owl", None]}, names=["a.png", "b.png"])
    assert concept_pages.class_of(named) == ["owl", ""]
    assert concept_pages.class_of(SimpleNamespace(attributes=None, names=["owl/a.png", "b.png"])) == [
        "owl",
        "",
    ]


def test_pages_are_of_the_commonest_classes_that_have_concepts(monkeypatch, tmp_path):
    """A class of one image has a page as well; where no example has a class, that is said."""
    monkeypatch.setattr(concept_pages, "page_of", lambda book, rows: rows)
    drawn = []
    report = Report(tmp_path, "pages", started=time.monotonic() - 100)
    report.figure = lambda name, figure, caption: drawn.append((name, figure, caption.split()[-1]))
    book = SimpleNamespace(
        concepts=SimpleNamespace(examples=np.array([[0, 2], [5, 3]])), listed=lambda: [0, 1]
    )
    images = SimpleNamespace(attributes={"class": ["owl", "car", "bus", "bee", "car", "owl"]})
    concept_pages.class_pages(report, book, images)
    assert drawn == [
        ("dictionary-class-1", [0, 1], "owl"),
        ("dictionary-class-2", [0], "bus"),
        ("dictionary-class-3", [1], "bee"),
    ]
    concept_pages.class_pages(report, book, SimpleNamespace(attributes={"class": [None] * 6}))
    text = report.write("pages").read_text()
    assert "Figures C.4-C.6: no class for them" in text
    seconds = re.search(r"Made in (\d+) s", text)
    assert int(seconds[1]) >= 100  # what was done before the report was begun counts


def test_the_unit_that_stands_out_is_counted_in_deviations_and_taken_once():
    maps = {"early": torch.zeros(2, 3, 2, 2), "late": torch.zeros(2, 2, 1, 1)}
    maps["early"][0, 1, 0, 1] = 5.0  # (5 - 1) / 2 = 2 deviations
    maps["late"][0, 0] = 3.0  # (3 - 0) / 1 = 3
    maps["early"][1, 1] = 9.0  # 4
    maps["late"][1, 0] = 8.0  # 8, but taken
    generator = SimpleNamespace(maps=lambda latents: maps)
    own = (group("early", [1, 2], [1.0, 0.0], [2.0, 1.0]), group("late", [0], [0.0], [1.0]))
    assert concept_pages.standing_out(generator, None, Guides({}, own)) == [("late", 0), ("early", 1)]


def test_the_first_rows_are_the_chapters_and_the_others_the_appendixs(monkeypatch):
    shown = []
    report = SimpleNamespace(figure=lambda name, figure, caption: shown.append((name, figure, caption)))
    monkeypatch.setattr(inverting.figures, "image_rows", lambda rows, heads, width: list(rows))
    inverting.in_two(report, "edits", [[1], [2], [3]], 2, ["a"], ("4.7", "C.3"), "edits", 5.2)
    inverting.in_two(report, "few", [[1]], 2, ["a"], ("4.4, 4.5", "C.1, C.2"), "found", 5.2)
    assert shown == [
        ("edits", [[1], [2]], "Figure 4.7: edits"),
        ("edits-more", [[3]], "Figure C.3: edits"),
        ("few", [[1]], "Figures 4.4, 4.5: found"),
    ]


def test_generated_pictures_are_read_by_those_that_look_and_painted_by_the_generator(
    model, tmp_path, monkeypatch
):
    """A dictionary with the embedded generator among its models: its maps are those of the latents it painted."""
    monkeypatch.setattr(style, "save", lambda *_, **__: [])
    monkeypatch.setattr(concept_pages, "N_PAINTED", 1)
    seen = []
    strongest = SharedUnits.strongest
    monkeypatch.setattr(
        SharedUnits, "strongest", lambda self, i, *a: seen.append(self.on_image(i)) or strongest(self, i, *a)
    )
    images = clipviz.demo.images().subset(range(2))
    mining = chapter4.Mining(model, images, [], [], [])
    book = SharedUnits(mining, dictionary.open_folder(model.bundle.dictionary))
    generator = clipviz.load_generator("demo")
    assert generator.name in book.concepts.models
    report = Report(tmp_path, "painted")
    concept_pages.painted_section(report, mining, book, generator)
    place = book.concepts.models.index(generator.name)
    units = np.asarray(book.concepts.units)[:, place] >= 0
    assert seen[0].maps[units, place].any()
    assert "Figure C.7: all concepts on one generated picture" in report.write("painted").read_text()


def test_a_page_leaves_out_models_that_only_paint_and_is_as_wide_as_its_concepts(model):
    mining = chapter4.Mining(model, clipviz.demo.images().subset(range(2)), [], [], [])
    book = SharedUnits(mining, dictionary.open_folder(model.bundle.dictionary))
    rows = book.listed()
    one, many = (concept_pages.page_of(book, rows[:n]) for n in (1, 5))
    assert one.get_size_inches()[0] == style.PAGE / 4
    assert many.get_size_inches()[0] == style.PAGE
    written = {text.get_text().replace("\n", " ") for text in many.texts}
    assert {"clip", "cnn", "vit"} <= written
    assert not any("generator" in text for text in written)
