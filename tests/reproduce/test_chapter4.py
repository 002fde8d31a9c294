"""Chapter 4 reproduced on a few images and tiny partners; the measures of inversion against plain ones."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from random_stylegan2 import random_state
from tiny_dictionary import tiny_pair

import clipviz
from clipviz.analysis.generation import editing, searching
from clipviz.analysis.generation.guides import Guides
from clipviz.data import dictionary
from clipviz.lens.invert import Schedule, UnitPairs
from clipviz.models.generator import stylegan2
from clipviz.models.stylegan2 import StyleGan2
from clipviz.reproduce import CHAPTERS, contents
from clipviz.reproduce.chapter4 import any_generator, comparing, inverting
from clipviz.reproduce.chapter4 import chapter as chapter4
from clipviz.reproduce.chapter4 import editing as report_of_edits
from clipviz.reproduce.report import Report


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("chapter4")
    partners = [*tiny_pair().values()]
    report = clipviz.reproduce.run("chapter4", model, out, partners=partners, limit=10).path
    return out, report, partners


def test_the_chapter_is_registered():
    assert "chapter4" in CHAPTERS


def test_the_report_has_its_tables_and_figures(made):
    out, report, _ = made
    text = report.read_text()
    blocks = json.loads((out / "blocks" / "chapter4.json").read_bytes())["blocks"]
    assert contents.missing(contents.where_shown(blocks), "chapter4") == []
    drawn = {item for block in blocks for item in contents.named_in(block.get("caption", ""))}
    assert {item for item in contents.ITEMS["chapter4"] if item.startswith("Figure")} <= drawn
    assert not [block for block in blocks if block["kind"] == "needs"]
    assert "this is a small version for a first look: 2 inversions of 1 steps and 2 edits of 5" in text
    for title in ("Models (Table 4.2)", "by chance", "Figure 4.1", "Figures 4.2", "Table 4.1", "Figures 4.7"):
        assert title in text
    for name in (
        "pairs",
        "held-out",
        "layers",
        "dictionary-1",
        "one-image",
        "dictionary-class-1",
        "painted-5",
        "inversion",
        "translated",
        "edits",
        "single-units",
    ):
        svg = (out / "figures" / f"rosetta-{name}.svg").read_text()
        assert "<text" in svg or name in ("translated", "edits")  # text stays text
    for row in (
        "perceptual loss",
        "+ clip pairs",
        "+ vit pairs",
        "+ R over all",
        "unseen style",
        "copy | two objects",
    ):
        assert f"| {row} |" in text


def test_models_stand_beside_their_layers_units_and_maps(model, tmp_path):
    """Table 4.2."""
    images = clipviz.demo.images().subset(range(2))
    mining = chapter4.Mining(model, images, [*tiny_pair().values()], None, [])
    chapter4.models_section(report := Report(tmp_path, "models"), mining)
    (table,) = [block for block in report.blocks if block["kind"] == "table"]
    assert table["head"] == ["model", "taught by", "layers", "units", "maps"]
    assert table["rows"] == [
        ["clip", "text-supervised (CLIP)", "6", "4,608", "12 x 12"],
        ["one", "untrained 0", "2", "20", "24 x 24, 12 x 12"],
        ["two", "untrained 1", "2", "20", "24 x 24, 12 x 12"],
    ]


def test_the_dictionary_beside_it_opens_in_a_session(made, model):
    out, _, partners = made
    with_images = clipviz.Session(
        model, clipviz.demo.images().subset(range(3)), ["a dog", "a cat"], background=False
    )
    book = with_images.rosetta.units(out / "rosetta", {partner.name: partner for partner in partners})
    assert len(book.concepts) > 5
    assert book.opened.picture_ids
    assert book.on_image(1).strength.max() > 0
    with_images.close()


def test_a_second_run_mines_nothing_again(made, model, monkeypatch, undrawn):
    out, report, partners = made
    arrays = dictionary.read_head(out / "rosetta")["arrays"]
    monkeypatch.setattr(chapter4, "mined", lambda *_, **__: pytest.fail("mined again"))
    monkeypatch.setattr(inverting, "inversions", lambda *_: pytest.fail("inverted again"))
    again = chapter4.run(model, out, partners=partners, limit=10)
    assert again == report
    assert dictionary.read_head(out / "rosetta")["arrays"] == arrays
    head = json.loads((out / "rosetta" / "dictionary.json").read_text())
    assert head["about"]["key"]["n_heldout"] == 10


def test_no_weights_at_all_is_refused(model, monkeypatch, tmp_path):
    def nothing(name):
        raise ValueError(f"no weights of {name}")

    monkeypatch.setattr(chapter4, "load_partner", nothing)
    with pytest.raises(ValueError, match=r"at least one partner, got none: no weights of cnn"):
        chapter4.run(model, tmp_path, limit=4)
    with pytest.raises(ValueError, match="no weights of vit"):
        chapter4.run(model, tmp_path, partners=["vit"], limit=4)


def test_measures_equal_loops_over_windows():
    draw = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 3, 12, 11, generator=draw), torch.rand(2, 3, 12, 11, generator=draw)
    error = ((one - other) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(comparing.psnr(one, other), 10 * torch.log10(1 / error))
    found = comparing.ssim(one, other)
    for i in range(2):
        values = []
        for channel in range(3):
            for row in range(12 - 6):
                for col in range(11 - 6):
                    a = one[i, channel, row : row + 7, col : col + 7].double().flatten().numpy()
                    b = other[i, channel, row : row + 7, col : col + 7].double().flatten().numpy()
                    cov = np.cov(a, b)
                    means = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
                    values.append(means * (2 * cov[0, 1] + 9e-4) / (cov[0, 0] + cov[1, 1] + 9e-4))
        assert float(found[i]) == pytest.approx(np.mean(values), abs=1e-4)
    assert float(comparing.ssim(one, one).min()) == pytest.approx(1, abs=1e-5)


def test_the_embedded_generator_serves_any_images(made, model, tmp_path, monkeypatch, undrawn):
    """With a folder, --generator demo is matched on its own samples and inverted and edited through; else it is asked
    for."""
    out, _, partners = made
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            clipviz.demo.images()[i + 30 * (name == "b")].save(tmp_path / "data" / name / f"{i}.png")
    book, seen = dictionary.load(out / "rosetta"), []
    monkeypatch.setattr(chapter4, "mine_into", lambda _, mining: seen.append(mining) or book)
    for part in ("pairs", "dictionary", "image", "painted", "editing"):
        monkeypatch.setattr(chapter4, f"{part}_section", lambda *given: given[0].section(str(len(given))))
    monkeypatch.setattr(chapter4, "inversion_section", lambda report, *_: report.section("inverted"))
    given = {"data": str(tmp_path / "data"), "partners": partners, "limit": 10}
    shutil.copytree(out / "rosetta", tmp_path / "out" / "rosetta")
    for generator, (embedded, needs) in {"demo": (1, 0), None: (0, 1)}.items():
        clipviz.reproduce.run("chapter4", model, tmp_path / "out", **given, generator=generator)
        blocks = json.loads((tmp_path / "out" / "blocks" / "chapter4.json").read_bytes())["blocks"]
        assert len([block for block in blocks if block["kind"] == "needs"]) == needs
        assert len([block for block in blocks if block.get("title") == "inverted"]) == embedded
        assert len(seen[-1].company) == len(partners) + embedded


def test_a_generator_that_cannot_be_opened_is_refused_before_anything_is_mined(model, tmp_path, monkeypatch):
    monkeypatch.setattr(chapter4, "_mining", lambda *_: pytest.fail("mined"))
    (tmp_path / "text.md").write_text("no weights")
    for wrong, message in (
        ({"generator": "nowhere.safetensors"}, "expected 'demo' or a file of a generator's weights"),
        ({"generator": str(tmp_path / "text.md")}, "cannot be read as weights alone"),
        ({"generator_class": 3}, "leave generator_class out"),
    ):
        with pytest.raises(ValueError, match=message):
            chapter4.run(model, tmp_path / "other", **wrong)


def test_what_an_edit_reaches_is_1_where_the_maps_are_as_asked(monkeypatch):
    generator = stylegan2(StyleGan2.of(random_state()).eval())
    latents = generator.sample(2, seed=1)
    guides = Guides({}, _own_units(generator, "b8.conv1"))

    def stay(*_, **__):
        return searching.Edited(latents, generator.images(latents), *[torch.zeros(2)] * 3)

    monkeypatch.setattr(editing, "edit", stay)
    still = any_generator.reached(generator, guides, "shift", Schedule(1), latents)
    assert still["edited"].tolist() == still["random"].tolist() == [0, 0]
    goal = {"moved": generator.sample(2, seed=9)}
    monkeypatch.setattr(any_generator, "asked_maps", lambda *_, **__: generator.maps(goal["moved"]))
    monkeypatch.setattr(
        editing,
        "edit",
        lambda *_, **__: searching.Edited(
            goal["moved"], generator.images(goal["moved"]), *[torch.zeros(2)] * 3
        ),
    )
    there = any_generator.reached(generator, guides, "shift", Schedule(1), latents)
    torch.testing.assert_close(there["edited"], torch.ones(2))
    assert (there["random"] < 0.9).all()


def test_edits_of_any_generator_are_pictures_in_0_to_1():
    """A search sees what the network gives, which may lie outside; a PSNR of that would fall below 0 dB."""
    generator = stylegan2(StyleGan2.of(random_state()).eval())
    latents = generator.sample(2, seed=1)
    assert generator.generate(latents)[0].min() < 0
    guides = Guides({}, _own_units(generator, "b8.conv1"))
    found = any_generator.reached(generator, guides, "shift", Schedule(1), latents)["images"]
    assert found.min() >= 0
    assert found.max() <= 1


def _own_units(generator, layer):
    """All units of a layer, each with itself."""
    maps = generator.maps(generator.sample(16, seed=2))[layer]
    std, mean = torch.std_mean(maps, (0, 2, 3))
    units = torch.arange(maps.shape[1])
    return (UnitPairs(layer, layer, units, units, mean, std, mean, std),)


def test_parts_of_an_edit_are_judged_one_by_one():
    generator = clipviz.load_generator("demo")
    latents = report_of_edits.one_object(generator, 4)
    one_way = np.ones(len(latents))
    parts = report_of_edits.part_shares(generator, latents, "shift", latents, one_way)
    assert {part: share.value for part, share in parts.items()} == {
        "number": 1.0,
        "place": 0.0,
        "size": 1.0,
        "ground": 1.0,
    }
    assert report_of_edits.part_shares(generator, latents, "zoom", latents)["size"].value == 0.0
