"""The command line: clipviz demo, index, doctor, reproduce."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

from clipviz.data.files import write_whole

NOTEBOOK = "dashboard.ipynb"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors that a user can mend are printed without a traceback, exit code 2."""
    parser = argparse.ArgumentParser(
        prog="clipviz", description="What a CLIP image encoder is made of, interactively."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(commands.add_parser("demo", help="open JupyterLab on the dashboard"))
    commands.add_parser("doctor", help="check this installation")
    for name, room, text in (
        ("index", "clipviz.indexing.command", "read a collection of images once, into small files"),
        ("reproduce", "clipviz.reproduce", "the thesis's tables and figures"),
    ):
        if importlib.util.find_spec(room) is not None:
            _delegate(commands.add_parser(name, help=text), name, room, arguments)
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # names of files are printed whatever the locale
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        if options.command == "demo":
            return demo(options)
        if options.command == "doctor":
            return doctor()
        return int(importlib.import_module(options.room).run(options) or 0)
    except (ValueError, OSError) as error:
        print(f"clipviz {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def demo(options: argparse.Namespace) -> int:
    """Write the dashboard notebook for the chosen model and images, and start JupyterLab on it."""
    folder = Path(options.folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / NOTEBOOK
    if target.exists() and not options.fresh:
        print(f"opening {target} (pass --fresh to write it anew)")
    else:
        made = notebook(options.model, options.pretrained, options.images, options.texts, options.device)
        write_whole(target, made.encode())
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        str(target),
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates=False",
    ]
    command += [f"--port={options.port}"] if options.port else []
    command += [f"--ip={options.ip}"] if options.ip else []
    command += ["--no-browser"] if options.no_browser else []
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command += options.lab
    if options.dry_run:
        print(" ".join(command))
        return 0
    os.execv(sys.executable, command)


def notebook(
    model: str = "demo",
    pretrained: str | None = None,
    images: str | None = None,
    texts: str | None = None,
    device: str | None = None,
) -> str:
    """The dashboard notebook as JSON, for any model and images."""
    import json

    if images is not None and not Path(images).expanduser().exists():
        raise ValueError(f"expected a folder or file of images, got {images!r}, which does not exist")
    if model != "demo" and images is None:
        raise ValueError(f"model {model!r} needs images of yours: --images FOLDER")
    arguments = [repr(model)]
    arguments += [f"pretrained={pretrained!r}"] if pretrained else []
    arguments += [f"device={device!r}"] if device else []
    extra = f", images={str(Path(images).expanduser().resolve())!r}" if images else ""
    extra += f", texts={texts!r}" if texts else ""
    cells = [
        (
            "markdown",
            "# clipviz\nWhat is this CLIP made of? Click a head, type a text, choose an image: everything follows.",
        ),
        (
            "code",
            f"import clipviz\n\nsession = clipviz.Session(clipviz.load({', '.join(arguments)}){extra})\n"
            "dashboard = clipviz.Dashboard(session)\ndashboard",
        ),
        (
            "markdown",
            "What is on screen is also a value: `session.selection`, `session.to_code()`, `session.textspan(5, 0)`. "
            "`dashboard.save_html('view.html')` keeps the view in one file.",
        ),
        ("code", "session.selection"),
    ]
    return json.dumps(
        {
            "cells": [
                {"cell_type": kind, "id": f"cell-{i}", "metadata": {}, "source": source}
                | ({"execution_count": None, "outputs": []} if kind == "code" else {})
                for i, (kind, source) in enumerate(cells)
            ],
            "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        },
        indent=1,
    )


def doctor() -> int:
    """Print what this installation has, try the embedded model, and say what to mend."""
    import time
    from importlib.metadata import PackageNotFoundError, version

    print(f"clipviz on Python {platform.python_version()}, {platform.platform()}")
    missing = []
    for package in (
        "torch",
        "open_clip_torch",
        "anywidget",
        "ipywidgets",
        "jupyterlab",
        "plotly",
        "scikit-learn",
    ):
        try:
            print(f"  {package:18} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
            print(f"  {package:18} missing: pip install {package}")
    if missing:
        return 1
    import torch

    from clipviz.loading import load
    from clipviz.models.clip import choose_device

    print(
        f"  device             {choose_device()} (cuda {torch.cuda.is_available()}, threads {torch.get_num_threads()})"
    )
    print(f"  browser for tests  {shutil.which('chromium') or shutil.which('google-chrome') or 'none found'}")
    started = time.perf_counter()
    model = load("demo")
    print(
        f"  demo model         sum check {model.sum_check:.0e}, loaded in {time.perf_counter() - started:.1f} s"
    )
    print("all is well: clipviz demo")
    return 0


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="'demo', an open_clip name, or hf-hub:owner/model")
    parser.add_argument("--pretrained", help="an open_clip tag or a local checkpoint")
    parser.add_argument("--images", help="a folder of images; the embedded collection for the demo model")
    parser.add_argument("--texts", help="general, demo, or a file with one text a line")
    parser.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    parser.add_argument("--folder", default="clipviz-demo", help="where the notebook is written")
    parser.add_argument("--fresh", action="store_true", help="write the notebook anew")
    parser.add_argument("--port", type=int)
    parser.add_argument("--ip")
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument(
        "--dry-run", action="store_true", help="write the notebook and print the command only"
    )
    parser.add_argument("lab", nargs="*", help="further JupyterLab options, after --")


def _delegate(parser: argparse.ArgumentParser, name: str, room: str, arguments: list[str] | None) -> None:
    """Let a room declare its own options, loading it only when its command is asked for."""
    parser.set_defaults(room=room)
    asked = sys.argv[1:2] if arguments is None else arguments[:1]
    if asked == [name]:
        importlib.import_module(room).add_arguments(parser)


if __name__ == "__main__":
    raise SystemExit(main())
