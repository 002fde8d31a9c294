"""Make the demo again: python -m tools.demo [STEP ...] [--list] [--adopt].

Every step that depends on the world or on a model runs in order and is recorded in tools/demo/made.json; a step whose
files have not changed is skipped, and a run that was stopped goes on where it stopped. Training takes hours and runs
only where it is named. --list says which steps are due and why; --adopt records the files as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from clipviz.files import write_whole
from tools.demo import cards, shared
from tools.demo.features import of_dictionary, of_seeds
from tools.demo.steps import Ledger, Step, run

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "demo"
ASSETS = "clipviz/demo/assets"
WORLD = ("clipviz/demo/world/*.py", f"{ASSETS}/sprites.zip")
MODEL = ("clipviz/demo/model/network.py", "clipviz/demo/model/assets/*")
COLLECTION, TEXTS = f"{ASSETS}/collection.zip", f"{ASSETS}/texts/demo.tsv"
PARTNERS = ("clipviz/demo/partners/nets.py", "clipviz/demo/partners/assets/*")
GENERATOR = ("clipviz/demo/generator/network.py", "clipviz/demo/generator/assets/generator.safetensors")
CARDS = (
    "clipviz/demo/model/MODEL_CARD.md",
    "clipviz/demo/generator/MODEL_CARD.md",
    "docs/demo.md",
    "docs/stage.md",
    "docs/fidelity.md",
    "docs/dictionaries.md",
)
REPORTS = {
    **{name: WORK / "reports" / f"{name}.md" for name in ("world", "chapter4", "dictionaries", "fidelity")},
    "features": ROOT / ASSETS / "features" / "REPORT.md",
}
HELD_OUT = 4000
"""Scenes of the report card."""


def python(*arguments: str, threads: int | None = 1) -> None:
    """Run Python in a process of its own, from the repository's root; raises CalledProcessError if it fails.

    Sums over several threads are added in another order, and images that are nearly as good then change places.
    Training alone takes what there is (None).
    """
    environment = dict(os.environ) if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True)


def module(name: str, *arguments: str) -> None:
    python("-m", name, *arguments)


def train(name: str, target: str) -> None:
    """A training run in a folder that is kept, so that a stopped one goes on; its weights go to their place."""
    folder = WORK / Path(target).stem
    python("-m", name, str(folder), threads=None)
    shutil.copyfile(folder / Path(target).name, ROOT / target)


def train_partner(kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / f"{kind}.safetensors"
        module("tools.demo.partners", kind, "--out", str(weights))
        shutil.copyfile(weights, ROOT / f"clipviz/demo/partners/assets/{weights.name}")


def report(chapter: str, *arguments: str) -> None:
    out = REPORTS[chapter].parent
    shared.write(REPORTS["dictionaries"])
    module("clipviz.cli", "reproduce", chapter, "--out", str(out), *arguments)
    cards.fill_files([ROOT / card for card in CARDS], REPORTS)


def of_this_model(page: Path) -> None:
    """Write the fingerprint of the model that a page's numbers are of."""
    import clipviz

    name = clipviz.load("demo", device="cpu").fingerprint
    page.write_text(re.sub(r"fingerprint `\w+`", f"fingerprint `{name}`", page.read_text("utf-8")), "utf-8")


def features() -> None:
    """The dictionary of directions, and what its page says of it."""
    module("tools.demo.features")
    fill_dictionaries()


def fill_dictionaries() -> None:
    """Write the report on the dictionary of directions into its page."""
    page = ROOT / CARDS[-1]
    found = json.loads(REPORTS["features"].with_name("report.json").read_text("utf-8"))
    cards.fill_files([page], REPORTS)
    text = page.read_text("utf-8")
    for name, paragraph in (("dictionary", of_dictionary(found)), ("seeds", of_seeds(found))):
        text = cards.said(text, name, paragraph)
    page.write_text(text, "utf-8")


