"""Asks every question on the CPU and on the pretend accelerator, in a process of its own; prints one JSON line.

python pretend_driver.py WORK [WORD ...]      name -> "" where both answers agree to 1e-6, else what is wrong
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).parent))
import pretend
from few_texts import COMMON

import clipviz
from clipviz import panels
from clipviz.analysis.collection import classifiers, image_codes
from clipviz.analysis.cues import words
from clipviz.analysis.generation import inversion
from clipviz.analysis.heads import labels
from clipviz.analysis.rosetta import dictionaries, matching, mining
from clipviz.figures import chapter2 as figures
from clipviz.figures import style
from clipviz.lens import sparse, textspan
from clipviz.lens.invert import Schedule
from clipviz.models.preprocess import Preprocess
from clipviz.models.zoo import Partner
from clipviz.reproduce import evaluation
from clipviz.reproduce.chapter2 import chapter as chapter2
from clipviz.reproduce.chapter2 import pictures as chapter2_pictures
from clipviz.reproduce.chapter3 import chapter as chapter3
from clipviz.reproduce.report import Report
from clipviz.session import Board

CLOSE = 1e-6
ONLY = sys.argv[2:]  # words of the questions to ask, with the seconds that each takes
TEXTS = [*COMMON, "a car", "a blue star"]
ABLATION = clipviz.Ablation(heads={(5, 1), (4, 2)})
PANELS = [name for name in panels.__all__ if name != "Dashboard"]
PIXELS = Preprocess(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SILENT = {"seconds", "milliseconds", "device", "seq", "ack", "arrays"}


class Bench:
    """One device: the demo model on it, a session over a few images, and room on disk."""

    def __init__(self, device: str, work: Path) -> None:
        self.device, self.work = device, work / device
        self.work.mkdir(parents=True)
        self.model = clipviz.load("demo", device=device)
        demo = clipviz.demo.images()
        birds = [i for i, group in enumerate(demo.attributes["bird group"]) if group][:8]
        self.images = demo.subset([*range(8), *birds])  # what is read in steps is read in one
        self.few = demo.subset(range(4))
        self.session = clipviz.Session(self.model, self.images, TEXTS, background=False)
        self.session.select(image=3, layer=5, head=1, text="a dog", ablation=ABLATION)

    def tiny(self, seed: int, device: str | None = None) -> Partner:
        """An untrained network of two layers, on this bench's device unless another is said."""
        torch.manual_seed(seed)
        layers = (
            torch.nn.Conv2d(3, 6, 5, 4, 2),
            torch.nn.ReLU(),
            torch.nn.Conv2d(6, 4, 3, 2, 1),
            torch.nn.ReLU(),
        )
        network = torch.nn.Sequential(*layers).eval().requires_grad_(False).to(device or self.device)
        return Partner(f"tiny{seed}", network, PIXELS, ("1", "3"))


def shown(bench: Bench, name: str) -> dict[str, Any]:
    """What a panel shows, without a browser."""
    panel = getattr(panels, name)(bench.session)
    bench.session.wait(300, background=True)
    bench.session.wait(300)
    if panel.error:
        raise AssertionError(panel.error["message"] + panel.error["detail"])
    data = panel.data()
    panel.close()
    return data


def index(bench: Bench) -> Any:
    options = {"batch": 4, "thumbnail": 16, "progress": False, "workers": 0, "precision": "fp32"}
    made = clipviz.Index.build(bench.model, bench.few, bench.work / "index", neurons=(3,), **options)
    opened = clipviz.Session(bench.model, index=made, texts=TEXTS, background=False)
    answers = [
        made.codes(),
        opened.heads.textspan(5, 1, 3),
        opened.neurons.layer(3).line.directions,
        opened.images.neighbours(0),
    ]
    opened.close()
    return answers


def mined(bench: Bench) -> Any:
    partners = [bench.tiny(0), bench.tiny(1)]
    return dictionaries.mined(bench.model, partners, bench.few, bench.few, TEXTS, at_least=1, above=0.3)


def matched(bench: Bench, other: str | None) -> Any:
    pair, pictures = (bench.model, bench.tiny(0, other)), bench.few
    matches = clipviz.match(*pair, pictures)
    return [
        matches,
        matching.heldout_correlation(*pair, pictures, matches, matches.pairs[:9]),
        matching.unit_pairs(*pair, pictures, matches, matches.pairs[:9]),
    ]


def of_session(name: str, *args: Any, **kwargs: Any) -> Callable[[Bench], Any]:
    def ask(bench: Bench) -> Any:
        answer = attrgetter(name)(bench.session)
        return answer(*args, **kwargs) if callable(answer) else answer

    return ask


