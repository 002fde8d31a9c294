"""`clipviz reproduce`: write a report from the command line and print its path."""

from __future__ import annotations

import argparse

from clipviz.reproduce import ALL, CHAPTERS
from clipviz.reproduce import run as reproduce


def run(options: argparse.Namespace) -> int:
    """Reproduce what the options name and print the path of the report; return the exit code."""
    fixed = ("command", "room", "chapter", "model", "out")
    given = {name: value for name, value in vars(options).items() if name not in fixed}
    chosen = {name: value for name, value in given.items() if value is not None and value is not False}
    print(reproduce(options.chapter, options.model, options.out, **chosen).path)
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `clipviz reproduce`."""
    parser.add_argument("chapter", choices=[ALL, *CHAPTERS])
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
    parser.add_argument(
        "--quick", action="store_true", help="all, chapter3: a small version for a first look"
    )
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
        "--pairs", help="chapter3: cifar10, traffic, or 'class drawn/wrong class, ...' for these scenes"
    )
    parser.add_argument("--shifted", help="chapter3: the same classes in another style, such as ImageNet-R")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
