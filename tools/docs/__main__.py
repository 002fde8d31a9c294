"""Make the documentation site: python -m tools.docs [--serve PORT] [--no-board].

The board of the demo is published once, into build/board, and shared by the pages; then zensical writes build/site.
Every warning, every dead link and every formula that was left as it is written is an error. Any web server shows the
folder.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

from tools.docs.pages import BOARD, ROOT, write

RUN_ON = re.compile(r"<p>(?:(?!</p>).)*?^((?:\d+\.|[-*]) .*?)(?:</p>|$)", re.DOTALL | re.MULTILINE)
"""A line of a paragraph that begins as the item of a list."""


def publish_board() -> None:
    """The demo's board with its model inside, as every page shows it."""
    import clipviz

    shutil.rmtree(BOARD, ignore_errors=True)
    clipviz.publish(clipviz.Session(clipviz.load("demo")), BOARD)


def dead_links(site: Path, without: tuple[str, ...] = ()) -> list[str]:
    """Addresses within the site at which there is no file, but those that begin with one of `without`."""
    dead = []
    for page in sorted(site.rglob("*.html")):
        if page.is_relative_to(site / BOARD.name) or page.name == "404.html":
            continue
        for address in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text("utf-8")):
            if re.match(r"[a-z]+:|//", address):
                continue
            aim = Path(os.path.normpath(page.parent / unquote(address)))
            inside = str(aim.relative_to(site)) + "/" if aim.is_relative_to(site) else ".."
            there = (aim / "index.html").exists() or aim.is_file()
            if not there and not inside.startswith(without or ("\0",)):
                dead.append(f"{page.relative_to(site)}: {address}")
    return dead


def remarks(said: str) -> list[str]:
    """What the reader of docstrings remarks, which the generator prints and does not count as a warning."""
    return [line for line in said.splitlines() if line.startswith(("griffe:", "mkdocstrings:"))]


def problems(site: Path) -> list[str]:
    """What is wrong with the site that was built: dead links, formulas and lists left as written, another page in the
    board's place.
    """
    found = [
        f"nothing is at {one}" for one in dead_links(site, () if BOARD.exists() else (f"{BOARD.name}/",))
    ]
    found += [
        f"{page.relative_to(site)}: a formula is left between $$"
        for page in site.rglob("*.html")
        if "$$" in page.read_text("utf-8")
    ]
    found += [
        f"{page.relative_to(site)}: a list runs on in a paragraph, at {run_on[1]!r:.60}"
        for page in site.rglob("*.html")
        for run_on in RUN_ON.finditer(page.read_text("utf-8"))
    ]
    shown = site / BOARD.name / "index.html"
    if BOARD.exists() and shown.read_bytes() != (BOARD / "index.html").read_bytes():
        found.append(f"{shown.relative_to(site)}: another page is in the board's place")
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-board", action="store_true", help="leave the board as it was published before")
    parser.add_argument("--serve", type=int, metavar="PORT", help="then show the site at this port")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("zensical") is None:
        sys.exit(
            "expected zensical, which builds the site; clipviz[dev] installs it with Python 3.11 or newer"
        )
    if not options.no_board:
        publish_board()
    write(ROOT / "build" / "docs")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    made = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(made.stdout, flush=True)
    if made.returncode:
        sys.exit(made.returncode)
    site = Path(ROOT, "build", "site")
    if wrong := [*remarks(made.stdout), *problems(site)]:
        sys.exit("\n".join(wrong))
    print(f"{site}: {sum(1 for _ in site.rglob('*.html'))} pages")
    if options.serve:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
        http.server.ThreadingHTTPServer(("127.0.0.1", options.serve), handler).serve_forever()


if __name__ == "__main__":
    main()