PAIR = ("horse", "zebra")
SESSION: dict[str, tuple[Any, ...]] = {
    "texts.direction": ("a dog",),
    "texts.pool": (),
    "images.pixels": (3,),
    "images.picture": (3,),
    "images.search": ("a dog", 5),
    "images.neighbours": (2, 5, 5, 1),
    "images.atlas": (5, 1),
    "heads.effects": ("a dog", 3),
    "heads.variance": (),
    "heads.textspan": (5, 1, 4),
    "heads.label": (5, 1),
    "heads.summaries": (),
    "maps.tokens": ("a dog", 3),
    "maps.attention": (3,),
    "maps.compare": ("a dog", 3),
    "maps.joint": (5, 1, 3),
    "maps.shared": (3,),
    "maps.truth": (3,),
    "ablation.run": (ABLATION,),
    "ablation.desk": (),
    "ablation.presets": ("a dog", 3),
    "ablation.shortcut_heads": ("the sea", "a forest"),
    "neurons.direction": ("a dog", "a car"),
    "neurons.describe": (3, [0, 5, 9], 4),
    "neurons.concepts": (3,),
    "neurons.map": ("a dog", 3),
    "neurons.effects": (5, 3, 3),
    "cues.find": (PAIR,),
    "receipts": (),
}


def whole_board(bench: Bench) -> Any:
    """The dashboard with a desk open, and what its panels show after a click in one and a word in another."""
    board = clipviz.Dashboard(bench.session)
    heads = next(panel for panel in board.panels if panel.name == "heads")
    query = next(panel for panel in board.panels if panel.name == "query")
    heads.request = {"seq": 1, "changes": {"layer": 4, "head": 2}}
    query.request = {"seq": 1, "changes": {"text": "a car"}}
    bench.session.wait(300)
    wrong = [panel.error for panel in board.panels if panel.error]
    seen = {panel.name: panel.data() for panel in board.panels if panel.name != "receipts"}
    board.close()
    while Board.of(bench.session).can_undo and bench.session.selection.text != "a dog":
        bench.session.undo()
    return wrong, seen


def painted(bench: Bench, made: Any) -> Any:
    """What a search in a generator found, and what its pictures differ by from those of the latents found.

    A picture moves 40 times as far as a latent, so pictures are compared where the latents are the same.
    """
    return (
        made.latents.z,
        made.images - bench.session.generator.model.images(made.latents).detach(),
        made.distance,
    )


SHORT = Schedule(2, 0.02)


def edited(bench: Bench) -> Any:
    session = bench.session
    session.generator.model = clipviz.load_generator("demo", device=bench.device)
    latents = session.generator.model.sample(1, seed=3)
    moved = session.generator.edit(latents, "shift", right=0.1, schedule=SHORT)
    one = session.generator.visualise(3, n_starts=1, schedule=SHORT)
    back = session.generator.invert(3, schedule=SHORT)
    pictures = session.generator.model.images(latents).detach()
    return pictures, *(painted(bench, made) for made in (moved, one, back))


def reported(bench: Bench) -> Any:
    """What the reports measure of a layer: its statistics over the images of the study, read in batches."""
    study = chapter3.open_study(bench.model, bench.work / "study", limit=6, quiet=True, quick=True)
    known = study.layer(3)
    return known.stats, known.norms, known.thresholds


def fewer(made: evaluation.Evaluation) -> evaluation.Evaluation:
    """An evaluation with every fourth text."""
    pools = {name: pool.subset(range(0, len(pool), 4)) for name, pool in made.pools.items()}
    return dataclasses.replace(made, pools=pools)


def second_chapter(bench: Bench) -> Any:
    """The report of chapter 2 on a few images, texts and examples: every table and sentence of it.

    Its figures are drawn for the device alone, to see that they meet no tensor of it.
    """
    drawn = [name for name, made in vars(figures).items() if hasattr(made, "__wrapped__")]
    nothing = {name: lambda *_, **__: None for name in drawn if bench.device != pretend.NAME}
    whole, learnt = chapter2._evaluation, classifiers.from_pictures
    with (
        patch.dict(vars(figures), nothing),
        patch.multiple(chapter2_pictures, N_HEADS=1, N_TEXTS=2),
        patch.object(chapter2, "_evaluation", lambda *given: fewer(whole(*given))),
        patch.object(
            classifiers,
            "from_pictures",
            lambda model, images, examples: learnt(model, images, [some[:4] for some in examples]),
        ),
    ):
        path = chapter2.run(bench.model, bench.work / "chapter2", limit=12, quiet=True)
    return path.read_text().split("\nMade in")[0]


def full_device(bench: Bench) -> Any:
    """The collection read while tensors of more than 2 MB are refused: fewer images per pass, the same codes."""
    with pretend.memory(2 << 20) as refused:
        session = clipviz.Session(bench.model, bench.images, TEXTS, background=False)
    halved = bool(refused) == bool(session.images.codes.notes) == (bench.device == pretend.NAME)
    session.close()
    return halved, session.images.codes.n_ready, session.images.codes.codes


