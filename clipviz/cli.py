"""The command line: clipviz demo, index, publish, doctor, reproduce."""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import importlib.util
import itertools
import json
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from clipviz import extras
from clipviz.files import write_whole
from clipviz.version import __version__

NOTEBOOK = "dashboard.ipynb"
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
_LAB = (
    "import sys; sys.path = [p for p in sys.path if p]; from jupyterlab.labapp import main; sys.exit(main())"
)
"""Starts JupyterLab without the working folder on sys.path, where a file could shadow an installed module."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; user-fixable errors are printed without a traceback, exit code 2."""
    parser = argparse.ArgumentParser(
        prog="clipviz", description="What a CLIP image encoder is made of, interactively."
    )
    parser.add_argument("--version", action="version", version=f"clipviz {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(commands.add_parser("demo", help="open JupyterLab on the dashboard"))
    checking = commands.add_parser("doctor", help="check this installation, show and clear the cache")
    checking.add_argument("--clear-cache", action="store_true", help="remove the answers kept on disk")
    for name, room, text in (
        ("index", "clipviz.indexing.command", "read a collection of images once, into small files"),
        (
            "publish",
            "clipviz.page.command",
            "the board with its model inside, as a folder for any web server",
        ),
        ("reproduce", "clipviz.reproduce.command", "the thesis's tables and figures"),
    ):
        if importlib.util.find_spec(room) is not None:
            _delegate(commands.add_parser(name, help=text), name, room, arguments)
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # file names can be printed in any locale
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        if options.command == "demo":
            return demo(options)
        if options.command == "doctor":
            return doctor(options.clear_cache)
        return int(importlib.import_module(options.room).run(options) or 0)
    except (ValueError, OSError, ImportError) as error:
        print(f"clipviz {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def demo(options: argparse.Namespace) -> int:
    """Write the dashboard notebook for the chosen model and images, and open it in JupyterLab."""
    chosen = {name: getattr(options, name) for name in ("model", "pretrained", "images", "texts", "device")}
    if lacking := extras.lacking("lab"):
        raise ImportError(f"the board opens in JupyterLab, and {lacking}")
    check(**chosen)
    folder = Path(options.folder).expanduser()
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target, known = place_of(folder, recipe(**chosen))
    if known and not options.fresh:
        print(f"opening {target} again (pass --fresh to write it again)")
    else:
        write_whole(target, notebook(**chosen).encode())
    command = lab_command(target, options)
    if options.dry_run:
        print(shlex.join(command))
        return 0
    os.execv(sys.executable, command)


def check(
    model: str = "demo",
    pretrained: str | None = None,
    images: str | None = None,
    texts: str | None = None,
    device: str | None = None,
) -> None:
    """Raise ValueError for invalid arguments, before anything is written or downloaded."""
    if images is not None and not Path(images).expanduser().exists():
        raise ValueError(f"expected a folder or file of images, got {images!r}, which does not exist")
    from clipviz import loading

    if model != loading.DEMO and images is None:
        raise ValueError(f"model {model!r} requires --images FOLDER")
    if texts is not None and (model, texts) != (loading.DEMO, loading.DEMO):
        from clipviz.data.texts import open_texts

        open_texts(texts)
    loading.check(model, pretrained, device)


def check_folder(folder: Path) -> None:
    """Raise ValueError for a notebook's folder in which another user or a file could make Python run unexpected
    code.

    Python looks for modules in the notebook's folder before it looks among the installed ones.
    """
    if not os.path.lexists(folder):
        return
    advice = "choose another one with --folder"
    if not folder.is_dir():
        raise ValueError(
            f"expected a folder for the notebook, got {str(folder)!r}, which is not a folder; {advice}"
        )
    if hasattr(os, "geteuid"):
        owners = {folder.lstat().st_uid, folder.stat().st_uid}
        if owners != {os.geteuid()}:
            raise ValueError(
                f"expected a folder of your own for the notebook, got {str(folder)!r}, which belongs "
                f"to another user; {advice}"
            )
        if folder.stat().st_mode & 0o002:
            raise ValueError(
                f"expected a folder of your own for the notebook, got {str(folder)!r}, which "
                f"everybody can write to; change that with chmod o-w, or {advice}"
            )
    hiding = sorted(path.name for path in folder.iterdir() if _hides_a_module(path))
    if hiding:
        raise ValueError(
            f"expected a folder without modules that shadow installed ones, got {str(folder)!r} with "
            f"{', '.join(hiding[:3])}, which the notebook would import instead; move it away, or "
            f"{advice}"
        )


def _hides_a_module(path: Path) -> bool:
    """Return whether a file or folder would shadow a module that is installed or built in."""
    name = path.name.partition(".")[0]
    is_module = path.suffix in (".py", ".pyc", ".so", ".pyd") or (path.is_dir() and "." not in path.name)
    if not is_module or not name.isidentifier():
        return False
    if name in sys.stdlib_module_names or name == "clipviz":
        return True
    here = {os.getcwd(), str(path.parent), str(path.parent.resolve())}
    installed = [place for place in sys.path if place and place not in here]
    return importlib.machinery.PathFinder.find_spec(name, installed) is not None


def recipe(
    model: str = "demo",
    pretrained: str | None = None,
    images: str | None = None,
    texts: str | None = None,
    device: str | None = None,
) -> str:
    """Return the code that opens the dashboard of a model and images. Its first line explains how to run it by hand."""
    arguments = [repr(model)]
    arguments += [f"pretrained={pretrained!r}"] if pretrained else []
    arguments += [f"device={device!r}"] if device else []
    extra = f", images={str(Path(images).expanduser().resolve())!r}" if images else ""
    named = texts if texts is None or not Path(texts).expanduser().is_file() else str(Path(texts).resolve())
    extra += f", texts={named!r}" if named else ""
    return (
        "# The board below is live. If it is blank, for instance after a restart, select this cell "
        "and press Shift+Enter.\nimport clipviz\nsession = "
        f"clipviz.Session(clipviz.load({', '.join(arguments)}){extra})\ndashboard = "
        "clipviz.Dashboard(session)\ndashboard"
    )


def place_of(folder: Path, code: str) -> tuple[Path, bool]:
    """Return the notebook's path for this code in a folder, and whether it exists; other code has another one."""
    for number in itertools.count(1):
        target = folder / (NOTEBOOK if number == 1 else f"{Path(NOTEBOOK).stem}-{number}.ipynb")
        if not target.exists():
            return target, False
        if made_with(target) == code:
            return target, True
    raise AssertionError


def made_with(target: Path) -> str | None:
    """Return the code that a notebook was written with, or None if `clipviz demo` did not write it."""
    try:
        found: str | None = json.loads(target.read_text(encoding="utf-8"))["metadata"]["clipviz"]
        return found
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lab_command(target: Path, options: argparse.Namespace) -> list[str]:
    """Return the command that opens JupyterLab on a notebook after its board has run (`clipviz.first_run`), without
    news pop-ups.
    """
    command = [
        *(sys.executable, "-c", _LAB, str(target)),
        *("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
    ]
    command += ["--ServerApp.jpserver_extensions={'clipviz.first_run': True}"]
    # the address that the server's log prints
    command += [f"--LabApp.default_url=/lab/tree/{quote(target.name)}"]
    command += [f"--port={options.port}"] if options.port else []
    command += [f"--ip={options.ip}"] if options.ip else []
    command += ["--no-browser"] if options.no_browser else []
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    found: list[str] = command + options.lab
    return found


def notebook(**chosen: str | None) -> str:
    """Return the dashboard notebook for any model and images as JSON; see `recipe`."""
    code = recipe(**chosen)  # type: ignore[arg-type]
    cells = [
        ("code", code),
        ("markdown", what_you_see(toured=chosen.get("model", "demo") == "demo" and not chosen.get("images"))),
        (
            "markdown",
            "Everything on screen is also available as a value: `session.selection`, "
            "`session.to_code()`, `session.heads.textspan(5, 0)`. `dashboard.save_html('view.html')` "
            "keeps the view in one file.",
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
            "metadata": {
                "clipviz": code,
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        },
        indent=1,
    )


def what_you_see(toured: bool) -> str:
    """Return the notebook's explanation of the board in four lines. It stands below the board, so that the first
    screen shows a picture.
    """
    tour = " **Tour** shows the board in five steps." if toured else ""
    return (
        "## What the board shows\n- **Top:** a text. Type one and press Enter; every panel "
        f"updates.{tour}\n- **Middle:** an image. Orange patches raise its cosine with the text, "
        "blue ones lower it.\n- **Right:** every attention head, coloured by what it adds to that "
        "cosine. Click one to see the texts that describe it.\n- **Left and bottom:** the other "
        "images, and desks that remove heads, read neurons and more."
    )


def doctor(clear_cache: bool = False) -> int:
    """Print what is installed, test the embedded model, and advise on how to fix problems."""
    import time
    from importlib.metadata import PackageNotFoundError, version

    print(f"clipviz {__version__} on Python {platform.python_version()}, {platform.platform()}")
    missing = []
    for package in (
        "torch",
        "open_clip_torch",
        "anywidget",
        "ipywidgets",
        "scikit-learn",
        "matplotlib",
        "pillow",
    ):
        try:
            print(f"  {package:18} {version(package)}{outdated(package, version(package))}")
        except PackageNotFoundError:
            missing.append(package)
            print(f"  {package:18} missing: pip install {package}")
    for name, extra in extras.EXTRAS.items():
        lacking = extras.lacking(name)
        print(f"  {f'[{name}]':18} {extra.gives}: {lacking or 'installed'}")
    if missing:
        return 1
    show_cache(clear_cache)
    import torch

    from clipviz.loading import load
    from clipviz.models.opening import choose_device

    print(
        f"  device             {choose_device()} (cuda {torch.cuda.is_available()}, threads {torch.get_num_threads()})"
    )
    print(f"  browser for tests  {next(filter(None, map(shutil.which, BROWSERS)), 'none found')}")
    print(f"  clipviz publish    {extras.lacking('web') or 'ready'}")
    started = time.perf_counter()
    model = load("demo")
    print(
        f"  demo model         sum check {model.sum_check:.0e}, loaded in {time.perf_counter() - started:.1f} s"
    )
    print(
        "OK. Try `clipviz demo`."
        if not extras.lacking("lab")
        else "OK. For `clipviz demo`, install clipviz[lab]."
    )
    return 0


def outdated(package: str, found: str) -> str:
    """Return a warning for an installed version with known flaws, older than those that are recommended."""
    if package == "pillow" and int(found.split(".")[0]) < 13:
        return (
            " (open only pictures that you trust: in this version a damaged JPEG can cause an "
            "out-of-bounds write; pip install 'pillow>=13' where your other packages accept it)"
        )
    return ""


def show_cache(clear: bool) -> None:
    """Print what is cached on disk between sessions, or delete it."""
    from clipviz.data import cache

    kept = cache.default()
    if kept.folder is None:
        print("  cache              off (CLIPVIZ_CACHE)")
        return
    if clear:
        print(f"  cache              removed {kept.clear() / 1e6:,.0f} MB from {kept.folder}")
        return
    entries = kept.entries()
    total = sum(entry.n_bytes for entry in entries)
    print(f"  cache              {total / 1e6:,.0f} of {kept.limit / 1e6:,.0f} MB in {kept.folder}")
    for entry in entries:
        print(f"    {entry.n_bytes / 1e6:8,.1f} MB  {entry.about}")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="demo",
        help="'demo', an open_clip name, owner/model of Hugging Face, or hf-hub:owner/model",
    )
    parser.add_argument("--pretrained", help="an open_clip tag or a local checkpoint")
    parser.add_argument("--images", help="a folder of images; the embedded collection for the demo model")
    parser.add_argument(
        "--texts", help="general, demo (with the demo model), or a file with one text per line"
    )
    parser.add_argument("--device", help="cuda, mps or cpu; default: the fastest available")
    parser.add_argument("--folder", default="clipviz-demo", help="folder of the notebook")
    parser.add_argument("--fresh", action="store_true", help="write the notebook again")
    parser.add_argument("--port", type=int)
    parser.add_argument("--ip")
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument(
        "--dry-run", action="store_true", help="write the notebook and print the command only"
    )
    parser.add_argument("lab", nargs="*", help="further JupyterLab options, after --")


def _delegate(parser: argparse.ArgumentParser, name: str, room: str, arguments: list[str] | None) -> None:
    """Let a subcommand declare its own options, and import it only when it is used."""
    parser.set_defaults(room=room)
    asked = sys.argv[1:2] if arguments is None else arguments[:1]
    if asked == [name]:
        importlib.import_module(room).add_arguments(parser)


if __name__ == "__main__":
    raise SystemExit(main())
