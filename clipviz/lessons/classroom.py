"""A class that shares a folder: each student's answers are a code in a file of its own, which the teacher reads."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Protocol

from clipviz.files import TEMPORARY, path_of, replacing
from clipviz.lessons.questions import Answer, Asked
from clipviz.lessons.scoring import Score, score

MOST_BYTES = 1 << 16
"""A file that is larger holds no code."""

MOST_FILES = 1000
"""The most files that are read of a folder."""


class Codes(Protocol):
    """Whose codes are read: see clipviz.lessons.Quiz."""

    questions: tuple[Asked, ...]

    @property
    def code(self) -> str: ...
    def answers(self, code: str) -> list[Answer]: ...


def room(folder: str | Path, code: str) -> Path:
    """Return the folder of a quiz within a shared one; it is created, so that everyone can write into it.

    Raises ValueError if there is no shared folder, or if the quiz's folder cannot be created.
    """
    shared = path_of(folder, "a folder that the class shares")
    if not shared.is_dir():
        raise ValueError(
            f"expected a folder that exists and that the class shares, got {str(shared)!r}; ask for its path"
        )
    own = shared / re.sub(r"[^A-Za-z0-9-]", "_", code)[-80:]
    try:
        if not own.is_dir():
            _create(own)
    except OSError as error:
        raise ValueError(f"expected a folder that can be written, got {str(shared)!r}: {error}") from error
    return own


def _create(folder: Path) -> None:
    """Create a folder in which everyone can write files and delete their own; another process may be quicker."""
    made = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=folder.parent))
    try:
        made.chmod(0o1777)
        made.rename(folder)
    except OSError:
        made.rmdir()
        if not folder.is_dir():
            raise


def seat(folder: str | Path, code: str, name: str = "") -> Path:
    """Return the path of a student's file: a random one, or always the same for a name, which it does not tell."""
    own = " ".join(name.split()).casefold()
    told = hashlib.sha256(f"{code}\0{own}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return room(folder, code) / f"{told if own else secrets.token_hex(16)}.txt"


def hand_in(path: Path, code: str) -> None:
    """Write a student's code, which everyone may read. Raises ValueError if it cannot be written."""
    try:
        with replacing(path) as stream:
            stream.write(code.encode())
            os.chmod(stream.name, 0o644)
    except OSError as error:
        raise ValueError(
            f"The answers could not be handed in to {str(path.parent)!r}: {error}. None of them is lost: the next "
            "answer hands in all of them again."
        ) from error


def handed_in(path: Path) -> str:
    """Return the code in a student's file. Raises ValueError for anything but a small file of text."""
    wrong = ValueError(f"expected a file with a code, got {str(path)!r}")
    try:
        # neither a link to a file of the reader's own, nor a pipe that would be waited for
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = os.read(descriptor, MOST_BYTES + 1) if is_file else b""
        finally:
            os.close(descriptor)
        code = content.decode("ascii")
    except (OSError, ValueError):
        raise wrong from None
    if not is_file or len(content) > MOST_BYTES:
        raise wrong
    return code


@dataclass(frozen=True)
class Attendance:
    """What the files of a class hold.

    answers: those of each student, () for a question that has not been answered. n_unread: the number of files that
    could not be read. trouble: why the folder cannot be read, "" if it can.
    """

    answers: tuple[tuple[Answer, ...], ...] = ()
    n_unread: int = 0
    trouble: str = ""


class Classroom:
    """The answers of a class to a quiz, read from a folder whenever `look` is called.

    Args:
        folder: the folder that the class shares.
        quiz: the quiz that the class answers.

    Raises:
        ValueError: if there is no such folder.
    """

    def __init__(self, folder: str | Path, quiz: Codes) -> None:
        self.quiz, self.folder = quiz, room(folder, quiz.code)
        self.now = Attendance()
        self._known: dict[str, tuple[object, tuple[Answer, ...] | None]] = {}
        self.look()

    def look(self) -> bool:
        """Read the files that are new or have changed; returns whether anything else is known now."""
        before = self.now
        try:
            with os.scandir(self.folder) as entries:
                files = sorted(
                    (one for one in entries if not fnmatch(one.name, TEMPORARY)), key=lambda one: one.name
                )
            known = {file.name: self._read(file) for file in files[:MOST_FILES]}
        except OSError as error:
            self.now = Attendance(before.answers, before.n_unread, f"The folder cannot be read: {error}")
            return self.now != before
        self._known = known
        read = [answers for _, answers in known.values() if answers is not None]
        self.now = Attendance(tuple(read), len(files) - len(read))
        return self.now != before

    def _read(self, file: os.DirEntry[str]) -> tuple[object, tuple[Answer, ...] | None]:
        """Return what tells a file's versions apart, and its answers, None if it has none that can be read."""
        try:
            found = file.stat(follow_symlinks=False)
        except FileNotFoundError:  # replaced since the folder was listed
            return self._known.get(file.name, (None, None))
        version = found.st_ino, found.st_mtime_ns, found.st_size
        known = self._known.get(file.name)
        if known is not None and known[0] == version:
            return known
        try:
            return version, tuple(self.quiz.answers(handed_in(Path(file.path))))
        except ValueError:
            return version, None

    def score(self, questions: Sequence[int]) -> Score:
        """Return the score of all answers given to some questions, counted from 0."""
        asked = [self.quiz.questions[at] for at in questions]
        found = [
            (question.is_right(answers[at]), question.chance)
            for at, question in zip(questions, asked, strict=True)
            for answers in self.now.answers
            if answers[at]
        ]
        return score([right for right, _ in found], [chance for _, chance in found])
