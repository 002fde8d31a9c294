"""A dictionary of Rosetta neurons on disk: a few small files in a folder, open in milliseconds.

    dictionary.json   models, layers, labels, hints, k, and names and checksums of the other files; written last
    arrays-<hash>.npz units, correlations, clusters, example ids, and how every unit looks on its examples
    pictures-<hash>.jpg  the example images, one sprite; only where pictures were given
The other files are named by their content and the JSON names them, so a save that is killed leaves the previous
dictionary intact. Every byte is covered by a checksum, the JSON's own included.
"""

from __future__ import annotations

import functools
import io
import lzma
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from clipviz.data.checksums import digest, with_checksum, without_checksum
from clipviz.data.paths import path_of
from clipviz.files import locked, write_whole
from clipviz.values import Concepts, UnitThumbnails

FORMAT = 3
SIDE = 96
"""Side of the stored pictures, in pixels."""
HEAD = "dictionary.json"
_MOST_BYTES = 1 << 31  # of unpacked arrays
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
    """An opened dictionary: its concepts, metadata and pictures.

    about: the saved metadata; "model" is the fingerprint of the pivot. folder: its location, None if it was never
    saved. picture_ids: the images whose pictures are stored.
    """

    concepts: Concepts
    about: Mapping[str, Any]
    folder: Path | None = None
    picture_ids: tuple[int, ...] = ()
    sprite: bytes = b""
    columns: int = 1

    @functools.cached_property
    def _sheet(self) -> Image.Image:
        return Image.open(io.BytesIO(self.sprite), formats=("JPEG",)).convert("RGB")

    @functools.cached_property
    def _places(self) -> dict[int, int]:
        return {image: place for place, image in enumerate(self.picture_ids)}

    def picture(self, image: int, size: int = SIDE) -> Image.Image:
        """Return the stored picture of an image, size x size px, or a grey one if there is none."""
        place = self._places.get(int(image))
        if place is None:
            return Image.new("RGB", (size, size), (128, 128, 128))
        row, col = divmod(place, self.columns)
        tile = self._sheet.crop((col * SIDE, row * SIDE, (col + 1) * SIDE, (row + 1) * SIDE))
        return tile if size == SIDE else tile.resize((size, size), Image.Resampling.BICUBIC)

    def named(self, concept: int, label: str) -> Dictionary:
        """Return the dictionary with a person's label for a concept. Raises ValueError for an unknown concept."""
        if not 0 <= concept < len(self.concepts):
            raise ValueError(f"expected a concept within 0..{len(self.concepts) - 1}, got {concept}")
        labels = list(self.concepts.labels or ("",) * len(self.concepts))
        labels[concept] = " ".join(str(label).split())[:80]
        return replace(self, concepts=replace(self.concepts, labels=tuple(labels)))

    def save(self, folder: str | Path, *, small: bool = False) -> Dictionary:
        """Save the dictionary to a folder; return the saved dictionary. small: as in `save`."""
        sheet = (self.sprite, list(self.picture_ids), self.columns) if self.picture_ids else None
        return replace(self, folder=_write(self.concepts, folder, dict(self.about), sheet, small))


def save(
    concepts: Concepts,
    folder: str | Path,
    about: dict[str, Any] | None = None,
    pictures: Mapping[int, Image.Image] | None = None,
    *,
    small: bool = False,
) -> Path:
    """Save a dictionary to a folder, replacing any dictionary there; return the folder.

    about: its origin, as anything that JSON can hold: "model", the pivot's fingerprint, "images" the
    collection's. pictures: image id -> picture of the example images, kept as squares of 96 px. small: pack the same
    arrays into a fifth less, which takes about 0.4 s per MB; for a dictionary that is shipped. Raises ValueError
    if the arrays differ in length or hold invalid values, or if the path is a file.
    """
    sheet = None
    if pictures:
        sprite, columns = _sheet_of(list(pictures.values()))
        sheet = (sprite, [int(image) for image in pictures], columns)
    return _write(concepts, folder, about or {}, sheet, small)


