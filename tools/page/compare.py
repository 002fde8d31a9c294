"""What a published page computes beside what Python says: cosines, effects, token scores, TextSpan, accuracies.

    python tools/page/compare.py --images 50 --texts 20
    python tools/page/compare.py "SigLIP B/16" --precision float32

Random weights with perturbed norms, but for the demo. Each model's folder is opened in node with the page's own
modules: the page tokenizes and encodes the texts and passes the pictures, and Python does the same by itself. One row
of a Markdown table is printed for each model and precision. Larger models take minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import clipviz
from clipviz.data.texts import BUILT_IN, open_texts
from clipviz.models.clip import ClipModel
from clipviz.page import carrying, export, packing, vendor
from clipviz.values import Ablation, Task

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

N_CLASSES = 4
N_POOL = 200
B16 = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16}
TEXT = {"context_length": 32, "width": 512, "heads": 8, "layers": 12}
CLIPA = {
    "embed_dim": 512,
    "vision_cfg": {**B16, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
    "text_cfg": {**TEXT, "vocab_size": 32000, "pool_type": "last", "no_causal_mask": True},
}
"""open_clip's configuration of CLIPA's towers at ViT-B/16's size; its own begin at ViT-L/14, which does not fit."""


def random_model(name: str, tokenizer: str | None = None, made: dict[str, Any] | None = None) -> ClipModel:
    """Return an open_clip architecture with random weights, its norms and biases moved, so that no share is 0.

    tokenizer: the kind of tokenizer that stands for the family's own, which would be fetched: one that the tests train.
    """
    import naive
    import open_clip
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    from open_clip.transform import image_transform_v2, merge_preprocess_dict

    torch.manual_seed(0)
    if made is None:
        network, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=None)
    else:
        network = CLIP(
            made["embed_dim"], CLIPVisionCfg(**made["vision_cfg"]), CLIPTextCfg(**made["text_cfg"])
        )
        preprocess = image_transform_v2(
            open_clip.transform.PreprocessCfg(**merge_preprocess_dict({}, {"size": 224})), is_train=False
        )
    naive.perturb(network.eval(), 7)
    stand_in = (
        open_clip.get_tokenizer(name) if tokenizer is None else stood_in(tokenizer, network.context_length)
    )
    return clipviz.wrap(network, tokenizer=stand_in, preprocess=preprocess, name=name)


def stood_in(kind: str, context: int) -> Any:
    """Return open_clip's tokenizer of a family on a small vocabulary that the tests train."""
    from open_clip.tokenizer import HFTokenizer, get_clean_fn

    from tests.page.test_tokenizer import trained

    made = HFTokenizer.__new__(HFTokenizer)
    made.tokenizer, made.context_length, made.tokenizer_mode = trained(kind), context, ""
    made.clean_fn = get_clean_fn("canonicalize" if kind == "sentence pieces" else "whitespace")
    made.strip_sep_token = kind == "word pieces"
    return made


MODELS: dict[str, Callable[[], ClipModel]] = {
    "demo": lambda: clipviz.load("demo", device="cpu"),
    "ViT-B/32": lambda: random_model("ViT-B-32"),
    "SigLIP B/16": lambda: random_model("ViT-B-16-SigLIP", "sentence pieces"),
    "CLIPA B/16": lambda: random_model("CLIPA B/16", "word pieces", CLIPA),
}


def pictures(n: int) -> list[Image.Image]:
    """Blocks of random colours, of several sizes."""
    draw = np.random.default_rng(0)
    return [
        Image.fromarray(draw.integers(0, 256, (7 + i % 5, 9, 3), dtype=np.uint8)).resize((300, 240))
        for i in range(n)
    ]


def typed(n: int) -> list[str]:
    """Texts as people type them, with capitals, accents and emoji; none of them is in a pool."""
    whole = ["A café in Zürich, at NIGHT 🌃", "the SEA without a wave", "naïve “owl” & 2 swans", "100% rouge"]
    return [f"{whole[i % len(whole)]} number {i}" for i in range(n)]


