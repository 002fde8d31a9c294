"""The dispatcher of reports: chapters by name, and options that a chapter does not have are refused by name."""

from __future__ import annotations

import pytest

from clipviz import cli, reproduce


def test_every_chapter_is_there():
    assert reproduce.CHAPTERS == ("world", "chapter2", "chapter3", "chapter4")


def test_an_unknown_chapter_names_those_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"expected a chapter among world, chapter2, .*got 'chapter9'"):
        reproduce.run("chapter9", out=tmp_path)


@pytest.mark.parametrize(
    ("chapter", "option"),
    [("chapter4", "segmentation"), ("chapter4", "waterbirds"), ("chapter3", "waterbirds")],
)
def test_an_option_of_another_chapter_is_refused_before_any_work(chapter, option, tmp_path, capsys):
    with pytest.raises(ValueError, match=rf"expected options of {chapter} \(.*limit.*\), got {option}"):
        reproduce.run(chapter, out=tmp_path, **{option: "somewhere"})
    assert cli.main(["reproduce", chapter, f"--{option}", "somewhere", "--out", str(tmp_path)]) == 2
    assert f"got {option}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chapter", ["chapter2", "chapter3"])
def test_a_pool_that_is_not_there_is_refused_before_any_work(chapter, tmp_path, capsys):
    missing, out = f"birds={tmp_path / 'birds.txt'}", str(tmp_path / "out")
    assert cli.main(["reproduce", chapter, "--pool", missing, "--out", out]) == 2
    assert "which does not exist" in capsys.readouterr().err
    assert cli.main(["reproduce", chapter, "--pool", "birds", "--out", out]) == 2
    assert "expected NAME=FILE or words:N" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
