"""The demo's birds as a person has them: picture files in folders and a metadata.csv in the layout of Waterbirds."""

from __future__ import annotations

import csv

CODES = {"waterbird": "1", "landbird": "0", "water": "1", "forest": "0"}


def write_birds(folder, per_group=6, split="2"):
    """Write so many birds of each group of class and place; returns their places in the demo's collection."""
    import clipviz

    demo = clipviz.demo.images()
    table, rows, kept = demo.attributes, [], []
    groups = table["bird group"]
    for group in sorted({name for name in groups if name}):
        chosen = [i for i, name in enumerate(groups) if name == group][:per_group]
        for number, i in enumerate(chosen):
            file = f"{table['class'][i]}/{i:05d}.png"
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            demo[i].save(folder / file)
            bird, place = CODES[group.split("/")[0]], CODES[table["background"][i]]
            rows.append((number, file, bird, split, place))
        kept += chosen
    with (folder / "metadata.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("img_id", "img_filename", "y", "split", "place"), *rows])
    return kept