def _write(
    concepts: Concepts,
    folder: str | Path,
    about: dict[str, Any],
    sheet: tuple[bytes, list[int], int] | None,
    small: bool,
) -> Path:
    """Write the files, dictionary.json last. sheet: the sprite, the images on it, its columns."""
    folder = path_of(folder, "a folder for the dictionary")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder for the dictionary, got the file {folder}; pass another path")
    arrays = {name: np.asarray(getattr(concepts, name), dtype) for name, dtype in _ARRAYS.items()}
    if concepts.thumbnails is not None:
        arrays |= {k: np.asarray(getattr(concepts.thumbnails, k), t) for k, t in _THUMBNAILS.items()}
    head: dict[str, Any] = {
        "format": FORMAT,
        "models": list(concepts.models),
        "layers": [[[layer, int(n)] for layer, n in layers] for layers in concepts.layers],
        "k": int(concepts.k),
        "labels": list(concepts.labels),
        "hints": [[text, round(float(value), 3)] for text, value in concepts.hints],
        "about": about,
    }
    _check(head, arrays)
    packed = _packed(arrays, zipfile.ZIP_LZMA if small else zipfile.ZIP_DEFLATED)
    files = {_named("arrays", packed): packed}
    head["arrays"] = _entry("arrays", packed)
    head["pictures"] = {}
    if sheet is not None:
        sprite, ids, columns = sheet
        files[_named("pictures", sprite)] = sprite
        head["pictures"] = {**_entry("pictures", sprite), "ids": ids, "columns": columns}
    content = with_checksum(head)
    _check_head(without_checksum(content))  # check that the result can be read before replacing anything
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):  # if two processes save at once, the second cleans up after the first
        for name, part in files.items():
            write_whole(folder / name, part)
        write_whole(folder / HEAD, content)
        for old in (*folder.glob("arrays-*.npz"), *folder.glob("pictures-*.jpg")):
            if old.name not in files:
                old.unlink(missing_ok=True)
    return folder


