"""What publishing asks for, refuses, and leaves in the folder."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import clipviz
from clipviz import extras
from clipviz.page import publishing
from clipviz.session import Session
from tests.models.families import with_an_unknown_tokenizer, with_texts


@pytest.fixture(scope="module")
def small():
    """A session of a tiny random model on a few pictures."""
    pictures = [Image.new("RGB", (32, 32), (40 * i, 90, 200 - 30 * i)) for i in range(6)]
    texts = [f"a picture of {thing}" for thing in ("a dog", "the sea", "red", "two birds")]
    model = with_an_unknown_tokenizer(with_texts("class token"))
    session = Session(model, images=pictures, texts=texts, background=False)
    yield session
    session.close()


def test_images_are_spread_over_the_collection_with_the_selected_one(small):
    small.select(image=4)
    assert publishing._chosen(small, 3) == [0, 2, 4]  # in the place of the one nearest to it
    assert publishing._chosen(small, 100) == list(range(6))
    assert publishing._chosen(small, [1, 2]) == [1, 2, 4]
    with pytest.raises(ValueError, match="expected at least 2 images to publish, got 1"):
        publishing._chosen(small, 1)
    with pytest.raises(ValueError, match=r"expected images within 0\.\.5, got 6"):
        publishing._chosen(small, [1, 6])


def test_a_folder_with_other_files_is_left_alone(small, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="expected a new, an empty or a published folder"):
        clipviz.publish(small, tmp_path)
    with pytest.raises(ValueError, match="got the file"):
        clipviz.publish(small, tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_a_model_the_saved_page_is_written(small, tmp_path):
    folder = clipviz.publish(small, tmp_path / "site", model=False)
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    assert "Saved page" in (folder / "index.html").read_text()
    assert small.heads.effects("red", 0).cosine == small.heads.effects("red", 0).cosine  # the session is open


def test_what_is_missing_is_named(small, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"expected desks among .*, got 'neuron'"):
        clipviz.publish(small, tmp_path / "site", desks=["neuron"])
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"onnx and onnxscript are not installed; pip install 'clipviz\[web\]'"
    ):
        clipviz.publish(small, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_published_folder_holds_what_its_manifest_names(small, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="the page's export needs the extra web")
    site = tmp_path / "site"
    for precision in ("float32", "float16"):  # the second replaces the first
        assert clipviz.publish(small, site, precision=precision) == site
        said = json.loads((site / "manifest.json").read_text())
        named = {part for content in said["contents"].values() for part in content["parts"]}
        assert named == {path.name for path in (site / "parts").iterdir()}
        assert max(path.stat().st_size for path in site.rglob("*")) < 25e6
        assert said["model"]["precision"] == precision
        for file in ("page.css", "NOTICES.txt", "script/board.js", "panels/heatmap/view.js"):
            assert (site / file).is_file()
        # A dark board has no white page before its style sheet is there.
        assert '<meta name="color-scheme" content="light dark">' in (site / "index.html").read_text()
    assert said["model"]["fingerprint"] != small.model.fingerprint
    assert "GB of a browser's memory" in capsys.readouterr().out
    assert small.selection.image == 4


def test_the_command_names_the_same_options(tmp_path, capsys):
    from clipviz.cli import main

    with pytest.raises(SystemExit):
        main(["publish", "--help"])
    assert "--precision" in capsys.readouterr().out
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["publish", str(tmp_path), "--no-model"]) == 2
    assert "with other files; choose another folder" in capsys.readouterr().err
