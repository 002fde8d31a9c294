"""What a person calls the heads of a model, kept on disk between sessions: one small JSON file per model.

The file lies in the user's data folder, or in the folder that CLIPVIZ_CACHE names; "off" keeps nothing. It is found
again by the fingerprint of the weights, so that it holds for every collection and index of the model.
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
    """Head -> a person's word for it. file: None keeps them for this session alone."""

    def __init__(self, file: Path | None, model: str) -> None:
        self.file, self.model = file, model
        self._known = self._read()

    @classmethod
    def of(cls, model: str, fingerprint: str) -> Roles:
        """Return those of the model whose weights have this fingerprint."""
        folder = _folder()
        return cls(None if folder is None else folder / f"{fingerprint}.json", model)

    def all(self) -> dict[Head, str]:
        """Return every role, in the order of the heads."""
        return dict(sorted(self._known.items()))

    def set(self, head: Head, role: str) -> None:
        """Give a head a role, or remove it with ""; ValueError where the file cannot be written.

        What other sessions wrote meanwhile stays.
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
        """Return what is kept. aside: put a damaged file aside, under a name of its own."""
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
    """Return a role as it is kept, on one line; ValueError for what is no short text."""
    if not isinstance(role, str):
        raise ValueError(f'expected a role as a text, such as "background", got {role!r}')
    words = " ".join(role.split())
    if len(words) > LONGEST:
        raise ValueError(
            f"expected a role of at most {LONGEST} characters, got {len(words)}; one or two words do"
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
