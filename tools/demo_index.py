"""Make the shipped index of the embedded collection: python tools/demo_index.py (after new weights or images)."""

from __future__ import annotations

import shutil

import clipviz
from clipviz.data.images import demo
from clipviz.demo.index import FOLDER


def main() -> None:
    model = clipviz.load("demo", device="cpu")
    shutil.rmtree(FOLDER, ignore_errors=True)
    index = clipviz.Index.build(model, demo(), FOLDER, layers=range(model.n_layers), thumbnail=0, workers=0)
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{index!r}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
