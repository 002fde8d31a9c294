"""Data that come with the demo model: a collection of pictures whose truth is known, and descriptions of them."""

from __future__ import annotations

import functools
import io
import json
import threading
import zipfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipviz.data.images import Images
from clipviz.data.sources import MemberSource
from clipviz.data.texts import Texts, open_texts

if TYPE_CHECKING:
    from clipviz.models.dictionaries import Dictionary

ASSETS = Path(str(resources.files("clipviz.demo"))) / "assets"


@functools.cache
def images() -> Images:
    """Return the embedded collection: small pictures of an artificial world, with captions, attributes and masks."""
    archive = zipfile.ZipFile(io.BytesIO((ASSETS / "collection.zip").read_bytes()))
    members = {info.filename: info for info in archive.infolist()}
    names = sorted(name for name in members if name.startswith("images/") and not name.endswith("/"))
    lock = threading.Lock()
    sources = [_member(archive, lock, name, members) for name in names]
    captions = _captions(_json(archive, members, "captions.json"), len(names))
    return Images(sources, captions, _attributes(_json(archive, members, "attributes.json"), len(names)))


@functools.cache
def texts() -> Texts:
    """Return descriptions of one property each, phrased like the demo world's captions, with their families."""
    return open_texts(ASSETS / "texts" / "demo.tsv")


@functools.cache
def features() -> dict[str, Dictionary]:
    """Return the dictionaries of directions of the demo model, by name; none if the file is missing."""
    from clipviz.models.dictionaries import Dictionary  # and torch, which pictures and texts do not need

    folder = ASSETS / "features"
    if not (folder / "cfg.json").exists():
        return {}
    opened = Dictionary.load(folder)
    return {f"L{opened.layer} features": opened}


@functools.cache
def chosen() -> dict[str, Any]:
    """Return what is shown first and in the tour, chosen by rule for the embedded model (tools/demo/choices.py)."""
    found: dict[str, Any] = json.loads((ASSETS / "chosen.json").read_text(encoding="utf-8"))
    return found


def _member(
    archive: zipfile.ZipFile, lock: threading.Lock, name: str, members: dict[str, zipfile.ZipInfo]
) -> MemberSource:
    stem = Path(name).stem
    mask = f"masks/{stem}.png"
    return MemberSource(
        archive, lock, name, mask if mask in members else None, f"demo {stem}", members[name].CRC
    )


def _json(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> Any:
    return json.loads(archive.read(name)) if name in members else None


def _captions(captions: Any, n_images: int) -> list[str] | None:
    """Return the first caption of each image, whether the file has one or several per image."""
    if not isinstance(captions, list) or len(captions) != n_images:
        return None
    return [caption if isinstance(caption, str) else (caption or [""])[0] for caption in captions]


def _attributes(table: Any, n_images: int) -> dict[str, list[str | None]] | None:
    """Return columns of words from {"columns", "rows", "vocabularies"}; columns without a vocabulary are numbers."""
    if not isinstance(table, dict) or len(table.get("rows") or ()) != n_images:
        return None
    words = table.get("vocabularies") or {}
    return {
        column: [_word(row[k] if k < len(row) else None, words.get(column)) for row in table["rows"]]
        for k, column in enumerate(table.get("columns") or ())
    }


def _word(code: Any, vocabulary: Any) -> str | None:
    if code is None or isinstance(code, str):
        return code
    if vocabulary is None:
        return str(code)
    return str(vocabulary[code]) if 0 <= code < len(vocabulary) else None
