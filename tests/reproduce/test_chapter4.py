"""Chapter 4 reproduced on a few images and tiny partners; the measures of inversion against plain ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_dictionary import tiny, tiny_pair

import clipviz
from clipviz.data import dictionary
from clipviz.figures import style
from clipviz.reproduce import chapter4, chapters, inverting


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("chapter4")
    partners = [*tiny_pair().values()]
    report = clipviz.reproduce.run("chapter4", model, out, partners=partners, limit=10)
    return out, report, partners


def test_the_chapter_is_registered():
    assert "chapter4" in chapters()


def test_the_report_has_its_tables_and_figures(made):
    out, report, _ = made
    text = report.read_text()
    for title in ("Models (Table 4.2)", "by chance", "Figure 4.1", "Figures 4.2", "Table 4.1", "Figures 4.7"):
        assert title in text
    for name in (
        "pairs",
        "held-out",
        "layers",
        "dictionary-1",
        "one-image",
        "inversion",
        "translated",
        "edits",
    ):
        svg = (out / "figures" / f"{name}.svg").read_text()
        assert "<text" in svg or name in ("translated", "edits")  # text stays text
        assert (out / "figures" / f"{name}.pdf").stat().st_size > 1000
    for row in (
        "perceptual loss",
        "+ clip pairs",
        "+ vit pairs",
        "+ R over all",
        "unseen style",
        "copy | two objects",
    ):
        assert f"| {row} |" in text


def test_the_dictionary_beside_it_opens_in_a_session(made, model):
    out, _, partners = made
    with_images = clipviz.Session(
        model, clipviz.demo.images().subset(range(3)), ["a dog", "a cat"], background=False
    )
    book = with_images.rosetta(out / "rosetta", {partner.name: partner for partner in partners})
    assert len(book.concepts) > 5
    assert book.opened.picture_ids
    assert book.on_image(1).strength.max() > 0
    with_images.close()


def test_a_second_run_mines_nothing_again(made, model, monkeypatch):
    out, report, partners = made
    arrays = dictionary.read_head(out / "rosetta")["arrays"]
    monkeypatch.setattr(chapter4, "mined", lambda *_, **__: pytest.fail("mined again"))
    monkeypatch.setattr(inverting, "inversions", lambda *_: pytest.fail("inverted again"))
    monkeypatch.setattr(style, "save", lambda *_, **__: [])  # the figures are there already
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


def test_an_untrained_copy_has_other_weights_and_the_same_units():
    partner = tiny("one", 0)
    fresh = chapter4.untrained_copy(partner, seed=5)
    pictures = torch.rand(2, 3, 48, 48)
    before, after = partner.maps(pictures), fresh.maps(pictures)
    assert {name: maps.shape for name, maps in before.items()} == {
        name: maps.shape for name, maps in after.items()
    }
    assert not torch.allclose(before["1"], after["1"])
    torch.testing.assert_close(tiny("one", 0).maps(pictures)["1"], before["1"])


def test_measures_equal_loops_over_windows():
    draw = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 3, 12, 11, generator=draw), torch.rand(2, 3, 12, 11, generator=draw)
    error = ((one - other) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(inverting.psnr(one, other), 10 * torch.log10(1 / error))
    found = inverting.ssim(one, other)
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
    assert float(inverting.ssim(one, one).min()) == pytest.approx(1, abs=1e-5)
