"""`clipviz index`: build, append to, merge and verify indexes from the command line."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from clipviz.indexing.building import PRECISIONS
from clipviz.indexing.index import Index
from clipviz.indexing.ranks import Ranks, join_torchrun, leave, local_device

DESCRIPTION = """\
Run a model over images once and write an index that every panel reads. After an interruption, run the command
again: it continues where it stopped.

  clipviz index photos/ --out photos.index
  clipviz index "shards-{000..099}.tar" --model ViT-L-14 --pretrained openai --out shards.index
  torchrun --nproc-per-node 8 -m clipviz.cli index photos/ --model ViT-L-14 --pretrained openai --out photos.index
  clipviz index more/ --append --out photos.index
  clipviz index a.index b.index --merge --out both.index
  clipviz index photos.index --verify
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments that `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGES",
        help="folders, list files, tars, parquet files; indexes with --merge",
    )
    parser.add_argument("--out", "-o", metavar="PATH", help="folder of the index")
    parser.add_argument("--model", default="demo", help='an open_clip name, or "demo"')
    parser.add_argument("--pretrained", help="a pretrained tag or a checkpoint file")
    parser.add_argument("--device", help="cpu, cuda:0 ...; default: the fastest available, one GPU per rank")
    parser.add_argument("--layers", help='layers whose heads are kept: "last 4" (default) or "8,9,10,11"')
    parser.add_argument("--batch", type=int, default=64, help="images per forward pass")
    parser.add_argument("--shard", type=int, default=4096, help="images per commit")
    parser.add_argument("--workers", type=int, help="processes that decode images")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument("--thumbnail", type=int, default=96, help="pixels of thumbnails, 0 for none")
    parser.add_argument(
        "--neurons", help="MLP layers whose second-order statistics are kept too, such as 8,9"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--append", action="store_true", help="add the images to the index at --out")
    action.add_argument("--merge", action="store_true", help="merge the indexes IMAGES into --out")
    action.add_argument(
        "--verify", action="store_true", help="read every byte and say which files are damaged"
    )


def run(args: argparse.Namespace) -> int:
    """Run `clipviz index`; return 0 on success, or 1 after printing a message on stderr."""
    joined = False
    try:
        if args.verify:
            return _verify(args)
        joined = join_torchrun()
        _check(args)
        start = time.monotonic()
        index = Index.merge(args.images, args.out) if args.merge else _pass(args)
        if Ranks.current().first:
            print(summary(index, time.monotonic() - start))
        return 0
    except (ValueError, OSError) as error:
        print(f"clipviz index: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("clipviz index: stopped; run the same command again to continue from here", file=sys.stderr)
        return 130
    finally:
        if joined:
            leave()


def summary(index: Index, seconds: float) -> str:
    """Return a few lines about the content of an index and the duration of the pass."""
    skipped = index.manifest["skipped"]
    size = sum(spec["bytes"] for spec in index.manifest["columns"].values())
    told = [
        f"{len(index):,} images in {str(index.path)!r}, layers {list(index.layers)}, {size / 1e6:,.1f} MB "
        f"({index.bytes_per_image:,.0f} bytes per image without its thumbnail)",
        f"{seconds:,.1f} s, {len(index) / max(seconds, 1e-9):,.0f} images/s; effects sum to the embedding within "
        f"{index.manifest['sum_check']:.1e}",
        f"{skipped['count']:,} skipped" + (":" if skipped["count"] else ""),
    ]
    told += [f"  {name}: {reason}" for name, reason in skipped["images"][:5]]
    if skipped["count"] > 5:
        told.append("  ... (Index.open(path).skipped lists them all)")
    return "\n".join(told)


def _pass(args: argparse.Namespace) -> Index:
    from clipviz.loading import load

    model = load(args.model, args.pretrained, device=local_device(args.device))
    options: dict[str, Any] = {"workers": args.workers, "progress": not args.quiet}
    images = args.images[0] if len(args.images) == 1 else args.images
    if args.append:
        return Index.open(args.out).append(model, images, **options)
    return Index.build(
        model,
        images,
        args.out,
        layers=_layers(args.layers, model.n_layers),
        batch=args.batch,
        shard=args.shard,
        precision=args.precision,
        thumbnail=args.thumbnail,
        neurons=_layers(args.neurons, model.n_layers) or (),
        **options,
    )


def _verify(args: argparse.Namespace) -> int:
    paths = args.images or ([args.out] if args.out else [])
    if not paths:
        raise ValueError("expected an index to verify, got none; run `clipviz index PATH --verify`")
    problems = {path: Index.verify(path) for path in paths}
    for path, found in problems.items():
        said = f"{len(found)} problem{'s'[: len(found) - 1]}" if found else "verified, no damage"
        print(f"{path}: {said}")
        for problem in found:
            print(f"  {problem}")
    if any(problems.values()):
        print("Restore the files named above from a copy, or delete the folder and build the index again.")
        return 1
    return 0


def _check(args: argparse.Namespace) -> None:
    if not args.images or not args.out:
        missing = "images" if not args.images else "--out PATH"
        raise ValueError(f"expected IMAGES and --out PATH, got no {missing}; see `clipviz index --help`")


def _layers(text: str | None, n_layers: int) -> list[int] | None:
    if text is None:
        return None
    words = text.replace(",", " ").split()
    try:
        if words[:1] == ["last"]:
            return list(range(max(0, n_layers - int(words[1])), n_layers))
        return [int(word) for word in words]
    except (ValueError, IndexError) as error:
        raise ValueError(f'expected layers like "last 4" or "8,9,10,11", got {text!r}') from error
