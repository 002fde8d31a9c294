"""A picture becomes the same pixels in the page as in Python: resized as Pillow does, cropped, normalised."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import clipviz
from clipviz.page.carrying import _picture
from clipviz.page.export import CannotExport
from clipviz.page.preprocessing import Steps, steps_of
from tests.page.node import answer

MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
STEPS = [
    Steps({"short": 96}, [96, 96], "bicubic", MEAN, STD),
    Steps({"short": 50}, [48, 47], "bilinear", MEAN, STD),
    Steps({"size": [64, 80]}, None, "bilinear", MEAN, STD),
    Steps({"size": [224, 224]}, None, "bicubic", MEAN, STD),
    Steps({"short": 51}, [48, 47], "bicubic", MEAN, STD, odd="below"),
]
SIZES = ((131, 97), (60, 201), (96, 96), (33, 1000), (480, 640))


def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(2)
    return [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in SIZES]


def test_every_byte_is_pillows(tmp_path):
    asked, wanted = [], []
    for i, picture in enumerate(pictures()):
        file = tmp_path / f"{i}.raw"
        file.write_bytes(np.asarray(picture).tobytes())
        for steps in STEPS:
            asked.append(
                {"file": str(file), "rows": picture.height, "cols": picture.width, "steps": steps.to_dict()}
            )
            wanted.append((steps, steps.fitted(picture)))
    kept = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) ** 2
    page = answer("fit.mjs", pictures=asked, kept=list(_picture(kept)))
    for found, (steps, fitted) in zip(page["found"], wanted, strict=True):
        assert [found["rows"], found["cols"]] == list(fitted.shape[:2])
        data = np.array(found["data"], np.uint8).reshape(fitted.shape)
        # Where proportions change, Pillow may resize rows before columns, and rounds in between.
        assert np.abs(data.astype(int) - fitted).max() <= ("size" in steps.resize)
        assert np.allclose(found["pixels"], steps.pixels(data).ravel()[:500], rtol=0, atol=1e-6)
    assert page["restored"] == kept.ravel().tolist()


def test_steps_are_tried_before_they_are_believed(monkeypatch):
    model = clipviz.load("demo", device="cpu")
    assert steps_of(model) == Steps({"short": 96}, [96, 96], "bicubic", [0.5] * 3, [0.25] * 3)
    plain = model.preprocess
    monkeypatch.setattr(model, "preprocess", lambda picture: plain(picture))
    with pytest.raises(CannotExport, match="not composed of torchvision's steps"):
        steps_of(model)

    class Odd:
        transforms = plain.transforms

        def __call__(self, picture):
            return plain(picture) * 1.001

    monkeypatch.setattr(model, "preprocess", Odd())
    with pytest.raises(CannotExport, match="pixels differ"):
        steps_of(model)


@pytest.mark.parametrize("build", ["clip", "siglip"])
def test_processors_of_hugging_face_have_steps(build):
    pytest.importorskip("transformers")
    from tests.models import hf_models

    steps = steps_of(clipviz.wrap(*getattr(hf_models, build)()))
    wanted = {"clip": ({"short": 32}, [32, 32]), "siglip": ({"size": [32, 32]}, None)}[build]
    assert (steps.resize, steps.crop) == wanted
