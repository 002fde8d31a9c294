"""The demo's network, preprocessing and tokens are open_clip's, to the last bit, and its first board is without it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from clipviz.demo.model import network
from clipviz.demo.model.preprocessing import preprocessing
from tests.demo.test_training import TINY


def theirs(config):
    import open_clip

    return open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])


def drawn(build, config):
    torch.manual_seed(3)
    return build(config).eval()


def test_weights_are_drawn_named_and_ordered_as_open_clips():
    ours, other = drawn(network.build, TINY).state_dict(), drawn(theirs, TINY).state_dict()
    assert list(ours) == list(other)
    assert all(torch.equal(ours[name], other[name]) for name in other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_embeddings_are_those_of_open_clip_with_the_same_weights(model, dtype):
    config = network.read_config()
    ours = network.build(config, drawn=False).eval()
    other = theirs(config).eval()
    for made in (ours, other):
        made.load_state_dict(model.network.state_dict())
        made.to(dtype)
    pixels = torch.randn(2, 3, 96, 96).to(dtype)
    ids = network.tokenize(["a red duck", "two crabs in the sea, under a yellow sun"])
    with torch.no_grad():
        assert torch.equal(ours.encode_image(pixels), other.encode_image(pixels))
        assert torch.equal(ours.encode_text(ids), other.encode_text(ids))
        assert torch.equal(ours.encode_text(ids, normalize=True), other.encode_text(ids, normalize=True))


def test_patches_are_dropped_by_the_training_alone():
    with pytest.raises(ValueError, match=r"expected patch_dropout 0 in the configuration, got 0.5"):
        network.build(TINY | {"vision_cfg": TINY["vision_cfg"] | {"patch_dropout": 0.5}})


@pytest.mark.parametrize("kind", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clips_transform(kind):
    import open_clip

    settings = network.read_config()["preprocess"] | {"interpolation": kind}
    ours = preprocessing(**settings)
    settings["image_size"] = settings.pop("size")
    other = open_clip.image_transform(is_train=False, **settings)
    draw = np.random.default_rng(0)
    for rows, cols in ((96, 96), (97, 96), (95, 96), (96, 201), (33, 50), (131, 97), (1, 5)):
        picture = Image.fromarray(draw.integers(0, 256, (rows, cols, 3), dtype=np.uint8))
        for mode in ("RGB", "L", "RGBA"):
            assert torch.equal(ours(picture.convert(mode)), other(picture.convert(mode))), (rows, cols, mode)


BOARD = """import sys, clipviz
from clipviz.models.tokens import tokens_of
session = clipviz.Session(clipviz.load("demo"))
board = clipviz.Dashboard(session)
session.select(text="a photo of a dog", layer=3, head=2)
session.wait(300)
assert board.textspan.view["rows"], board.textspan.view
assert tokens_of(session.model).kind == "byte pairs"
print([name for name in ("open_clip", "torchvision", "timm", "transformers", "torch._dynamo") if name in sys.modules])
session.close()"""


def test_the_first_board_is_shown_without_the_packages_that_are_slow_to_import():
    done = subprocess.run([sys.executable, "-c", BOARD], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "[]"
