"""A session in one file: the locations of its model, images and texts, additions to them, and the view.

The file is a zip archive with session.json and the added pictures as PNG. Nothing in it is executed, and nothing is
unpacked to disk.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clipviz import hub
from clipviz.data.roles import Roles
from clipviz.files import path_of, replacing
from clipviz.loading import load
from clipviz.session.state import State
from clipviz.values import View
from clipviz.version import __version__

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel

FORMAT = 1
HUB = "hf://datasets/"
FILE = "session.clipviz"
"""The name of a session's file in a repository of the Hub."""
DESCRIPTION = "session.json"
LARGEST = 64 << 20
"""The largest size of one member of a file, in bytes."""
LARGEST_ALL = 1 << 30
"""Bytes that all members of a file may have together, unpacked."""


class Saved(NamedTuple):
    """The content of a session's file. facts: session.json; pictures: the added images as PNG, in order."""

    facts: dict[str, Any]
    pictures: list[bytes]


def save(state: State, view: View, path: str | Path) -> Path:
    """Write a session's file; see Session.save."""
    target, images, model = path_of(path, "a file to write"), state.images, state.model
    added = range(state.n_given, len(images))
    facts = {
        "format": FORMAT,
        "clipviz": __version__,
        "model": {"name": model.name, "pretrained": model.pretrained, "fingerprint": model.fingerprint},
        "images": {
            "source": _address(state.images_source),
            "index": None if state.index is None else os.path.abspath(state.index.path),
            "fingerprint": images.subset(range(state.n_given)).fingerprint,
        },
        "texts": {"source": _address(state.texts_source), "fingerprint": state.texts.fingerprint},
        "layers": state.layers_given,
        "dictionaries": [name for name in state.dictionaries if name not in state.own_dictionaries],
        "view": view.to_dict(),
        "roles": [[*head, role] for head, role in state.roles.all().items()],
        "added": [{"name": images.names[i], "drawn": i in state.drawn} for i in added],
    }
    if not target.parent.is_dir():
        raise ValueError(
            f"expected a file in a folder that exists, got {str(target)!r}; create "
            f"{str(target.parent)!r} first"
        )
    with replacing(target) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(DESCRIPTION, json.dumps(facts, indent=1))
        for place, i in enumerate(added):
            picture = io.BytesIO()
            images[i].save(picture, "PNG")
            archive.writestr(_picture(place), picture.getvalue())
    return target


def fetched(path: str | Path) -> str | Path:
    """Return a file's path; "hf://datasets/owner/name", with "@revision" where wanted, is downloaded first."""
    if not str(path).startswith(HUB):
        return path
    repo, _, revision = str(path).removeprefix(HUB).strip("/").partition("@")
    return hub.fetch(repo, "dataset", [FILE], revision or None, None) / FILE


def read(path: str | Path) -> Saved:
    """Return the content of a file. Raises ValueError for a file that `save` did not write."""
    source = path_of(path, "a saved session")
    advice = f"expected a file that Session.save wrote, got {str(source)!r}"
    try:
        with zipfile.ZipFile(source) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST_ALL:
                raise ValueError(f"its members have more than {LARGEST_ALL >> 20} MB together")
            facts = _checked(json.loads(_member(archive, DESCRIPTION)))
            pictures = [_member(archive, _picture(place)) for place in range(len(facts["added"]))]
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{advice} ({error or type(error).__name__}); save the session again") from error
    return Saved(facts, pictures)


def model_of(saved: Saved, model: ClipModel | None, device: Any) -> ClipModel:
    """Return the model of a saved session: the given one, or the one with its name, after comparing the weights."""
    known = saved.facts["model"]
    if model is None:
        try:
            model = load(known["name"], known["pretrained"], device)
        except ValueError as error:
            raise ValueError(
                f"expected the model {known['name']!r} of the session, which cannot be opened by its "
                f"name ({error}); open it yourself and pass it as model=..."
            ) from error
    _check("a model with the weights", known["fingerprint"], model.fingerprint, "model=")
    return model


