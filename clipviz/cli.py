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
"""JupyterLab without the working folder among the places of its modules, where a file could pose as one of them."""


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
    for stream in (sys.stdout, sys.stderr):  # names of files are printed whatever the locale
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
    """Write the dashboard notebook for the chosen model and images, and start JupyterLab on it."""
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
    """Raise ValueError for arguments that cannot work, before anything is written or fetched."""
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
    """Raise ValueError for a notebook's folder in which somebody else could place what Python or the notebook would
    run.

    Python looks for modules beside a notebook before it looks among the installed ones.
    """
    if not os.path.lexists(folder):
        return
    advice = "choose another one with --folder"
    if not folder.is_dir():
        raise ValueError(f"expected a folder for the notebook, got {str(folder)!r}, which is none; {advice}")
    if hasattr(os, "geteuid"):
        owners = {folder.lstat().st_uid, folder.stat().st_uid}
        if owners != {os.geteuid()}:
            raise ValueError(
                f"expected a folder of your own for the notebook, got {str(folder)!r}, which another user owns; "
                f"{advice}"
            )
        if folder.stat().st_mode & 0o002:
            raise ValueError(
                f"expected a folder of your own for the notebook, got {str(folder)!r}, in which everybody may write; "
                f"change that with chmod o-w, or {advice}"
            )
    hiding = sorted(path.name for path in folder.iterdir() if _hides_a_module(path))
    if hiding:
        raise ValueError(
            f"expected a folder without modules that hide installed ones, got {str(folder)!r} with "
            f"{', '.join(hiding[:3])}, which the notebook would run in their place; move it away, or {advice}"
        )


def _hides_a_module(path: Path) -> bool:
    """Return whether Python would take a file or folder for a module that is installed or its own."""
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
    """Return the code that opens the dashboard of a model and images, with a line for whom it does not run by
    itself.
    """
    arguments = [repr(model)]
    arguments += [f"pretrained={pretrained!r}"] if pretrained else []
    arguments += [f"device={device!r}"] if device else []
    extra = f", images={str(Path(images).expanduser().resolve())!r}" if images else ""
    named = texts if texts is None or not Path(texts).expanduser().is_file() else str(Path(texts).resolve())
    extra += f", texts={named!r}" if named else ""
    return (
        "# The board below is live. Where it is blank, as after a restart, select this cell and press Shift+Enter.\n"
        f"import clipviz\nsession = clipviz.Session(clipviz.load({', '.join(arguments)}){extra})\n"
        "dashboard = clipviz.Dashboard(session)\ndashboard"
    )


def place_of(folder: Path, code: str) -> tuple[Path, bool]:
    """Return the notebook of this code in a folder, and whether it is there; another code gets another notebook."""
    for number in itertools.count(1):
        target = folder / (NOTEBOOK if number == 1 else f"{Path(NOTEBOOK).stem}-{number}.ipynb")
        if not target.exists():
            return target, False
        if made_with(target) == code:
            return target, True
    raise AssertionError


def made_with(target: Path) -> str | None:
    """Return the code that a notebook was written with; None for one that `clipviz demo` did not write."""
    try:
        found: str | None = json.loads(target.read_text(encoding="utf-8"))["metadata"]["clipviz"]
        return found
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lab_command(target: Path, options: argparse.Namespace) -> list[str]:
    """Return the command that opens JupyterLab on a notebook once its board is run (`clipviz.first_run`), without
    news.
    """
    command = [
        *(sys.executable, "-c", _LAB, str(target)),
        *("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
    ]
    command += ["--ServerApp.jpserver_extensions={'clipviz.first_run': True}"]
    command += [f"--LabApp.default_url=/lab/tree/{quote(target.name)}"]  # what the server's log tells to open
    command += [f"--port={options.port}"] if options.port else []
    command += [f"--ip={options.ip}"] if options.ip else []
    command += ["--no-browser"] if options.no_browser else []
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    found: list[str] = command + options.lab
    return found


def notebook(**chosen: str | None) -> str:
    """Return the dashboard notebook as JSON, for any model and images; see `recipe`."""
    code = recipe(**chosen)  # type: ignore[arg-type]
    cells = [
        ("code", code),
        ("markdown", what_you_see(toured=chosen.get("model", "demo") == "demo" and not chosen.get("images"))),
        (
            "markdown",
            "What is on screen is also a value: `session.selection`, `session.to_code()`, "
            "`session.heads.textspan(5, 0)`. `dashboard.save_html('view.html')` keeps the view in one file.",
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
    """Return the board in four lines, below it, so that the first screen shows a picture."""
    tour = " **Tour** shows the board in five steps." if toured else ""
    return (
        "## What the board shows\n"
        f"- **Top:** a text. Type one and press Enter; everything answers for it.{tour}\n"
        "- **Middle:** an image. Orange patches raise its cosine with the text, blue ones lower it.\n"
        "- **Right:** every attention head, coloured by what it adds to that cosine. Click one: the texts below it say "
        "what it is about.\n"
        "- **Left and bottom:** the other images, and desks that remove heads, read neurons and more."
    )


def doctor(clear_cache: bool = False) -> int:
    """Print what this installation has, try the embedded model, and say what to fix."""
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
    """Return a warning beside a version with known flaws; the least versions that clipviz accepts are not always
    enough.
    """
    if package == "pillow" and int(found.split(".")[0]) < 13:
        return (
            " (open only pictures that you trust: this version can be made to write past its memory by a damaged "
            "JPEG; pip install 'pillow>=13' where your other packages accept it)"
        )
    return ""


def show_cache(clear: bool) -> None:
    """Print what is kept on disk between sessions, or remove it."""
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
    """Let a room declare its own options, loading it only when its command is asked for."""
    parser.set_defaults(room=room)
    asked = sys.argv[1:2] if arguments is None else arguments[:1]
    if asked == [name]:
        importlib.import_module(room).add_arguments(parser)


if __name__ == "__main__":
    raise SystemExit(main())
