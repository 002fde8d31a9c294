"""Read pictures a few at a time; unreadable ones are excluded with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

BATCH = 32


class Read(NamedTuple):
    """The images that were read, their pictures, and why the others were not."""

    rows: list[int]
    pictures: list[Image.Image]
    broken: dict[int, str]


def read(images: Any, rows: Sequence[int]) -> Read:
    """Return some of the images: anything that gives a picture, or raises ValueError or OSError, for images[row]."""
    found = Read([], [], {})
    for row in rows:
        try:
            found.pictures.append(images[row])
            found.rows.append(row)
        except (ValueError, OSError) as error:
            found.broken[row] = str(error)
    return found


def batches(
    images: Any, chosen: Sequence[int] | None = None, bar: str = "", size: int = BATCH
) -> Iterator[tuple[list[int], list[Image.Image]]]:
    """Yield (rows, pictures) of all, or the chosen, images that can be read; bar: text beside a progress bar."""
    wanted = range(len(images)) if chosen is None else chosen
    for start in tqdm(range(0, len(wanted), size), desc=bar, unit="batch", disable=not bar):
        rows, pictures, _ = read(images, wanted[start : start + size])
        if rows:
            yield rows, pictures
