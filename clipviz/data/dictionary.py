"""A dictionary of Rosetta neurons on disk: a few small files in a folder, open in milliseconds.

    dictionary.json   models, layers, labels, hints, k, and the names of the other files; written last, atomically
    arrays-<hash>.npz units, correlations, clusters, example ids, and how every unit looks on its examples
    pictures-<hash>.jpg  the example images, one sprite; only where pictures were given
The other files are named by their content and the JSON names them, so a save that is killed leaves the former
dictionary whole.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from clipviz.data.files import write_whole
from clipviz.values import Concepts, UnitThumbnails

FORMAT = 2
SIDE = 96
"""Pixels a side of the pictures kept with a dictionary."""
_ARRAYS = {
    "units": np.int64,
    "correlation": np.float32,
    "heldout": np.float32,
    "cluster": np.int64,
    "examples": np.int64,
    "n_pairs": np.int64,
    "n_chance": np.int64,
    "threshold": np.float32,
}
_THUMBNAILS = {"maps": np.uint8, "floor": np.float32, "peak": np.float32}


@dataclass(frozen=True)
class Dictionary:
    """An opened dictionary: its concepts, where it comes from, and its pictures.

    about: as it was saved, "model" being the fingerprint of the pivot; folder: where it lies, None when it was never
    saved; picture_ids: the images whose pictures are kept.
    """

    concepts: Concepts
    about: Mapping[str, Any]
    folder: Path | None = None
    picture_ids: tuple[int, ...] = ()
    sprite: bytes = b""
    columns: int = 1

    @functools.cached_property
    def _sheet(self) -> Image.Image:
        return Image.open(io.BytesIO(self.sprite)).convert("RGB")

    @functools.cached_property
    def _places(self) -> dict[int, int]:
        return {image: place for place, image in enumerate(self.picture_ids)}

    def picture(self, image: int, size: int = SIDE) -> Image.Image:
        """The kept picture of an image, size x size px; grey where there is none."""
        place = self._places.get(int(image))
        if place is None:
            return Image.new("RGB", (size, size), (128, 128, 128))
        row, col = divmod(place, self.columns)
        tile = self._sheet.crop((col * SIDE, row * SIDE, (col + 1) * SIDE, (row + 1) * SIDE))
        return tile if size == SIDE else tile.resize((size, size), Image.Resampling.BICUBIC)

    def named(self, concept: int, label: str) -> Dictionary:
        """The dictionary with a person's name for a concept. Raises ValueError for a concept that is not there."""
        if not 0 <= concept < len(self.concepts):
            raise ValueError(f"expected a concept within 0..{len(self.concepts) - 1}, got {concept}")
        labels = list(self.concepts.labels or ("",) * len(self.concepts))
        labels[concept] = " ".join(str(label).split())[:80]
        return replace(self, concepts=replace(self.concepts, labels=tuple(labels)))

    def save(self, folder: str | Path) -> Dictionary:
        """Write it into a folder; returns the dictionary that lies there."""
        pictures = {image: self.picture(image) for image in self.picture_ids}
        save(self.concepts, folder, dict(self.about), pictures)
        return replace(self, folder=Path(folder))


