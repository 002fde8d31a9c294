"""A dictionary of Rosetta neurons on disk: two small files in a folder, open in milliseconds.

    dictionary.json   models, layers, labels, k, and the name of the array file; written last, atomically
    arrays-<hash>.npz units, correlations, clusters, example ids
The array file is named by its content and the JSON names it, so a save that is killed leaves the former dictionary
whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from clipviz.values import Concepts

FORMAT = 1
EMBEDDED = Path(__file__).parent / "assets" / "rosetta"
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


def save(concepts: Concepts, folder: str | Path, about: dict[str, Any] | None = None) -> Path:
    """Write a dictionary into a folder, replacing the one that is there; returns the folder.

    about: anything JSON can hold that says where it comes from (fingerprints of models and images).
    Raises ValueError when the arrays do not agree in length, or the path is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder for the dictionary, got the file {folder}; pass another path")
    arrays = {name: np.asarray(getattr(concepts, name), dtype) for name, dtype in _ARRAYS.items()}
    _check(arrays, concepts)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    content = b"".join(array.tobytes() for array in arrays.values())
    name = f"arrays-{hashlib.sha256(content).hexdigest()[:16]}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / name, buffer.getvalue())
    head = {
        "format": FORMAT,
        "arrays": name,
        "models": list(concepts.models),
        "layers": [[[layer, int(n)] for layer, n in layers] for layers in concepts.layers],
        "k": int(concepts.k),
        "labels": list(concepts.labels),
        "about": about or {},
    }
    _replace(folder / "dictionary.json", json.dumps(head, indent=1, ensure_ascii=False).encode())
    for old in folder.glob("arrays-*.npz"):
        if old.name != name:
            old.unlink(missing_ok=True)
    return folder


def load(folder: str | Path) -> Concepts:
    """The dictionary that `save` wrote, with numpy arrays.

    Raises ValueError when there is none, it is damaged, or it is of another format.
    """
    folder = Path(folder)
    head = read_head(folder)
    try:
        with np.load(folder / head["arrays"], allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"the dictionary in {folder} is damaged ({error}); mine and save it again"
        ) from error
    layers = tuple(tuple((str(layer), int(n)) for layer, n in layers) for layers in head["layers"])
    concepts = Concepts(
        models=tuple(head["models"]), layers=layers, k=int(head["k"]), labels=tuple(head["labels"]), **arrays
    )
    _check(arrays, concepts)
    return concepts


def embedded() -> Concepts:
    """The shipped dictionary of the demo CLIP and the embedded partners; example ids are the demo collection's."""
    return load(EMBEDDED)


def summary(concepts: Concepts) -> str:
    """A few lines: rows and concepts, and for each partner its pairs, the chance pairs and the held-out mean."""
    n_clusters = len(np.unique(np.asarray(concepts.cluster)))
    lines = [f"{len(concepts)} units of {concepts.models[0]} in {n_clusters} concepts"]
    units, heldout = np.asarray(concepts.units), np.asarray(concepts.heldout)
    for i, model in enumerate(concepts.models[1:], start=1):
        there = units[:, i] >= 0
        mean = float(heldout[there, i].mean()) if there.any() else 0.0
        lines.append(
            f"{model}: {int(concepts.n_pairs[i])} best buddies above {float(concepts.threshold[i]):.2f} "
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
    if len(arrays["examples"]) != n_rows or len(concepts.labels) not in (0, n_rows):
        raise ValueError(
            f"expected examples and labels for {n_rows} concepts; build Concepts with one row a concept"
        )


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
