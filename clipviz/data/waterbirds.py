"""Images in groups of class and background, for spurious cues (thesis Table 2.3): Waterbirds from its folder."""

from __future__ import annotations

import csv
import os

from clipviz.data.files import path_of
from clipviz.data.images import Images, open_images

SPLITS = {"train": "0", "val": "1", "test": "2"}
COLUMNS = ("img_filename", "y", "split", "place")


def waterbirds(root: str | os.PathLike[str], split: str = "test") -> Images:
    """Waterbirds (Sagawa et al. 2020) from the folder that holds its metadata.csv.

    The images have attributes "label" (landbird or waterbird) and "group" (class and background). Unreadable images
    are left out and listed in `.skipped`. ValueError for a folder or a table of another kind.
    """
    folder = path_of(root, "the folder of Waterbirds")
    table = folder / "metadata.csv"
    if split not in SPLITS:
        raise ValueError(f"expected split one of {', '.join(SPLITS)}, got {split!r}")
    if not table.is_file():
        raise ValueError(
            f"expected metadata.csv in {str(folder)!r}, which is not there; name the folder that the Waterbirds "
            "archive unpacks to (waterbird_complete95_forest2water2)"
        )
    with table.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    missing = [name for name in COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise ValueError(
            f"expected columns {', '.join(COLUMNS)} in {str(table)!r}, got none of {', '.join(missing)}"
        )
    chosen = {str(folder / row["img_filename"]): row for row in rows if row["split"].strip() == SPLITS[split]}
    if not chosen:
        raise ValueError(
            f"expected images of the {split} split in {str(table)!r}, got none; try another split"
        )
    images = open_images(list(chosen))
    kept = [chosen[str(path)] for path in images.paths or []]
    classes, places = ("landbird", "waterbird"), ("land", "water")
    labels: list[str | None] = [classes[int(row["y"])] for row in kept]
    on = [places[int(row["place"])] for row in kept]
    groups: list[str | None] = [f"{label} on {place}" for label, place in zip(labels, on, strict=True)]
    images.attributes = {"label": labels, "group": groups}
    return images
