"""Two untrained partners and a dictionary mined between them and the demo model, once for all tests of a worker."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn

import clipviz
from clipviz.analysis.rosetta import dictionaries
from clipviz.data import dictionary as saved
from clipviz.models.preprocess import Preprocess
from clipviz.models.zoo import Partner

TEXTS = ["a red circle", "a dog", "in the sea", "two apples", "in the forest", "a yellow object"]
HALVES = Preprocess(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def tiny(name, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 12, 5, 2, 2), nn.ReLU(), nn.Conv2d(12, 8, 3, 2, 1), nn.ReLU()).eval()
    return Partner(name, network.requires_grad_(False), HALVES, ("1", "3"), loss=f"untrained {seed}")


@functools.cache
def tiny_pair():
    return {"one": tiny("one", 0), "two": tiny("two", 1)}


@functools.cache
def tiny_images():
    return clipviz.demo.images().subset(range(20))


@functools.cache
def tiny_dictionary(model):
    """What is mined of `tiny_images`, held out on twelve others."""
    fresh = clipviz.demo.images().subset(range(40, 52))
    return dictionaries.mined(
        model, [*tiny_pair().values()], tiny_images(), fresh, TEXTS, at_least=1, above=0.3
    )


@functools.cache
def _kept(model):
    """The dictionary saved once, in a folder that goes with the process."""
    folder = tempfile.TemporaryDirectory()
    about = dictionaries.about(model, [*tiny_pair().values()], tiny_images())
    saved.save(tiny_dictionary(model), Path(folder.name) / "book", about)
    return folder


def tiny_book(model, folder):
    """The dictionary in a folder of its own within `folder`, for a test to change."""
    shutil.copytree(Path(_kept(model).name) / "book", folder / "book")
    return folder / "book"
