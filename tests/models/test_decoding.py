"""One decoder for every way in: a file, its PIL image, a data set's item and an index say the same of 42 files."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from PIL import Image

from clipviz.data.images import open_images
from clipviz.models.preprocess import Preprocess
from tests.models.many_files import scene, write_all


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("files") / "all")


def test_pil_images_are_decoded_as_a_collection_decodes_their_files(model, files):
    images = open_images(files)
    assert len(images) == len(files) == 42
    expected = model.prepare([images[i] for i in range(len(images))])
    with ExitStack() as stack:
        opened = [stack.enter_context(Image.open(file)) for file in files]
        assert torch.equal(model.prepare(opened), expected)
        assert torch.equal(model.prepare(opened), expected), "they are left as they were"
        partner = Preprocess(48)
        assert torch.equal(partner(opened), partner([images[i] for i in range(len(images))]))
        assert torch.equal(model.trace(opened[9]).embedding, model.trace(images[9]).embedding)
        assert torch.equal(model.encode_images(opened[9]), model.encode_images(images[9]))
        assert (model.shown_sharp(opened[9]) == model.shown_sharp(images[9])).all()


def test_a_data_set_of_such_images_is_decoded_alike(model, files):
    class Opened:
        def __len__(self):
            return len(files)

        def __getitem__(self, i):
            return opened[i]

    with ExitStack() as stack:
        opened = [stack.enter_context(Image.open(file)) for file in files]
        images, items = open_images(files), open_images(Opened())
        assert all(images[i].tobytes() == items[i].tobytes() for i in range(len(files)))


def test_orientations_are_one_upright_picture(files):
    upright = scene()
    for file, image in zip(files, open_images(files), strict=True):
        if file.suffix == ".png" and file.name.startswith("orientation"):
            turned = {5, 6, 7, 8}
            sides = upright.size[::-1] if int(file.stem[-1]) in turned else upright.size
            assert image.size == sides


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_ranges_beyond_eight_bits_are_scaled_not_cut(model, mode):
    grey = scene().convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    given = deep if mode == "I;16" else grey.convert("F")
    apart = (model.prepare(given) - model.prepare(grey)).abs().max()
    assert apart < 0.02