def _packed(arrays: Mapping[str, np.ndarray], compression: int) -> bytes:
    """Return an .npz file of some arrays; of equal arrays, equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _named(kind: str, content: bytes) -> str:
    return f"{kind}-{digest(content)[:16]}.{_FILES[kind]}"


def _entry(kind: str, content: bytes) -> dict[str, Any]:
    """Return the JSON entry of one file."""
    return {"file": _named(kind, content), "bytes": len(content), "checksum": digest(content)}


def _sheet_of(pictures: list[Image.Image]) -> tuple[bytes, int]:
    """Return one sprite of square pictures, row by row, and its number of columns."""
    columns = math.ceil(math.sqrt(len(pictures)))
    sheet = Image.new("RGB", (columns * SIDE, math.ceil(len(pictures) / columns) * SIDE), "white")
    for place, picture in enumerate(pictures):
        tile = ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC)
        sheet.paste(tile, (place % columns * SIDE, place // columns * SIDE))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=88)
    return stream.getvalue(), columns


def load(folder: str | Path) -> Concepts:
    """Return the concepts that `save` wrote, with numpy arrays. Raises ValueError as `open_folder` does."""
    return open_folder(folder).concepts


def open_folder(folder: str | Path, model: str | None = None) -> Dictionary:
    """Open the dictionary in a folder, with its pictures.

    model: the fingerprint of the pivot it must have been mined for. Raises ValueError if there is none, if any
    byte is damaged, if it holds invalid values, or if it has another format or belongs to another model.
    """
    folder = path_of(folder, "the folder of a dictionary")
    for left in (2, 1, 0):
        head = read_head(folder)
        found = head["about"].get("model")
        if model is not None and found != model:
            raise ValueError(
                f"the dictionary in {folder.name} was mined for model {str(found)[:12]}, not for {model[:12]}; mine "
                "this model's own with `clipviz reproduce chapter4`"
            )
        sheet = head["pictures"]
        try:
            arrays = _read_arrays(_content(folder, head["arrays"]))
            sprite = _content(folder, sheet) if sheet else b""
            break
        except FileNotFoundError as error:  # another save replaced it after the JSON was read
            if not left:
                raise _damaged(folder, error) from error
        except (OSError, ValueError) as error:
            raise _damaged(folder, error) from error
    try:
        _check(head, arrays)
        _check_sprite(sheet, sprite)
    except ValueError as error:
        raise _damaged(folder, error) from error
    looks = {name: arrays.pop(name) for name in _THUMBNAILS if name in arrays}
    concepts = Concepts(
        models=tuple(head["models"]),
        layers=tuple(tuple((layer, n) for layer, n in layers) for layers in head["layers"]),
        k=head["k"],
        labels=tuple(head["labels"]),
        hints=tuple((text, float(value)) for text, value in head["hints"]),
        thumbnails=UnitThumbnails(**looks) if looks else None,
        **arrays,
    )
    ids = tuple(sheet.get("ids", ()))
    return Dictionary(concepts, head["about"], folder, ids, sprite, sheet.get("columns", 1))


def summary(concepts: Concepts) -> str:
    """Return a few lines: rows and concepts, and for each partner its pairs, the chance pairs and the held-out mean."""
    n_clusters = len(np.unique(np.asarray(concepts.cluster)))
    lines = [f"{len(concepts)} units of {concepts.models[0]} in {n_clusters} concepts"]
    units, heldout = np.asarray(concepts.units), np.asarray(concepts.heldout)
    for i, model in enumerate(concepts.models[1:], start=1):
        there = units[:, i] >= 0
        mean = float(heldout[there, i].mean()) if there.any() else 0.0
        lines.append(
            f"{model}: {int(concepts.n_pairs[i])} best buddies {float(concepts.threshold[i]):.2f} "
            f"above chance ({int(concepts.n_chance[i])} with shuffled images), {int(there.sum())} "
            f"rows, held-out mean correlation {mean:.2f}"
        )
    return "\n".join(lines)


def read_head(folder: str | Path) -> dict[str, Any]:
    """Return dictionary.json, including `about`, without reading the arrays. Raises ValueError as `load` does."""
    path = path_of(folder, "the folder of a dictionary") / HEAD
    if not path.is_file():
        raise ValueError(
            f"no dictionary in {folder}: {path.name} is missing; save one with data.dictionary.save"
        )
    try:
        content = path.read_bytes()
        match = re.search(rb'"format": (\d{1,9})\b', content)
        if match and int(match[1]) != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {int(match[1])}")
        head = without_checksum(content)
        _check_head(head)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is not a dictionary that this version reads, or is damaged ({error}); mine and save it again"
        ) from error
    return head


_FILES = {"arrays": "npz", "pictures": "jpg"}
_HEX = "[0-9a-f]{16}"


def _damaged(folder: Path, error: Exception) -> ValueError:
    return ValueError(f"the dictionary in {folder} is damaged ({error}); mine and save it again")


def _content(folder: Path, entry: dict[str, Any]) -> bytes:
    """Return a file's bytes. Raises ValueError if they differ from what was written."""
    path = folder / entry["file"]
    if path.is_symlink() or not path.is_file():
        raise FileNotFoundError(f"{entry['file']} is missing")
    if path.stat().st_size == entry["bytes"]:
        content = path.read_bytes()
        if digest(content) == entry["checksum"]:
            found: bytes = content
            return found
    raise ValueError(f"the checksum of {entry['file']} does not match")


