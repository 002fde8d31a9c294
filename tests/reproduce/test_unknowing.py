"""Everything on a tower that knows nothing: random weights, a folder of one's own, stand-ins for who writes and draws.

Nothing raises, and what is not measured says which option it needs or why there is nothing to measure.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from random_stylegan2 import random_state
from safetensors.torch import save_file
from waterbirds import write_birds

import clipviz
from clipviz import reproduce
from clipviz.data import dictionary
from clipviz.figures import style
from clipviz.reproduce import contents, evaluation
from clipviz.reproduce.chapter3 import layers
from clipviz.reproduce.chapter4 import any_generator
from clipviz.reproduce.chapter4 import chapter as chapter4
from clipviz.reproduce.report import blocks_of

TEXTS = clipviz.demo.texts()
DRAWN, OTHER = "swan", "flamingo"


ASKED, TRACED = [], []


class Writer:
    name = "a stand-in"

    def __call__(self, words, class_name, avoid):
        if class_name == DRAWN:
            return [f"a {avoid}"]  # never a fair one
        return [f"a {class_name} and {word}" for word in words[:3]]


class Describer:
    name = "a stand-in for classes"

    def __call__(self, name):
        ASKED.append(name)
        return [f"something {word} with {len(name)} letters" for word in ("red", "blue", "large")]


def draw(sentence, seed):
    rng = np.random.default_rng([seed, len(sentence)])
    return Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))


@pytest.fixture(scope="module")
def tower():
    from open_clip.model import CLIP

    torch.manual_seed(0)
    vision = {"layers": 3, "width": 32, "head_width": 8, "patch_size": 8, "image_size": 32}
    text = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    return clipviz.wrap(CLIP(24, vision, text), name="ViT-L-14")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of two classes, the same in another style, masks, birds, a generator's weights."""
    root, images = tmp_path_factory.mktemp("own"), clipviz.demo.images()
    table = images.attributes
    for name in (DRAWN, OTHER):
        rows = [i for i, one in enumerate(table["class"]) if one == name]
        for place, i in enumerate(rows[:11]):
            picture = root / ("data" if place < 8 else "style") / name / f"{i}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            images[i].save(picture)
            if place < 2:
                for kind, shown in (
                    ("images", images[i]),
                    ("masks", Image.fromarray(np.uint8(255 * (images.masks(i) > 0)))),
                ):
                    target = root / "masked" / kind / name / f"{i}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shown.save(target)
    write_birds(root / "birds", 3)
    save_file({key: value.contiguous() for key, value in random_state().items()}, root / "g.safetensors")
    return root


@pytest.fixture(scope="module")
def page(tower, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "open_texts", lambda name: TEXTS)
        patch.setattr(layers, "MIN_TOP", 8)
        trace = evaluation._trace_chunk
        patch.setattr(evaluation, "_trace_chunk", lambda *a: (TRACED.append(len(a[2])), trace(*a))[1])
        patch.setattr(
            style, "save", lambda figure, path, formats=(): path.with_suffix(".svg").write_text("<svg/>")
        )
        (folder / "out" / "figures").mkdir(parents=True)
        yield reproduce.run(
            "all",
            tower,
            folder / "out",
            data=str(folder / "data"),
            segmentation=str(folder / "masked"),
            waterbirds=str(folder / "birds"),
            shifted=str(folder / "style"),
            describe=Writer(),
            draw=draw,
            describe_classes=Describer(),
            pairs=[(DRAWN, OTHER), (OTHER, DRAWN)],
            partners=["cnn", "vit"],
            generator=str(folder / "g.safetensors"),
            quick=True,
            limit=12,
            quiet=True,
        ).path


