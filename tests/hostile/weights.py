"""Hostile weights: pickles that would run code, under every name and in every form; changed bytes of shipped files."""

from __future__ import annotations

import io
import math
import os
import pickle
import random
import shutil
import tempfile
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import clipviz
from clipviz.data import dictionary
from clipviz.data.images import open_images
from clipviz.data.texts import open_texts
from clipviz.demo.generator import demo_generator
from clipviz.demo.model import network
from clipviz.demo.partners import ASSETS, NETS, load_net
from clipviz.models.checksummed import read_weights
from clipviz.models.zoo import Partner

from .files import concepts, mutated, picture, small_index
from .tally import Tally

SUFFIXES = (
    ".pt",
    ".pth",
    ".bin",
    ".ckpt",
    ".pkl",
    ".safetensors",
    ".npy",
    ".npz",
    ".jpg",
    ".tar",
    ".parquet",
    ".txt",
)
SUFFIXES += (".csv", ".json", "")  # fmt: skip

HARMLESS: list[Any] = [
    [1, 2],
    {"weight": 3},
    {3: torch.zeros(2)},
    {"state_dict": {"": None}},
    torch.zeros(3),
    None,
    "",
]


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.mark,)


def trapped(mark: str, rng: random.Random) -> bytes:
    """A pickle in one of the forms that weights, arrays and archives come in."""
    trap, stream = Trap(mark), io.BytesIO()
    content = rng.choice(
        (trap, {"state_dict": trap}, {"weight": torch.zeros(2), "more": trap}, [trap], *HARMLESS)
    )
    kind = rng.randrange(6)
    if kind == 0:
        return pickle.dumps(content, rng.randrange(6))
    if kind == 1:
        torch.save(content, stream)
    elif kind == 2:
        torch.save(content, stream, _use_new_zipfile_serialization=False)
    elif kind == 3:
        np.save(stream, np.array([trap, 1], object), allow_pickle=True)
    elif kind == 4:
        np.savez(stream, correlation=np.array([trap], object), units=np.array([trap], object))
    else:
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(content))
    return stream.getvalue()


def _openers(folder: Path) -> dict[str, Callable[[Path], Any]]:
    small_index(folder / "index")
    dictionary.save(concepts(), folder / "dictionary", {"model": "m"}, {0: picture(0)})

    def in_place_of(kept: Path, open_it: Callable[[Path], Any]) -> Callable[[Path], Any]:
        """Open a copy of a folder, one of whose files is the pickle."""

        def run(path: Path) -> Any:
            copy = path.with_name("copy")
            shutil.copytree(kept, copy)
            try:
                files = sorted(file for file in copy.iterdir() if file.is_file())
                shutil.copy(path, files[len(path.suffix) % len(files)])
                return open_it(copy)
            finally:
                shutil.rmtree(copy)

        return run

    def read(index: clipviz.Index) -> None:
        index.codes(range(7))
        index.statistics()

    return {
        "load": lambda path: clipviz.load("demo", pretrained=str(path), device="cpu"),
        "load_partner": lambda path: clipviz.load_partner("cnn", checkpoint=path),
        "load_generator": lambda path: clipviz.load_generator(
            nn.Linear(2, 2), kind="stylegan2", checkpoint=path
        ),
        "images": open_images,
        "texts": open_texts,
        "index": in_place_of(folder / "index", lambda copy: read(clipviz.Index.open(copy))),
        "dictionary": in_place_of(folder / "dictionary", dictionary.open_folder),
        "token": lambda path: clipviz.Selection.from_token(urlsafe_b64encode(path.read_bytes()).decode()),
    }


def pickles(attempts: int, seed: int) -> Tally:
    """Nothing that opens a file runs what a pickle says."""
    tally, rng = Tally("pickles"), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        openers, mark = _openers(folder), folder / "it ran"
        for turn in range(attempts):
            opener, path = rng.choice(sorted(openers)), folder / f"file{rng.choice(SUFFIXES)}"
            path.write_bytes(trapped(str(mark), rng))

            def attempt(opener: str = opener, path: Path = path) -> None:
                try:
                    openers[opener](path)
                finally:
                    assert not mark.exists(), "code of a pickle ran"

            tally.attempt(f"{opener} {path.name} {turn}", attempt, (ValueError, OSError))
            path.unlink()
            shutil.rmtree(mark, ignore_errors=True)
    return tally


def shipped_bytes(attempts: int, seed: int) -> Tally:
    """Shipped weights of which any byte has changed are refused."""
    tally, rng = Tally("shipped bytes"), random.Random(seed)
    files: dict[Path, Callable[[Path], Any]] = {
        network.WEIGHTS_FILE: lambda path: read_weights(path, "weights", "do"),
        demo_generator.WEIGHTS: demo_generator.open_demo_generator,
        **{ASSETS / f"{name}.safetensors": partial(load_net, name) for name in NETS},
    }
    contents = {path: path.read_bytes() for path in files}
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name, "weights.safetensors")
        for turn in range(attempts):
            path = rng.choice(sorted(files))
            changed = mutated(contents[path], rng)
            copy.write_bytes(changed)

            def attempt(path: Path = path, same: bool = changed == contents[path]) -> None:
                files[path](copy)
                assert same, "changed weights were loaded"

            tally.attempt(f"{path.name} {turn}", attempt)
    return tally


def spoilt(attempts: int, seed: int) -> Tally:
    """One number of a network's weights is NaN or infinite: the network is refused, and the weight named."""
    tally, rng = Tally("spoilt weights"), random.Random(seed)
    models: list[tuple[nn.Module, Callable[[nn.Module], Any]]] = [
        (clipviz.load("demo", device="cpu").network, clipviz.wrap),
        *((load_net(name), partial(_partner, name)) for name in NETS),
    ]
    for turn in range(attempts):
        network, open_it = rng.choice(models)
        name, weight = rng.choice([pair for pair in network.named_parameters() if pair[1].numel()])
        flat, at = weight.data.view(-1), rng.randrange(weight.numel())
        before, flat[at] = flat[at].item(), rng.choice((math.nan, math.inf, -math.inf))

        def attempt(network: nn.Module = network, open_it: Any = open_it, name: str = name) -> None:
            try:
                open_it(network)
            except ValueError as error:
                if repr(name) not in str(error):
                    raise AssertionError(f"{name} is not named: {error}") from error
                return
            raise AssertionError("weights that are no numbers were taken")

        tally.attempt(f"{name} {turn}", attempt)
        flat[at] = before
    return tally


def _partner(name: str, network: nn.Module) -> Partner:
    return Partner(name, network, lambda images: images, ("",))


CAMPAIGNS = {"pickles": pickles, "shipped bytes": shipped_bytes, "spoilt weights": spoilt}