QUESTIONS: dict[str, Callable[[Bench], Any]] = {
    **{f"session.{name}": of_session(name, *args) for name, args in SESSION.items()},
    "session.neurons.layer": lambda bench: bench.session.neurons.layer(3).line.directions,
    "the desk, MLPs apart": of_session("ablation.desk", apart=True, class_token=True),
    "session.cues.attack": of_session("cues.attack", PAIR, n_sentences=1, n_images=1),
    **{f"panel {name}": partial(shown, name=name) for name in PANELS},
    "second order": lambda bench: [
        (second := bench.model.second_order([bench.images[0], bench.images[1]], 3)).norms(),
        second.effects([1, 2]),
    ],
    "textspan": lambda bench: textspan.textspan(
        bench.model.trace([bench.images[i] for i in range(6)]).head_effects()[:, 5, 1],
        bench.model.encode_texts(TEXTS),
        3,
    ),
    "sparse codes": lambda bench: sparse.sparse_code(
        bench.session.neurons.layer(3).line.directions[:9], bench.model.encode_texts(TEXTS), 3
    ),
    "index": index,
    "a device that is full": full_device,
    "dashboard": whole_board,
    "edit, visualise, invert": edited,
    "a report's layer": reported,
    "the report of chapter 2": second_chapter,
    "match": lambda bench: matched(bench, None),
    "match with a partner on the CPU": lambda bench: matched(bench, "cpu"),
    "mine": mined,
    "maps of units": lambda bench: mining.maps_of_units(
        bench.tiny(0), bench.few, torch.tensor([0, 7, -1]), (("1", 6), ("3", 4))
    ),
    "session.images.add": lambda bench: (  # last: the others count 16 images
        bench.session.images.add(bench.images[0]),
        bench.session.images.neighbours(16, 3, 2),
        bench.session.images.trace(16).embedding,
    ),
}


def differing(one: Any, other: Any, path: str = "") -> str:
    """Where two answers differ by more than CLOSE of the largest number beside it; empty where they do not."""
    if isinstance(one, torch.Tensor):
        one, other = one.detach().cpu().numpy(), other.detach().cpu().numpy()
    if isinstance(one, np.ndarray):
        if one.dtype.kind not in "fc":
            return "" if np.array_equal(one, other) else f"{path}: other values"
        scale = max(1.0, float(np.abs(np.nan_to_num(one, posinf=0, neginf=0)).max(initial=0)))
        same = np.allclose(one, other, rtol=0, atol=CLOSE * scale, equal_nan=True)
        return "" if same else f"{path}: off by {np.abs(one - other).max():.2g}"
    if isinstance(one, float):
        return (
            ""
            if abs(one - other) <= CLOSE * max(1, abs(one)) or one == other
            else f"{path}: {one} != {other}"
        )
    if isinstance(one, Mapping):
        if set(one) != set(other):
            return f"{path}: other keys"
        return "".join(differing(one[key], other[key], f"{path}.{key}") for key in one if key not in SILENT)
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return "".join(differing(getattr(one, n), getattr(other, n), f"{path}.{n}") for n in names)
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{path}: {len(one)} != {len(other)} parts"
        return "".join(
            differing(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True))
        )
    if one is None or isinstance(one, str | int | bool | bytes):
        return "" if one == other else f"{path}: {one!r} != {other!r}"
    return differing(vars(one), vars(other), path) if hasattr(one, "__dict__") else ""


def main(work: Path) -> dict[str, str]:
    host, device = Bench("cpu", work), Bench(pretend.NAME, work)
    found = {}
    for name, ask in QUESTIONS.items():
        if ONLY and not any(word in name for word in ONLY):
            continue
        started = time.process_time()
        try:
            found[name] = differing(ask(host), ask(device))[:500]
        except Exception:
            found[name] = traceback.format_exc()[-1500:]
        if ONLY:
            print(name, round(time.process_time() - started, 1), found[name], file=sys.stderr)
    host.session.close()
    device.session.close()
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    in_steps = labels.label_in_steps  # devices do not depend on how many draws or starts there are
    labels.label_in_steps = lambda *own, **__: in_steps(*own[:4], n_draws=4)
    inversion.N_STARTS = 6
    words.N_ROTATIONS = 4
    image_codes.STEP = 600.0  # the same batches, and so the same versions, however slow a device is
    evaluation.DEMO_MASKS, evaluation.DEMO_BIRDS = 2, 8
    style.save = lambda *_, **__: []  # figures are drawn from numbers that are compared
    Report.interactive = lambda *_: None
    pretend.install()
    with sdpa_kernel(SDPBackend.MATH):  # the attention that the pretend device has: the same sums on both
        print(json.dumps(main(Path(sys.argv[1]))))