def save(
    concepts: Concepts,
    folder: str | Path,
    about: dict[str, Any] | None = None,
    pictures: Mapping[int, Image.Image] | None = None,
) -> Path:
    """Write a dictionary into a folder, replacing the one that is there; returns the folder.

    about: anything JSON can hold that says where it comes from: "model", the pivot's fingerprint, "images" the
    collection's. pictures: image id -> picture of the example images, kept as squares of 96 px.
    Raises ValueError when the arrays do not agree in length, or the path is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder for the dictionary, got the file {folder}; pass another path")
    arrays = {name: np.asarray(getattr(concepts, name), dtype) for name, dtype in _ARRAYS.items()}
    _check(arrays, concepts)
    if concepts.thumbnails is not None:
        arrays |= {k: np.asarray(getattr(concepts.thumbnails, k), t) for k, t in _THUMBNAILS.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    content = b"".join(array.tobytes() for array in arrays.values())
    name = f"arrays-{hashlib.sha256(content).hexdigest()[:16]}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / name, buffer.getvalue())
    sheet = _save_pictures(folder, pictures or {})
    head = {
        "format": FORMAT,
        "arrays": name,
        "models": list(concepts.models),
        "layers": [[[layer, int(n)] for layer, n in layers] for layers in concepts.layers],
        "k": int(concepts.k),
        "labels": list(concepts.labels),
        "hints": [[text, round(float(value), 3)] for text, value in concepts.hints],
        "pictures": sheet,
        "about": about or {},
    }
    write_whole(folder / "dictionary.json", json.dumps(head, indent=1, ensure_ascii=False).encode())
    for old in (*folder.glob("arrays-*.npz"), *folder.glob("pictures-*.jpg")):
        if old.name not in (name, sheet.get("file")):
            old.unlink(missing_ok=True)
    return folder


def _save_pictures(folder: Path, pictures: Mapping[int, Image.Image]) -> dict[str, Any]:
    """One sprite of square pictures, row by row, and what the JSON says about it."""
    if not pictures:
        return {}
    columns = math.ceil(math.sqrt(len(pictures)))
    sheet = Image.new("RGB", (columns * SIDE, math.ceil(len(pictures) / columns) * SIDE), "white")
    for place, picture in enumerate(pictures.values()):
        tile = ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC)
        sheet.paste(tile, (place % columns * SIDE, place // columns * SIDE))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=88)
    name = f"pictures-{hashlib.sha256(sheet.tobytes()).hexdigest()[:16]}.jpg"
    write_whole(folder / name, stream.getvalue())
    return {"file": name, "ids": [int(image) for image in pictures], "columns": columns}


def load(folder: str | Path) -> Concepts:
    """The concepts that `save` wrote, with numpy arrays. Raises ValueError as `open_folder` does."""
    return open_folder(folder).concepts


def open_folder(folder: str | Path, model: str | None = None) -> Dictionary:
    """The dictionary in a folder, with its pictures.

    model: the fingerprint of the pivot it must have been mined for. Raises ValueError when there is none, it is
    damaged, of another format, or of another model.
    """
    folder = Path(folder)
    head = read_head(folder)
    found = head["about"].get("model")
    if model is not None and found != model:
        raise ValueError(
            f"the dictionary in {folder.name} was mined for model {str(found)[:12]}, not for {model[:12]}; mine this "
            "model's own with `clipviz reproduce chapter4`"
        )
    sheet = head["pictures"]
    try:
        with np.load(folder / head["arrays"], allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS}
            looks = {name: file[name] for name in _THUMBNAILS if name in file.files}
        sprite = (folder / sheet["file"]).read_bytes() if sheet else b""
    except (OSError, KeyError, ValueError, EOFError, zlib.error) as error:
        raise ValueError(
            f"the dictionary in {folder} is damaged ({error}); mine and save it again"
        ) from error
    layers = tuple(tuple((str(layer), int(n)) for layer, n in layers) for layers in head["layers"])
    concepts = Concepts(
        models=tuple(head["models"]),
        layers=layers,
        k=int(head["k"]),
        labels=tuple(head["labels"]),
        hints=tuple((str(text), float(value)) for text, value in head["hints"]),
        thumbnails=UnitThumbnails(**looks) if looks else None,
        **arrays,
    )
    _check(arrays, concepts)
    ids: Sequence[int] = sheet.get("ids", ())
    return Dictionary(concepts, head["about"], folder, tuple(ids), sprite, int(sheet.get("columns", 1)))


def summary(concepts: Concepts) -> str:
    """A few lines: rows and concepts, and for each partner its pairs, the chance pairs and the held-out mean."""
    n_clusters = len(np.unique(np.asarray(concepts.cluster)))
    lines = [f"{len(concepts)} units of {concepts.models[0]} in {n_clusters} concepts"]
    units, heldout = np.asarray(concepts.units), np.asarray(concepts.heldout)
    for i, model in enumerate(concepts.models[1:], start=1):
        there = units[:, i] >= 0
        mean = float(heldout[there, i].mean()) if there.any() else 0.0
        lines.append(
            f"{model}: {int(concepts.n_pairs[i])} best buddies {float(concepts.threshold[i]):.2f} above chance "
            f"({int(concepts.n_chance[i])} with shuffled images), {int(there.sum())} rows, held-out mean {mean:.2f}"
        )
    return "\n".join(lines)


def read_head(folder: str | Path) -> dict[str, Any]:
    """What dictionary.json says, `about` included, without reading the arrays. Raises ValueError as `load` does."""
    path = Path(folder) / "dictionary.json"
    if not path.is_file():
        raise ValueError(
            f"no dictionary in {folder}: {path.name} is not there; save one with data.dictionary.save"
        )
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        found = head["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a dictionary of this package ({error}); save it again") from error
    if found != FORMAT:
        raise ValueError(f"expected a dictionary of format {FORMAT}, got {found}; mine and save it again")
    return head


def _check(arrays: dict[str, np.ndarray], concepts: Concepts) -> None:
    n_models, n_rows = len(concepts.models), len(arrays["units"])
    shapes = {
        **dict.fromkeys(("units", "correlation", "heldout"), (n_rows, n_models)),
        **dict.fromkeys(("n_pairs", "n_chance", "threshold"), (n_models,)),
        "cluster": (n_rows,),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"expected {name} of shape {shape} for {n_rows} concepts and {n_models} models, got "
                f"{arrays[name].shape}; build Concepts with one row a concept"
            )
    named = {len(concepts.labels), len(concepts.hints)}
    if len(arrays["examples"]) != n_rows or not named <= {0, n_rows}:
        raise ValueError(
            f"expected examples, labels and hints for {n_rows} concepts; build Concepts with one row a concept"
        )
