"""The thesis's tables and figures, chapter by chapter: numbers, a Markdown report, figures.

    clipviz reproduce all [--model ViT-L-14 --pretrained laion2b_s32b_b82k --data FOLDER] [--quick]
    clipviz.reproduce.run("chapter2", "demo", "reproduction")
Every chapter is a module here with `run(model, out, **options) -> Path of its report`; `everything` runs them all and
writes one page. Finished steps are kept beside the report, so that an interrupted run continues where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

from clipviz import extras

CHAPTERS = ("world", "chapter2", "chapter3", "chapter4")
ALL = "all"


def run(
    chapter: str | argparse.Namespace, model: Any = "demo", out: str | Path = "reproduction", **options: Any
) -> Path | int:
    """Reproduce one chapter, or "all"; returns its report.

    chapter: one of CHAPTERS or "all" (the command line passes its options instead, and gets an exit code). model: a
    ClipModel, or a name for clipviz.load (with pretrained=...). out: folder for the report, figures and finished
    steps. Other options are the chapter's own. Raises ValueError for a chapter or an option that is not there,
    ImportError without the extra `reports`.
    """
    if isinstance(chapter, argparse.Namespace):
        given = vars(chapter)
        fixed = ("command", "room", "chapter", "model", "out")
        options = {name: value for name, value in given.items() if name not in fixed}
        options = {name: value for name, value in options.items() if value is not None and value is not False}
        report = run(given["chapter"], given["model"], given["out"], **options)
        print(report)
        return 0
    available = chapters()
    if chapter not in (*available, ALL):
        raise ValueError(f"expected a chapter among {', '.join(available)}, or all, got {chapter!r}")
    if lacking := extras.lacking("reports"):
        raise ImportError(f"reports hold interactive charts, and {lacking}")
    module = "everything" if chapter == ALL else f"{chapter}.chapter"
    reproduce = importlib.import_module(f"clipviz.reproduce.{module}").run
    taken = inspect.signature(reproduce).parameters
    known = [name for name in taken if name not in ("model", "out")]
    judges_itself = any(taken[name].kind is inspect.Parameter.VAR_KEYWORD for name in known)
    unknown = [] if judges_itself else sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"expected options of {chapter} ({', '.join(known)}), got {', '.join(unknown)}; leave them out"
        )
    return reproduce(model, Path(out), **options)


def chapters() -> list[str]:
    """The chapters that can be reproduced."""
    return [name for name in CHAPTERS if importlib.util.find_spec(f"clipviz.reproduce.{name}") is not None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `clipviz reproduce`."""
    parser.add_argument("chapter", choices=[ALL, *chapters()])
    parser.add_argument("--model", default="demo", help="'demo', an open_clip name or hf-hub:owner/model")
    parser.add_argument("--pretrained", help="open_clip tag or local checkpoint")
    parser.add_argument(
        *("--data", "--images"),
        dest="data",
        help="folder of images, one subfolder per class or a table of labels (default: the demo world)",
    )
    parser.add_argument("--segmentation", help="gtsegs_ijcv.mat, or a folder that holds images/ and masks/")
    parser.add_argument("--waterbirds", help="folder of the Waterbirds data set, with its metadata.csv")
    parser.add_argument(
        "--pool",
        action="append",
        metavar="NAME=FILE",
        help="chapters 2, 3: a further pool of texts, one per line, or words:10000; may be given several times",
    )
    parser.add_argument(
        "--describe-classes", help="chapters 2, 3: the language model that describes every class, by name"
    )
    parser.add_argument("--partners", nargs="+", help="chapter4: models to match with, by name")
    parser.add_argument("--index", help="chapter3: an index with --neurons, read instead of reference images")
    parser.add_argument(
        "--generator",
        help="chapter4: 'demo', or a file of a StyleGAN2's or BigGAN's weights (never a pickle)",
    )
    parser.add_argument("--generator-class", type=int, help="chapter4: the class that the generator paints")
    parser.add_argument("--out", default="reproduction", help="folder for report, figures and finished steps")
    parser.add_argument(
        "--limit", type=int, help="use at most this many images (below 256, chapter 4 is a small version)"
    )
    parser.add_argument("--quick", action="store_true", help="all, chapter3: a small version, to look at")
    parser.add_argument(
        "--summed",
        choices=("late", "all"),
        help="layers that maps of tokens sum for segmentation (default: late)",
    )
    parser.add_argument(
        "--neighbours",
        choices=("cosine", "product"),
        help="chapter2: how images are compared under a head (default: cosine; the thesis: product)",
    )
    parser.add_argument(
        "--describe", help="chapter3: the language model that writes adversarial scenes, by name"
    )
    parser.add_argument("--draw", help="chapter3: the text-to-image model that draws them, by name")
    parser.add_argument(
        "--pairs", help="chapter3: cifar10, traffic, or 'class drawn/class taken for, ...' for these scenes"
    )
    parser.add_argument("--shifted", help="chapter3: the same classes in another style, as ImageNet-R")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
