"""Images in groups of class and background, for shortcuts (thesis Table 2.3): Waterbirds from its folder."""

from __future__ import annotations

import os

from clipviz.data.images import Images, open_images
from clipviz.data.paths import path_of
from clipviz.data.tables import read_table

SPLITS = {"train": "0", "val": "1", "test": "2"}
COLUMNS = ("img_filename", "y", "split", "place")


def waterbirds(root: str | os.PathLike[str], split: str = "test") -> Images:
    """Return Waterbirds (Sagawa et al. 2020) from the folder that holds its metadata.csv.

    The images have attributes "label" (landbird or waterbird) and "group" (class and background). Unreadable
    images are excluded and listed in `.skipped`. Raises ValueError for any other folder or table.
    """
    folder = path_of(root, "the folder of Waterbirds")
    table = folder / "metadata.csv"
    if split not in SPLITS:
        raise ValueError(f"expected split one of {', '.join(SPLITS)}, got {split!r}")
    if not table.is_file():
        raise ValueError(
            f"expected metadata.csv in {str(folder)!r}, which does not exist; pass the folder that "
            "the Waterbirds archive unpacks to (waterbird_complete95_forest2water2)"
        )
    described = read_table(table, table.name)
    if not described.waterbirds:
        raise ValueError(
            f"expected columns {', '.join(COLUMNS)} in {str(table)!r}, got {', '.join(described.columns)}"
        )
    chosen = [str(folder / row.file) for row in described.rows if row.words["split"] == SPLITS[split]]
    if not chosen:
        raise ValueError(
            f"expected images of the {split} split in {str(table)!r}, got none; try another split"
        )
    images = open_images(chosen)
    paths = images.paths or []
    words, _ = described.describe(paths)
    images.attributes = {column: [words[path][column] for path in paths] for column in ("label", "group")}
    return images
