"""Roles that a person assigns to heads of a model, stored on disk between sessions: one small JSON file per model.

The file is in the user's data folder, or in the folder that CLIPVIZ_CACHE names; "off" stores nothing. It is
found by the fingerprint of the weights, so that it applies to every collection and index of the model.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from clipviz.files import locked, write_whole
from clipviz.values import Head

LONGEST = 60  # characters of a role


class Roles:
    """Maps a head to the role that a person gave it. file: None keeps roles for this session only."""

    def __init__(self, file: Path | None, model: str) -> None:
        self.file, self.model = file, model
        self._known = self._read()

    @classmethod
    def of(cls, model: str, fingerprint: str) -> Roles:
        """Return the roles of the model whose weights have this fingerprint."""
        folder = _folder()
        return cls(None if folder is None else folder / f"{fingerprint}.json", model)

    def all(self) -> dict[Head, str]:
        """Return every role, in the order of the heads."""
        return dict(sorted(self._known.items()))

    def set(self, head: Head, role: str) -> None:
        """Assign a role to a head, or remove it with "". Raises ValueError if the file cannot be written.

        Roles that other sessions have written in the meantime are kept.
        """
        if self.file is None:
            self._known = _changed(self._known, head, role)
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.file.parent):
                known = _changed(self._read(aside=True), head, role)
                content = {
                    "model": self.model,
                    "roles": {f"{layer},{at}": word for (layer, at), word in sorted(known.items())},
                }
                write_whole(self.file, json.dumps(content, ensure_ascii=False, indent=1).encode())
        except OSError as error:
            raise ValueError(
                f"expected a file for roles that can be written, got {str(self.file)!r} ({error.strerror}); set "
                "CLIPVIZ_CACHE to another folder"
            ) from error
        self._known = known

    def _read(self, aside: bool = False) -> dict[Head, str]:
        """Return the stored roles. aside: rename a damaged file so that it is kept."""
        if self.file is None or not self.file.is_file():
            return {}
        try:
            found = {}
            for key, word in json.loads(self.file.read_text(encoding="utf-8"))["roles"].items():
                layer, head = map(int, key.split(","))
                found[layer, head] = checked(word)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            logging.getLogger("clipviz").warning("the roles in %s are damaged: %s", self.file, error)
            if aside:
                os.replace(self.file, self.file.with_suffix(".damaged"))
            return {}
        return found


def checked(role: object) -> str:
    """Return a role in its stored form, on one line. Raises ValueError for anything but a short text."""
    if not isinstance(role, str):
        raise ValueError(f'expected a role as a text, such as "background", got {role!r}')
    words = " ".join(role.split())
    if len(words) > LONGEST:
        raise ValueError(
            f"expected a role of at most {LONGEST} characters, got {len(words)}; use one or two words"
        )
    return words


def _changed(known: dict[Head, str], head: Head, role: str) -> dict[Head, str]:
    others = {at: word for at, word in known.items() if at != head}
    return {**others, head: checked(role)} if checked(role) else others


def _folder() -> Path | None:
    asked = os.environ.get("CLIPVIZ_CACHE", "")
    if asked.lower() == "off":
        return None
    if asked:
        return Path(asked).expanduser() / "roles"
    from platformdirs import user_data_path

    return user_data_path("clipviz", appauthor=False) / "roles"
