"""Mine the embedded dictionary: `python -m clipviz.models.partners.mine`.

The demo CLIP is the pivot, the three embedded partners its company; the embedded collection is mined, fresh scenes of
the demo world are the honesty check. Run it again after any of the four models was trained anew.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from clipviz.models.clip import load
from clipviz.models.partners import ASSETS
from clipviz.models.zoo import EMBEDDED, load_partner, mine


def main(arguments: list[str] | None = None) -> None:
    """Command line of the miner."""
    from clipviz.data import dictionary, images, world

    parser = argparse.ArgumentParser(description="Mine the Rosetta units that the demo models share.")
    parser.add_argument("--images", type=int, default=256, help="pictures of the embedded collection to mine")
    parser.add_argument("--heldout", type=int, default=128, help="fresh scenes for the held-out correlation")
    parser.add_argument("--at-least", type=int, default=2, help="partners that a row needs")
    parser.add_argument("--weights", type=Path, default=ASSETS, help="folder of the partners' weights")
    parser.add_argument("--out", type=Path, default=dictionary.EMBEDDED, help="folder to write")
    chosen = parser.parse_args(arguments)
    model, collection = load("demo"), images.demo()
    files = {name: chosen.weights / f"{name}.safetensors" for name in EMBEDDED}
    concepts = mine(
        model,
        [load_partner(name, file) for name, file in files.items()],
        collection[: chosen.images],
        heldout=world.render(chosen.heldout, seed=2024).images,
        at_least=chosen.at_least,
    )
    about = {
        "model": model.fingerprint,
        "images": collection.fingerprint,
        "n_images": chosen.images,
        "n_heldout": chosen.heldout,
        "partners": {
            name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in files.items()
        },
    }
    dictionary.save(concepts, chosen.out, about)
    print(dictionary.summary(concepts))


if __name__ == "__main__":
    main()