def arguments(saved: Saved, images: Any, texts: Any) -> dict[str, Any]:
    """Return the arguments that open a Session. Raises ValueError if images or texts have to be passed again."""
    found: dict[str, Any] = {"index": saved.facts["images"]["index"], "layers": saved.facts["layers"]}
    for name, given in (("images", images), ("texts", texts)):
        source = saved.facts[name]["source"]
        if given is None and source is not None and source.get("given"):
            raise ValueError(
                f"expected the {name} of the session, which were passed as objects and have no "
                f"address; pass them again as {name}=..."
            )
        found[name] = given if given is not None or source is None else source["at"]
    return found


def dictionaries_of(saved: Saved, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dictionaries of directions by their names. Raises ValueError for one that was not passed."""
    missing = [name for name in saved.facts["dictionaries"] if name not in given]
    if missing:
        raise ValueError(
            f"expected the dictionary {missing[0]!r} that the session used, which is not stored in "
            f"its file; pass dictionaries={{{missing[0]!r}: a clipviz.Dictionary or its path}}"
        )
    return {name: given[name] for name in saved.facts["dictionaries"]}


def check(saved: Saved, state: State) -> None:
    """Raise ValueError if a session was opened with other images or texts than the saved one."""
    images, texts = saved.facts["images"], saved.facts["texts"]
    _check("images with the content", images["fingerprint"], state.images.fingerprint, "images=")
    _check("texts with the content", texts["fingerprint"], state.texts.fingerprint, "texts=")


def roles_of(saved: Saved, model: ClipModel) -> Roles:
    """Return the saved roles, which stay in the session and do not change those stored on this computer."""
    roles = Roles(None, model.name)
    for layer, head, role in saved.facts["roles"]:
        roles.set((layer, head), role)
    return roles


def _check(what: str, expected: str, got: str, argument: str) -> None:
    if expected != got:
        raise ValueError(
            f"expected {what} that the session was saved with ({expected[:12]}), got different ones "
            f"({got[:12]}); pass the same as {argument}"
        )


def _checked(facts: Any) -> dict[str, Any]:
    """Return session.json if all fields have the right type; else ValueError or KeyError names the first wrong one."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "format": int,
        "model": dict,
        "images": dict,
        "texts": dict,
        "layers": (list, type(None)),
        "dictionaries": list,
        "view": dict,
        "roles": list,
        "added": list,
    }
    if not isinstance(facts, dict):
        raise ValueError(f"{DESCRIPTION} holds no fields")
    for name, kind in kinds.items():
        if not isinstance(facts[name], kind):
            raise ValueError(f"its {name} is a {type(facts[name]).__name__}")
    if facts["format"] != FORMAT:
        raise ValueError(f"its format is {facts['format']}, and this release of clipviz reads {FORMAT}")
    for place, field in (
        ("model", "name"),
        ("model", "fingerprint"),
        ("images", "fingerprint"),
        ("texts", "fingerprint"),
    ):
        if not isinstance(facts[place][field], str):
            raise ValueError(f"the {field} of its {place} is not a text")
    for place in ("images", "texts"):
        source = facts[place]["source"]
        if not (
            source is None or (isinstance(source, dict) and ("at" in source or source.get("given") is True))
        ):
            raise ValueError(f"its {place} have no address")
    for added in facts["added"]:
        if not (isinstance(added["name"], str) and isinstance(added["drawn"], bool)):
            raise ValueError("an added image has no name")
    for role in facts["roles"]:
        layer, head, word = role
        if not (isinstance(layer, int) and isinstance(head, int) and isinstance(word, str)):
            raise ValueError("a role is not a layer, a head and a text")
    facts["images"].setdefault("index", None)
    if not isinstance(facts["model"].setdefault("pretrained", None), str | None):
        raise ValueError("the weights of its model have no name")
    return facts


def _address(source: Any) -> Mapping[str, Any] | None:
    """Return where something can be opened again: None for a default, {"at": ...}, or {"given": True} for objects."""
    if source is None:
        return None
    if isinstance(source, str | os.PathLike):
        at = os.fspath(source)
        return {"at": os.path.abspath(at) if os.path.exists(at) else at}
    if isinstance(source, list | tuple) and all(isinstance(one, str) for one in source):
        return {"at": [os.path.abspath(one) if os.path.exists(one) else one for one in source]}
    return {"given": True}


def _picture(place: int) -> str:
    return f"added/{place}.png"


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > LARGEST:
        raise ValueError(f"its member {name!r} has more than {LARGEST >> 20} MB")
    with archive.open(name) as stream:
        return stream.read(LARGEST)