def test_every_chapter_is_written_and_only_what_an_option_gives_is_missing(page):
    folder = page.parent
    for chapter in ("chapter2", "chapter3", "chapter4"):
        blocks = json.loads(blocks_of(folder, chapter).read_bytes())["blocks"]
        found = contents.where_shown(blocks)
        assert contents.missing(found, chapter) == [], chapter
        options = {option for _, option in found.values()} - {""}
        assert options <= {"pip install 'clipviz[words]'"}, chapter
    blocks = json.loads(blocks_of(folder, "chapter4").read_bytes())["blocks"]
    (table,) = [block for block in blocks if block.get("head", [""])[-1:] == ["difference"]]
    assert [row[0] for row in table["rows"]] == ["the generator's"]  # one without classes
    assert {"rosetta-translated", "rosetta-translated-more"} & {
        block.get("name", "") for block in blocks
    } or any("Figures 4.4, 4.5" in block.get("caption", "") for block in blocks)
    assert "Not measured" not in page.read_text()


def test_a_folder_in_another_style_is_looked_at_before_anything_is_measured(tower, folder, tmp_path):
    with pytest.raises(ValueError, match="expected a folder with a subfolder for each class, got 0 classes"):
        reproduce.run(
            "chapter3",
            tower,
            tmp_path,
            data=str(folder / "data"),
            shifted=str(folder / "data" / DRAWN),
            quiet=True,
        )
    assert not list(tmp_path.glob("steps/neurons*"))


def test_no_chapter_writes_over_another_ones_figures(page):
    chapters = ("chapter2", "chapter3", "chapter4")
    files = [
        {
            block["file"]
            for block in json.loads(blocks_of(page.parent, name).read_bytes())["blocks"]
            if "file" in block
        }
        for name in chapters
    ]
    assert all(files)
    assert len(set.union(*files)) == sum(map(len, files))


def test_chapters_share_what_they_both_need(page):
    """A language model is asked about each class once, and the images are traced once (then the birds)."""
    assert sorted(ASKED) == sorted((DRAWN, OTHER))
    assert TRACED == [12, 12]


def test_a_dictionary_without_rows_is_said(page):
    """A random tower shares no unit with the partners above chance."""
    chapter4 = (page.parent / "chapter4.md").read_text()
    assert chapter4.count("the dictionary is empty") == 3
    for title in ("The dictionary (", "All concepts of one image (", "All concepts on generated pictures ("):
        assert f"## {title}" in chapter4


def test_a_generator_from_a_file_is_measured_once_and_without_a_truth(
    page, tower, folder, monkeypatch, undrawn
):
    text = (page.parent / "chapter4.md").read_text()
    for line in (
        "The units of stylegan2 that other models share (Table 4.2, Eq. 4.4)",
        "5 layers, 19 units, maps of 4 x 4, 8 x 8, 16 x 16",
        "| perceptual loss |",
        "| shift |",
        "*Figures C.1, C.2: images found by Rosetta neurons alone*",
    ):
        assert line in text
    assert "unseen style" not in text  # nothing that needs a truth
    assert dictionary.load(page.parent / "generator_rosetta").models[0] == "stylegan2"
    for module, made in (
        (chapter4, "mined"),
        (any_generator, "mined_from_generator"),
        (any_generator, "inversions"),
    ):
        monkeypatch.setattr(module, made, lambda *_, **__: pytest.fail("made again"))
    again = chapter4.run(
        tower,
        page.parent,
        data=str(folder / "data"),
        partners=["cnn", "vit"],
        generator=str(folder / "g.safetensors"),
        limit=12,
        quiet=True,
    )
    assert again.read_text().split("Made in")[0] == text.split("Made in")[0]


def test_what_a_model_without_knowledge_cannot_show_is_said(page):
    chapter3 = (page.parent / "chapter3.md").read_text()
    assert re.search(
        r"\*\*classes\*\*: accuracy 0\.\d+ on 12 images is no better than chance \(0\.500 for 2", chapter3
    )
    assert chapter3.count(f"**{DRAWN} → {OTHER}, second order**: no sentence to draw") == 1
    row = next(line for line in chapter3.splitlines() if line.startswith(f"| {DRAWN} → {OTHER} | "))
    assert row.count("–") == 4
    other = next(line for line in chapter3.splitlines() if line.startswith(f"| {OTHER} → {DRAWN} | "))
    assert "–" not in other
