"""Mine the embedded dictionary: `python -m tools.demo.mine`.

The demo CLIP is the pivot, the embedded partners its company; the embedded collection is mined, fresh scenes of the
demo world are the honesty check, and others, of which it is known what is true, name the rows. The embedded
generator, which paints and does not look, is matched on its own samples. With `--pivot generator` it is the pivot, as
in Eq. 4.4, and a row needs every partner. Run it again after any of the models was trained again.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from clipviz.analysis.generation.guides import fingerprint
from clipviz.analysis.rosetta.dictionaries import (
    about,
    mined,
    mined_from_generator,
    name_generator,
    untrained_generator_rows,
    untrained_rows,
)
from clipviz.analysis.rosetta.text_labels import hints
from clipviz.demo.partners import ASSETS
from clipviz.demo.partners.reading import PARTNERS
from clipviz.models.clip import ClipModel
from clipviz.models.opening import choose_device
from clipviz.values import Concepts

N_SCENES, NAMING_SEEDS = 600, (2025, 2026)
"""Fresh scenes that names are chosen on, and as many that they have to hold on."""


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
    parser.add_argument("--latents", type=int, default=512, help="samples to mine on with --pivot generator")
    parser.add_argument("--images", type=int, default=256, help="pictures of the embedded collection to mine")
    parser.add_argument("--heldout", type=int, default=128, help="fresh scenes for the held-out correlation")
    parser.add_argument("--at-least", type=int, default=2, help="partners that a row needs")
    parser.add_argument("--weights", type=Path, default=ASSETS, help="folder of the partners' weights")
    parser.add_argument(
        "--out", type=Path, help="folder to write, default the embedded dictionary of that pivot"
    )
    parser.add_argument(
        "--names-only", action="store_true", help="name the rows of the dictionary that is there again"
    )
    chosen = parser.parse_args(arguments)
    model, collection = open_model(choose_device()), demo.images()
    files = {name: chosen.weights / f"{name}.safetensors" for name in PARTNERS}
    if chosen.names_only:
        return rename(model, chosen)
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
            "n_untrained": untrained_generator_rows(
                generator, model, partners, chosen.latents, chosen.heldout, batch=64
            ),
            "partners": hashes,
        }
        folder = chosen.out or demo.bundle().generator_dictionary
        dictionary.save(concepts, folder, source, pictures, small=True)
        return print(dictionary.summary(concepts))
    concepts = mined(
        model,
        partners,
        collection[: chosen.images],
        world.render(chosen.heldout, seed=2024).images,
        [],
        generator,
        at_least=chosen.at_least,
        batch=64,
    )
    concepts = replace(concepts, hints=true_names(model, concepts))
    source = {
        **about(model, [*partners, generator], collection),
        "n_images": chosen.images,
        "n_heldout": chosen.heldout,
        "n_untrained": untrained_rows(
            model,
            partners,
            collection[: chosen.images],
            generator,
            chosen.heldout,
            at_least=chosen.at_least,
            batch=64,
        ),
        "partners": hashes,
    }
    dictionary.save(concepts, chosen.out or demo.bundle().dictionary, source, small=True)
    print(dictionary.summary(concepts))


def true_names(model: ClipModel, concepts: Concepts) -> tuple[tuple[str, float], ...]:
    """Return names that are true of most of the strongest scenes of each unit, on scenes that they were not chosen
    on.
    """
    from clipviz import demo
    from clipviz.demo import world
    from clipviz.demo.world.truth import TRUE, truths

    texts = list(demo.texts())
    scenes = [world.render(N_SCENES, seed=seed) for seed in NAMING_SEEDS]
    true = [torch.from_numpy(truths(texts, one.attributes) == TRUE) for one in scenes]
    units = torch.as_tensor(concepts.units)[:, 0]
    first, second = (one.images for one in scenes)
    return hints(model, units, concepts.layers[0], first, second, texts, true=(true[0], true[1]))


def rename(model: ClipModel, chosen: argparse.Namespace) -> None:
    """Write the dictionary of a pivot with new names, and else as it is."""
    from clipviz import demo
    from clipviz.data import dictionary

    bundle = demo.bundle()
    folder = bundle.dictionary if chosen.pivot == "clip" else bundle.generator_dictionary
    assert folder is not None
    opened = dictionary.open_folder(folder)
    if chosen.pivot == "clip":
        named = true_names(model, opened.concepts)
    else:
        generator = bundle.generator(model.device)  # type: ignore[misc]
        named = name_generator(
            opened.concepts, generator, model, chosen.latents, chosen.heldout, demo.texts()
        )
    concepts = replace(opened.concepts, hints=named)
    replace(opened, concepts=concepts).save(chosen.out or folder, small=True)
    print(f"{sum(bool(text) for text, _ in named)} of {len(named)} rows are named")


if __name__ == "__main__":
    main()