def world_card() -> None:
    """The report card of the model, which says whose numbers it has."""
    report("world", "--limit", str(HELD_OUT))
    of_this_model(ROOT / CARDS[0])


def fidelity() -> None:
    """The deviations from the thesis, and the model that they were measured on."""
    from benchmarks.fidelity import report

    REPORTS["fidelity"].parent.mkdir(parents=True, exist_ok=True)
    write_whole(REPORTS["fidelity"], report().encode())
    page = ROOT / "docs" / "fidelity.md"
    cards.fill_files([page], REPORTS)
    of_this_model(page)


STEPS = (
    Step(
        "collection",
        "draw the embedded collection",
        WORLD,
        (COLLECTION,),
        lambda: module("clipviz.demo.world.archive", COLLECTION),
    ),
    Step(
        "model",
        "train the CLIP",
        (
            *WORLD,
            "tools/demo/train.py",
            "tools/demo/batches.py",
            "tools/demo/objective.py",
            "tools/demo/texts.py",
        ),
        ("clipviz/demo/model/assets/model.safetensors",),
        lambda: train("tools.demo.train", "clipviz/demo/model/assets/model.safetensors"),
        long=True,
    ),
    *(
        Step(
            kind,
            f"train the partner {kind}",
            (*WORLD, "tools/demo/partners.py", "clipviz/demo/partners/nets.py"),
            (f"clipviz/demo/partners/assets/{kind}.safetensors",),
            lambda kind=kind: train_partner(kind),
            long=True,
        )
        for kind in ("cnn", "vit")
    ),
    Step(
        "generator",
        "train the generator",
        (
            "clipviz/demo/generator/network.py",
            "clipviz/demo/generator/scenes.py",
            "clipviz/demo/generator/teacher.py",
            "tools/demo/generator.py",
        ),
        ("clipviz/demo/generator/assets/generator.safetensors",),
        lambda: train("tools.demo.generator", "clipviz/demo/generator/assets/generator.safetensors"),
        long=True,
    ),
    Step(
        "locator",
        "train the network that measures the generator's pictures",
        (
            "clipviz/demo/generator/locator.py",
            "clipviz/demo/generator/scenes.py",
            "clipviz/demo/generator/teacher.py",
            "tools/demo/locator.py",
        ),
        ("clipviz/demo/generator/assets/locator.safetensors",),
        lambda: train("tools.demo.locator", "clipviz/demo/generator/assets/locator.safetensors"),
        long=True,
    ),
    Step(
        "texts",
        "write the pool of texts",
        ("clipviz/demo/world/vocabulary.py", "tools/demo/texts.py"),
        (TEXTS,),
        lambda: module("tools.demo.texts"),
    ),
    Step(
        "index",
        "index the collection",
        (*MODEL, COLLECTION),
        (f"{ASSETS}/index/**/*",),
        lambda: module("tools.demo.index"),
    ),
    Step(
        "features",
        "train the dictionary of directions and report on it",
        (*MODEL, *WORLD, "tools/demo/features.py", "clipviz/models/dictionaries/training.py"),
        (f"{ASSETS}/features/*",),
        features,
    ),
    Step(
        "first view",
        "choose what is shown first, and in the tour",
        (*MODEL, COLLECTION, TEXTS, f"{ASSETS}/features/*", "tools/demo/choices.py"),
        (f"{ASSETS}/chosen.json",),
        lambda: module("tools.demo.choices"),
    ),
    Step(
        "dictionary",
        "mine the units that CLIP shares with its partners",
        (
            *MODEL,
            *PARTNERS,
            *GENERATOR,
            COLLECTION,
            TEXTS,
            "clipviz/analysis/rosetta/mining.py",
            "clipviz/lens/rosetta.py",
        ),
        (f"{ASSETS}/rosetta/*",),
        lambda: module("tools.demo.mine"),
    ),
    Step(
        "shared features",
        "match the features of the dictionary of directions with a partner",
        (*MODEL, *PARTNERS, COLLECTION, TEXTS, f"{ASSETS}/features/*", "clipviz/analysis/rosetta/mining.py"),
        (),
        lambda: module("tools.demo.shared_features"),
    ),
    Step(
        "generator dictionary",
        "mine the units that the generator shares with its readers",
        (
            *MODEL,
            *PARTNERS,
            *GENERATOR,
            TEXTS,
            "clipviz/analysis/rosetta/mining.py",
            "clipviz/lens/rosetta.py",
        ),
        (f"{ASSETS}/generator_rosetta/*",),
        lambda: module("tools.demo.mine", "--pivot", "generator"),
    ),
    Step(
        "guides",
        "find and name the units that guide edits",
        (*MODEL, *PARTNERS, *GENERATOR, TEXTS, "clipviz/analysis/generation/guides.py"),
        (f"{ASSETS}/guides.safetensors", f"{ASSETS}/generator_concepts.json"),
        lambda: module("tools.demo.guides"),
    ),
    Step(
        "world card",
        "measure the model on held-out scenes and fill in its card",
        (*MODEL, *WORLD, COLLECTION, TEXTS, "clipviz/reproduce/world/*.py"),
        ("clipviz/demo/model/MODEL_CARD.md", "docs/stage.md"),
        world_card,
    ),
    Step(
        "generator card",
        "measure edits and inversions through the generator and fill in its card",
        (
            *MODEL,
            *PARTNERS,
            *GENERATOR,
            f"{ASSETS}/guides.safetensors",
            "clipviz/demo/generator/judging.py",
            "clipviz/demo/generator/assets/locator.safetensors",
            "clipviz/analysis/generation/*.py",
            "clipviz/lens/invert.py",
            "clipviz/reproduce/chapter4/*.py",
        ),
        ("clipviz/demo/generator/MODEL_CARD.md",),
        lambda: report("chapter4"),
    ),
    Step(
        "nulls",
        "measure what networks that have learnt nothing give",
        (*MODEL, COLLECTION, TEXTS, f"{ASSETS}/rosetta/*", f"{ASSETS}/generator_rosetta/*", "tools/nulls.py"),
        ("docs/nulls.json", "docs/nulls.md"),
        lambda: python("tools/nulls.py"),
    ),
    Step(
        "fidelity",
        "measure what each deviation from the thesis changes",
        (*MODEL, *GENERATOR, COLLECTION, TEXTS, f"{ASSETS}/guides.safetensors", "benchmarks/fidelity.py"),
        ("docs/fidelity.md",),
        fidelity,
    ),
    Step(
        "pictures",
        "take the pictures of the README and the gallery",
        (
            *MODEL,
            COLLECTION,
            TEXTS,
            f"{ASSETS}/rosetta/*",
            f"{ASSETS}/chosen.json",
            "clipviz/panels/**/*",
            "tools/gallery.py",
        ),
        ("docs/*.png", "docs/gallery/*"),
        lambda: python("tools/gallery.py"),
    ),
    Step(
        "notebooks",
        "run the notebooks and keep what their cells show",
        (*MODEL, COLLECTION, TEXTS, "clipviz/panels/**/*"),
        ("notebooks/*.ipynb",),
        lambda: python("tools/notebooks.py"),
    ),
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", help="only these steps, whether they are due or not")
    parser.add_argument("--list", action="store_true", help="say which steps are due, and run none")
    parser.add_argument("--adopt", action="store_true", help="record the files as they are, and run no step")
    options = parser.parse_args(arguments)
    ledger = Ledger(Path(__file__).with_name("made.json"), ROOT)
    if options.adopt or options.list:
        for step in STEPS:
            if options.adopt and (not options.steps or step.name in options.steps):
                ledger.record(step)
            print(f"{step.name:22} {ledger.reason(step) or 'as it was left'}")
        return
    torch.set_num_threads(1)  # of the steps that run here; see python()
    if not run(STEPS, ledger, options.steps):
        print("nothing to do")


if __name__ == "__main__":
    main()