@dataclass(frozen=True)
class Compared:
    """What differs. cosine: the largest difference; heads, mlps, tokens, embedding: as shares of the largest number;
    rounded: the same between the page and the model before its weights were rounded. heads_described: how many heads
    have the same texts in the same order; gain: the largest difference of a text's share of a head's variance;
    accuracies: [ablation] of Python and of the page; ties: for each labelled image that the page puts into another
    class after an ablation, how far apart its two best cosines are in Python.
    """

    difference: dict[str, float]
    rounded: dict[str, float]
    heads_described: tuple[int, int]
    gain: float
    accuracies: list[tuple[float, float]]
    ties: list[float]
    ms: dict[str, float]
    megabytes: dict[str, float]
    memory: int

    @property
    def n_same_accuracies(self) -> int:
        return sum(abs(python - page) < 1e-6 for python, page in self.accuracies)


def numbers(trace: Any, directions: Tensor) -> bytes:
    """Return the embedding, then head effects, effects of MLPs and token scores on each text, as float32."""
    parts = (
        trace.embedding[0],
        (trace.head_effects()[0].flatten(0, 1) @ directions.T).T,
        (trace.mlp_effects()[0] @ directions.T).T,
        trace.token_scores(directions)[:, 0].flatten(1),
    )
    return b"".join(part.contiguous().numpy().tobytes() for part in parts)


def task_of(session: clipviz.Session) -> Task:
    """Return the first task of the images, or classes learnt from the first images of those that have no labels."""
    known = session.ablation.tasks()
    if known:
        return next(iter(known.values()))
    n, shown = len(session.images), 2 * N_CLASSES
    return Task(
        "drawn classes",
        tuple(f"class {i}" for i in range(N_CLASSES)),
        tuple((f"class {i}",) for i in range(N_CLASSES)),
        labels=tuple(-1 if i < shown else i % N_CLASSES for i in range(n)),
        groups=tuple("" if i < shown else f"group {i % 2}" for i in range(n)),
        examples=tuple((i, i + N_CLASSES) for i in range(N_CLASSES)),
    )