def _read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file in memory. Raises ValueError if it is not one, or unpacks to too many bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MOST_BYTES:
                raise ValueError(f"its arrays unpack to more than {_MOST_BYTES:,} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            names = (*_ARRAYS, *(name for name in _THUMBNAILS if name in file.files))
            return {name: file[name] for name in names}
    except KeyError as error:
        raise ValueError(f"it has no array {error}") from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise ValueError(str(error)) from error


def _expect(truth: bool, what: str, got: object) -> None:
    if not truth:
        raise ValueError(f"expected {what}, got {got!r:.60}; build Concepts with one row per concept")


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_head(head: dict[str, Any]) -> None:
    """Check that every key exists with the right type and that no file lies outside the folder."""
    for key, type_ in _KEYS.items():
        _expect(isinstance(head.get(key), type_), f"{key} to be a {type_.__name__}", head.get(key))
    entries = [("arrays", head["arrays"]), *([("pictures", head["pictures"])] if head["pictures"] else [])]
    for kind, entry in entries:
        file = entry.get("file")
        named = isinstance(file, str) and re.fullmatch(rf"{kind}-{_HEX}\.{_FILES[kind]}", file)
        _expect(bool(named), f"a file named {kind}-<hash>.{_FILES[kind]}", file)
        _expect(_whole(entry.get("bytes"), 0), "bytes to be a whole number", entry.get("bytes"))
        _expect(isinstance(entry.get("checksum"), str), "a checksum", entry.get("checksum"))
    if head["pictures"]:
        ids, columns = (head["pictures"].get(key) for key in ("ids", "columns"))
        _expect(isinstance(ids, list) and len(ids) > 0 and all(_whole(i, 0) for i in ids), "picture ids", ids)
        _expect(_whole(columns, 1), "columns to be at least 1", columns)


_KEYS = {"models": list, "layers": list, "k": int, "labels": list, "hints": list, "about": dict}
_KEYS |= {"arrays": dict, "pictures": dict}


def _check(head: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Check that names and arrays agree and that every number is valid; ValueError says which is not."""
    models, layers = head["models"], head["layers"]
    n_models, n_rows = len(models), len(arrays["units"])
    _expect(n_models > 0 and all(isinstance(model, str) for model in models), "names of models", models)
    _expect(_whole(head["k"], 1), "k of at least 1", head["k"])
    _expect(len(layers) == n_models, f"layers of {n_models} models", len(layers))
    for pairs in layers:
        fine = isinstance(pairs, list) and all(_pair(pair) and _whole(pair[1], 1) for pair in pairs)
        _expect(fine, "layers as pairs of a name and a number of units", pairs)
    labels, hints = head["labels"], head["hints"]
    _expect(all(isinstance(label, str) for label in labels), "labels to be texts", labels)
    fine = all(_pair(hint) and isinstance(hint[1], (int, float)) and math.isfinite(hint[1]) for hint in hints)
    _expect(fine, "hints as pairs of a text and a number", hints)
    for name, found in (("labels", labels), ("hints", hints)):
        _expect(len(found) in (0, n_rows), f"{name} for {n_rows} concepts", len(found))
    _check_shapes(arrays, n_rows, n_models)
    for name, array in arrays.items():
        _expect(bool(np.isfinite(array).all()), f"finite numbers in {name}", "NaN or infinity")
    ends = np.array([sum(n for _, n in pairs) for pairs in layers])
    units = arrays["units"]
    _expect(bool(((units >= -1) & (units < ends)).all()), "units that the models have", units.max(initial=0))
    _expect(bool((units[:, 0] >= 0).all()), "a unit of the pivot in every row", -1)
    for name in ("correlation", "heldout"):
        _expect(
            bool((np.abs(arrays[name]) <= 1.001).all()), f"{name} within -1..1", arrays[name].max(initial=0)
        )
    for name in ("cluster", "examples", "n_pairs", "n_chance"):
        _expect(bool((arrays[name] >= 0).all()), f"{name} to be at least 0", arrays[name].min(initial=0))


def _pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], str)


def _check_shapes(arrays: dict[str, np.ndarray], n_rows: int, n_models: int) -> None:
    n_examples = arrays["examples"].shape[-1] if arrays["examples"].ndim else 0
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("units", "correlation", "heldout", "floor", "peak"), (n_rows, n_models)),
        **dict.fromkeys(("n_pairs", "n_chance", "threshold"), (n_models,)),
        "cluster": (n_rows,),
        "examples": (n_rows, n_examples),
        "maps": (n_rows, n_models, n_examples, *arrays.get("maps", np.zeros(0)).shape[3:5]),
    }
    for name, array in arrays.items():
        kind = np.dtype((_ARRAYS | _THUMBNAILS)[name])
        if array.shape != shapes[name] or array.dtype != kind or (name == "maps" and array.ndim != 5):
            raise ValueError(
                f"expected {name} of shape {shapes[name]} and type {kind} for {n_rows} concepts and {n_models} models, "
                f"got {array.shape} and {array.dtype}; build Concepts with one row per concept"
            )
    looks = sorted(name for name in _THUMBNAILS if name in arrays)
    _expect(looks in ([], sorted(_THUMBNAILS)), "maps with their floor and peak", looks)


def _check_sprite(sheet: dict[str, Any], sprite: bytes) -> None:
    """Check that the sprite is a JPEG with a position for each picture."""
    if not sheet:
        return
    size = (sheet["columns"] * SIDE, -(-len(sheet["ids"]) // sheet["columns"]) * SIDE)
    try:
        found = Image.open(io.BytesIO(sprite), formats=("JPEG",)).size
    except Exception as error:
        raise ValueError(f"its pictures cannot be opened: {error}") from error
    _expect(found == size, f"pictures of {size[0]} x {size[1]} pixels", found)
