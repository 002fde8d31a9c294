"""Mine the embedded dictionary: `python -m clipviz.demo.partners.mine`.

The demo CLIP is the pivot, the embedded partners its company; the embedded collection is mined, fresh scenes of the
demo world are the honesty check. The embedded generator, which paints and does not look, is matched on its own samples.
With `--pivot generator` it is the pivot, as in Eq. 4.4, and a row needs every partner. Run it again after any of the
models was trained again.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from clipviz.analysis.dictionaries import about, mined, mined_from_generator
from clipviz.analysis.guides import fingerprint
from clipviz.demo.partners import ASSETS
from clipviz.demo.partners.reading import PARTNERS
from clipviz.models.opening import choose_device


def main(arguments: list[str] | None = None) -> None:
    """Command line of the miner."""
    from clipviz import demo
    from clipviz.data import dictionary
    from clipviz.demo import world
    from clipviz.demo.model.opening import open_model

    parser = argparse.ArgumentParser(description="Mine the Rosetta units that the demo models share.")
    parser.add_argument(
        "--pivot", choices=("clip", "generator"), default="clip", help="whose units are listed"
    )
    parser.add_argument("--latents", type=int, default=1600, help="samples to mine on with --pivot generator")
    parser.add_argument("--images", type=int, default=256, help="pictures of the embedded collection to mine")
    parser.add_argument("--heldout", type=int, default=128, help="fresh scenes for the held-out correlation")
    parser.add_argument("--at-least", type=int, default=2, help="partners that a row needs")
    parser.add_argument("--weights", type=Path, default=ASSETS, help="folder of the partners' weights")
    parser.add_argument(
        "--out", type=Path, help="folder to write, default the embedded dictionary of that pivot"
    )
    chosen = parser.parse_args(arguments)
    model, collection = open_model(choose_device()), demo.images()
    files = {name: chosen.weights / f"{name}.safetensors" for name in PARTNERS}
    partners = [PARTNERS[name].load(checkpoint=file) for name, file in files.items()]
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in files.items()}
    generator = demo.bundle().generator(model.device)  # type: ignore[misc]
    hashes[generator.name] = fingerprint(generator.module)
    if chosen.pivot == "generator":
        concepts, pictures = mined_from_generator(
            generator, model, partners, chosen.latents, chosen.heldout, list(demo.texts()), batch=64
        )
        source = {
            **about(model, [*partners, generator], None),
            "n_images": chosen.latents,
            "n_heldout": chosen.heldout,
            "partners": hashes,
        }
        dictionary.save(concepts, chosen.out or demo.bundle().generator_dictionary, source, pictures)
        return print(dictionary.summary(concepts))
    concepts = mined(
        model,
        partners,
        collection[: chosen.images],
        world.render(chosen.heldout, seed=2024).images,
        list(demo.texts()),
        generator,
        at_least=chosen.at_least,
        batch=64,
    )
    source = {
        **about(model, [*partners, generator], collection),
        "n_images": chosen.images,
        "n_heldout": chosen.heldout,
        "partners": hashes,
    }
    dictionary.save(concepts, chosen.out or demo.bundle().dictionary, source)
    print(dictionary.summary(concepts))


if __name__ == "__main__":
    main()
