"""Pages of one class, units that stand out, and where the pictures of a report go."""

from __future__ import annotations

import dataclasses
import re
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

import clipviz
from clipviz.analysis.generation.guides import Guides
from clipviz.data import dictionary
from clipviz.data.images import open_images
from clipviz.figures import chapter4 as figures
from clipviz.figures import style
from clipviz.lens.invert import UnitPairs
from clipviz.reproduce.chapter4 import chapter as chapter4
from clipviz.reproduce.chapter4 import comparing, concept_pages, inverting
from clipviz.reproduce.report import Report
from clipviz.session import SharedUnits

SINGLE_UNITS = concept_pages.single_units  # before other tests shorten it


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
    assert "Figures C.4-C.6: there is no class for them" in text
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


def test_less_of_a_unit_is_its_removal_and_more_its_amplification(monkeypatch, tmp_path, undrawn):
    """Figures 4.8 and C.12: on each picture the edits of the unit that stands out there, in the columns that say so."""
    generator, asked = clipviz.load_generator("demo"), []
    latents = generator.sample(2, seed=concept_pages.SEED + 1)
    maps = generator.maps(latents)
    layer = generator.layers[0]
    alive = maps[layer].std((0, 2, 3)).topk(3).indices.tolist()
    guides = Guides({}, (group(layer, alive, [0.0] * 3, [1.0] * 3),))

    def edited(generator, part, guides, change, *, units, factor, schedule):
        asked.append((change, units, factor, part.z))
        shade = {"remove": 0.25, "amplify": 0.75}[change] + 0.1 * len(asked) / 4
        return SimpleNamespace(images=torch.full((1, 3, 4, 4), shade))

    monkeypatch.setattr(concept_pages.editing, "edit", edited)
    rows = []
    monkeypatch.setattr(concept_pages.figures, "unit_edits", rows.extend)
    steps = SimpleNamespace(get=lambda name, make: make())
    report = Report(tmp_path, "units")
    monkeypatch.setattr(concept_pages, "single_units", partial(SINGLE_UNITS, n=2))
    concept_pages.single_units_section(report, steps, generator, guides, None)
    units = concept_pages.standing_out(generator, latents, guides)
    expected = [
        (change, [unit], factor) for unit in units for change, factor in (("remove", 1.0), ("amplify", 2.0))
    ]
    assert [one[:3] for one in asked] == expected
    for place, row in enumerate(rows):
        own = maps[layer][place, units[place][1]]
        assert torch.equal(asked[2 * place][3], latents.z[place : place + 1])
        assert np.array_equal(row.picture, comparing.as_bytes(generator.images(latents))[place])
        share = (own - own.min()) / (own.max() - own.min())
        assert np.abs(row.map.astype(int) - (255 * share).numpy()).max() <= 1
        assert (row.less == round(255 * (0.25 + 0.1 * (2 * place + 1) / 4))).all()
        assert (row.more == round(255 * (0.75 + 0.1 * (2 * place + 2) / 4))).all()
        assert row.unit == f"{layer} · {units[place][1]}"


def test_a_row_of_unit_edits_runs_from_less_to_more(monkeypatch):
    placed = []
    monkeypatch.setattr(
        figures.style.Tile, "picture", lambda tile, pixels, **_: placed.append(int(pixels[0, 0, 0]))
    )
    monkeypatch.setattr(
        figures.style.Tile, "laid", lambda tile, pixels, *_, **__: placed.append(int(pixels[0, 0, 0]))
    )
    shades = [np.full((2, 2, 3), shade, np.uint8) for shade in (10, 20, 30)]
    row = figures.UnitEdit(shades[0], np.zeros((2, 2), np.uint8), shades[1], shades[2], "layer · 3")
    figure = figures.unit_edits([row])
    assert placed == [10, 10, 20, 30]
    written = [text.get_text() for text in figure.texts]
    assert written[:4] == ["generated", "the unit", "less of it", "more of it"]
    assert "layer · 3" in written


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
    """A dictionary with the embedded generator among its models: its maps are those of the latents it painted.

    Figures C.7-C.11: one for each picture, with the maps that CLIP's units have on that picture, the strongest first.
    """
    monkeypatch.setattr(style, "save", lambda *_, **__: [])
    monkeypatch.setattr(concept_pages, "N_PAINTED", 2)
    drawn = []
    monkeypatch.setattr(concept_pages.figures, "all_concepts", lambda *given: drawn.append(given))
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
    captions = [block["caption"] for block in report.blocks if block["kind"] == "figure"]
    assert captions == [f"Figure C.{number}: all concepts on one generated picture" for number in (7, 8)]
    latents = generator.sample(2, seed=concept_pages.SEED)
    painted = [Image.fromarray(one) for one in comparing.as_bytes(generator.images(latents))]
    for (picture, tiles, name), image in zip(drawn, painted, strict=True):
        assert np.array_equal(picture, model.shown_sharp(image))
        assert name == "CLIP"
        assert len(tiles) == concept_pages.N_TILES
        source = dataclasses.replace(mining, images=open_images([image]))
        own = SharedUnits(source, book.opened).on_image(0)
        rows = sorted(book.listed(), key=lambda row: -own.strength[row, 0])[: len(tiles)]
        assert [title for title, _ in tiles] == [book.title(row) for row in rows]
        for (_, shown), row in zip(tiles, rows, strict=True):
            assert np.abs(shown.astype(int) - own.maps[row, 0]).max() <= 1
    assert not np.array_equal(drawn[0][1][0][1], drawn[1][1][0][1])


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
