"""Make the shipped index of the embedded collection: python -m tools.demo.index."""

from __future__ import annotations

import shutil

import clipviz
from clipviz import demo


def main() -> None:
    model = clipviz.load("demo", device="cpu")
    folder = demo.bundle().index
    shutil.rmtree(folder, ignore_errors=True)
    index = clipviz.Index.build(
        model, demo.images(), folder, layers=range(model.n_layers), thumbnail=0, workers=0
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{index!r}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