def ablations(session: clipviz.Session) -> list[Ablation]:
    """Nothing, heads, heads and a layer, heads set to 0, a half of all heads, everything but the heads."""
    n_layers, n_heads = session.model.n_layers, session.model.n_heads
    every = list(itertools.product(range(n_layers), range(n_heads)))
    some = frozenset([*every[-3:], every[len(every) // 2]])
    return [
        Ablation(),
        Ablation(some),
        Ablation(some, frozenset({n_layers - 2})),
        Ablation(some, how="zero"),
        Ablation(frozenset(every[::2])),
        session.ablation.everything_else(),
    ]


def compare(model: ClipModel, images: Any, pool: Any, n_texts: int, precision: export.Precision) -> Compared:
    """Write the folder that a page opens, write down what Python says, and have node compare."""
    shown, texts = export.in_precision(model, precision), typed(n_texts)
    session = clipviz.Session(
        shown, images=images, texts=pool, layers=range(model.n_layers), background=False
    )
    directions, whole = shown.encode_texts(texts), model.encode_texts(texts)
    task = task_of(session)
    classifier = session.ablation.classifier(task)
    assert classifier is not None
    removed = ablations(session)
    with tempfile.TemporaryDirectory() as place:
        site = Path(place)
        (site / "parts").mkdir()
        parts = packing.Folder(site / "parts")
        said = carrying.carry(session, parts, precision)
        said["contents"]["runtime"] = parts.add(vendor.runtime())
        packing.manifest(site / "manifest.json", said)
        for i in range(len(session.images)):
            (site / f"{i}.ref").write_bytes(numbers(session.images.trace(i), directions))
            if precision != "float32":
                trace = model.trace(session.images.opened[i])
                (site / f"{i}.whole").write_bytes(numbers(trace, whole))
        found = in_node(
            site=place,
            texts=texts,
            images=len(session.images),
            directions={"ref": directions.tolist(), "whole": whole.tolist()},
            kinds=["ref"] if precision == "float32" else ["ref", "whole"],
            ablations=[one.to_dict() for one in removed],
            classes=classifier.tolist(),
            labels=[task.label(i) for i in range(len(session.images))],
            groups=list(task.groups),
        )
    heads = list(itertools.product(range(model.n_layers), range(model.n_heads)))
    spans = list(
        zip([session.heads.textspan(*head, n_draws=0) for head in heads], found["spans"], strict=True)
    )
    wanted = [session.ablation.run(one, task).after.top1 for one in removed]
    pages = [one["top1"] for one in found["decided"]]
    tied = ties(session, task, removed, [one["classes"] for one in found["decided"]])
    session.close()
    return Compared(
        difference=found["difference"]["ref"],
        rounded=found["difference"].get("whole", {}),
        heads_described=(sum(span.order.tolist() == page["order"] for span, page in spans), len(heads)),
        gain=max(float(np.abs(np.subtract(span.gains, page["gains"])).max()) for span, page in spans),
        accuracies=list(zip(wanted, pages, strict=True)),
        ties=tied,
        ms=found["ms"],
        megabytes={key: content["sent"] / 1e6 for key, content in said["contents"].items()},
        memory=said["model"]["memory"],
    )


def ties(
    session: clipviz.Session, task: Task, removed: Sequence[Ablation], decided: Sequence[Sequence[int]]
) -> list[float]:
    """Return the distance of the two best cosines of each labelled image that is `decided` otherwise than in Python."""
    found = []
    for image in range(len(session.images)):
        if task.label(image) < 0:
            continue
        desk = session.ablation.desk(task, image)
        assert desk is not None
        for ablation, classes in zip(removed, decided, strict=True):
            logits, length = (desk.mean if ablation.how == "mean" else desk.zero).after(
                session.ablation.on_desk(ablation)
            )
            best = (logits / length).topk(2)
            if int(best.indices[0]) != classes[image]:
                found.append(float(best.values[0] - best.values[1]))
    return found


def in_node(**asked: Any) -> Any:
    """Return what compare.mjs answers."""
    from tests.page.node import SCRIPTS, node

    given = json.dumps({"scripts": str(SCRIPTS), **asked})
    ran = subprocess.run(
        [node(), ROOT / "tools/page/compare.mjs"], input=given, capture_output=True, text=True
    )
    if ran.returncode:
        raise RuntimeError(f"expected an answer of compare.mjs, got {ran.stderr[-2000:]}")
    return json.loads(ran.stdout)


COLUMNS = (
    "model",
    "weights",
    "page, MB",
    "cosines",
    "head effects",
    "MLPs",
    "token scores",
    "heads with the same ten texts",
    "shares of variance",
    "same accuracies",
    "cosines, effects, scores beside unrounded weights",
)


def row(name: str, precision: str, found: Compared) -> Sequence[str]:
    """Return the cells of a model's row."""
    share, far = found.difference, found.rounded
    keys = ("cosine", "heads", "mlps", "tokens")
    same, of = found.heads_described
    return (
        name,
        precision,
        f"{sum(found.megabytes.values()):.0f}",
        *(f"{share[key]:.0e}" for key in keys),
        f"{same} of {of}",
        f"{found.gain:.0e}",
        f"{found.n_same_accuracies} of {len(found.accuracies)}"
        + (f"; {len(found.ties)} images within {max(found.ties):.0e} of a tie" if found.ties else ""),
        ", ".join(f"{far[key]:.0e}" for key in ("cosine", "heads", "tokens")) if far else "–",
    )


def opened(name: str, n_images: int) -> tuple[ClipModel, Any, Any]:
    """Return a model, its images and its pool of texts."""
    model = MODELS[name]()
    if model.bundle is None:
        general = list(open_texts(BUILT_IN))
        return model, pictures(n_images), general[:: len(general) // N_POOL][:N_POOL]
    images, texts = model.bundle.images(), model.bundle.texts()
    return model, images.subset(np.linspace(0, len(images) - 1, n_images).astype(int).tolist()), texts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=list(MODELS), help=", ".join(MODELS))
    parser.add_argument("--images", type=int, default=50, help=f"at least {3 * N_CLASSES}")
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--precision", nargs="+", choices=export.PRECISIONS, default=list(export.PRECISIONS))
    options = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    for name in options.models:
        model, images, pool = opened(name, options.images)
        for precision in options.precision:
            found = compare(model, images, pool, options.texts, precision)
            print(f"| {' | '.join(row(name, precision, found))} |", flush=True)
            print(json.dumps({"ms": found.ms, "accuracies": found.accuracies}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
