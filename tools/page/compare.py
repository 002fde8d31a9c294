"""What a published page computes beside what Python says: 50 images x 20 texts for models of several families.

    python tools/page/compare.py demo "ViT-B/32" "SigLIP B/16" CLIPA --images 50 --texts 20

Random weights with perturbed norms, but for the demo. Each model's folder is opened in node with the page's own
modules; the largest differences are printed as shares of the largest number, with what the page takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import clipviz
from clipviz.models.clip import ClipModel
from clipviz.page import carrying, export, packing, vendor

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def random_model(name: str, **changes: object) -> ClipModel:
    """Return an open_clip architecture with random weights, its norms and biases moved, so that no share is 0."""
    import naive
    import open_clip

    torch.manual_seed(0)
    network, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=None)
    naive.perturb(network.eval(), 7)
    try:
        tokenizer = open_clip.get_tokenizer(name)
    except Exception:  # of a family whose tokenizer is fetched: ids that stand for any
        context = network.context_length
        tokenizer = Ids(context)
    return clipviz.wrap(network, tokenizer=tokenizer, preprocess=preprocess, name=name)


class Ids:
    """Token ids from characters, for text towers whose tokenizer is not here."""

    def __init__(self, context: int) -> None:
        self.context = context

    def __call__(self, texts: list[str]) -> torch.Tensor:
        rows = [[1 + ord(letter) % 30000 for letter in text[: self.context]] for text in texts]
        return torch.tensor([row + [0] * (self.context - len(row)) for row in rows])


MODELS: dict[str, tuple[Callable[[], ClipModel], export.Precision]] = {
    "demo": (lambda: clipviz.load("demo", device="cpu"), "float32"),
    "ViT-B/32": (lambda: random_model("ViT-B-32"), "float16"),
    "SigLIP B/16": (lambda: random_model("ViT-B-16-SigLIP"), "float16"),
    "CLIPA": (lambda: random_model("ViT-L-14-CLIPA"), "float16"),
}


def pictures(n: int) -> list[Image.Image]:
    """Blocks of random colours, of several sizes."""
    draw = np.random.default_rng(0)
    return [
        Image.fromarray(draw.integers(0, 256, (7 + i % 5, 9, 3), dtype=np.uint8)).resize((300, 240))
        for i in range(n)
    ]


def compare(name: str, n_images: int, n_texts: int) -> dict[str, object]:
    """Publish, write down what Python says, and have node compare."""
    make, precision = MODELS[name]
    model = export.in_precision(make(), precision)
    images = (
        model.bundle.images().subset(np.linspace(0, 2013, n_images).astype(int).tolist())
        if model.bundle
        else pictures(n_images)
    )
    pool = (
        list(model.bundle.texts().subset(np.linspace(0, len(model.bundle.texts()) - 1, n_texts).astype(int)))
        if model.bundle
        else None
    )
    texts = pool or [f"a photo of thing number {i}" for i in range(n_texts)]
    session = clipviz.Session(model, images=images, texts=texts, background=False)
    with tempfile.TemporaryDirectory() as place:
        site = Path(place)
        (site / "parts").mkdir()
        parts, began = packing.Folder(site / "parts"), time.perf_counter()
        said = carrying.carry(session, parts, precision)
        exported = time.perf_counter() - began
        said["contents"]["runtime"] = parts.add(vendor.runtime())
        packing.manifest(site / "manifest.json", said)
        directions = session.texts.pool()
        for i in range(n_images):
            trace = session.images.trace(i)
            numbers = [
                trace.embedding[0],
                trace.head_effects()[0].flatten(0, 1) @ directions.T,
                trace.mlp_effects()[0] @ directions.T,
                trace.token_scores(directions)[:, 0].flatten(1),
            ]
            flat = [part.T if k in (1, 2) else part for k, part in enumerate(numbers)]
            (site / f"{i}.ref").write_bytes(b"".join(part.contiguous().numpy().tobytes() for part in flat))
        from tests.page.node import SCRIPTS, node

        asked = json.dumps(
            {"scripts": str(SCRIPTS), "site": place, "texts": list(session.texts), "images": n_images}
        )
        ran = subprocess.run(
            [node(), ROOT / "tools/page/compare.mjs"], input=asked, capture_output=True, text=True, check=True
        )
        found = json.loads(ran.stdout)
        sent = {key: content["sent"] / 1e6 for key, content in said["contents"].items()}
    session.close()
    return {
        "model": name,
        "precision": precision,
        **found,
        "export_s": round(exported, 1),
        "MB": {key: round(size, 1) for key, size in sent.items()} | {"all": round(sum(sent.values()), 1)},
        "memory_GB": round(said["model"]["memory"] / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=list(MODELS), help=", ".join(MODELS))
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--texts", type=int, default=20)
    options = parser.parse_args()
    for name in options.models:
        print(json.dumps(compare(name, options.images, options.texts)), flush=True)


if __name__ == "__main__":
    main()
