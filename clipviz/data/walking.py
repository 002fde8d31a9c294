"""A recursive listing of a folder, with every place that could not be read, so that nothing is lost silently."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from clipviz.data.paths import shown

Problems = list[tuple[str, str]]


def walk(folder: Path) -> tuple[list[Path], Problems]:
    """Return the regular files below a folder, sorted by path, and (name, reason) of everything that cannot be read.

    Links are followed; a folder that is reached twice is read once and reported. Hidden files and folders, whose
    names start with a dot, are ignored.
    """
    files: list[Path] = []
    problems: Problems = []
    seen: set[tuple[int, int]] = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        place = folders.pop() if folders else links.pop()
        try:
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in seen:
                problems.append(
                    (_name(place, folder), "this folder has already been read under another name")
                )
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as scanned:
                entries = sorted((entry for entry in scanned), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            problems.append((_name(place, folder), f"the folder cannot be read: {_reason(error)}"))
            continue
        for entry in entries:
            path = Path(place, entry.name)
            if entry.name.startswith("."):
                continue
            kind = _kind(entry)
            if kind == "folder":
                (links if entry.is_symlink() else folders).append(path)
            elif kind == "file":
                files.append(path)
            else:
                problems.append((_name(path, folder), kind))
    return sorted(files), problems


def _kind(entry: os.DirEntry[str]) -> str:
    """Return "folder", "file", or the reason why it is neither."""
    try:
        mode = entry.stat().st_mode
    except FileNotFoundError:
        return "it is a link to a file that does not exist"
    except OSError as error:
        return f"it cannot be read: {_reason(error)}"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "it is not a regular file"


def _name(path: Path, folder: Path) -> str:
    return shown(path.relative_to(folder).as_posix()) if path != folder else shown(path)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
