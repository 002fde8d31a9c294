"""The documentation site: every Python block runs, and the site is built without a warning or a dead link."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clipviz
from clipviz.session import Session
from tools.docs import pages
from tools.docs.__main__ import dead_links

DOCS = pages.ROOT / "docs"
WRITTEN = sorted(path.relative_to(DOCS) for path in DOCS.rglob("*.md"))
BLOCK = re.compile(
    r"^(?:<!-- needs: (?P<needs>[^>]*) -->\n)?```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)


def blocks(page: Path) -> list[tuple[str | None, str]]:
    """What a block needs that a test has not (None: nothing), and its code."""
    return [(found["needs"], found["code"]) for found in BLOCK.finditer((DOCS / page).read_text("utf-8"))]


@pytest.fixture(scope="module")
def one_demo():
    """clipviz.load("demo") and a plain session of it are made once for all pages."""
    load, sessions = functools.cache(clipviz.load), {}

    def session(model, images=None, **options):
        if images is not None or options:
            return Session(model, images, **options)
        return sessions.setdefault(id(model), Session(model))

    session.load = Session.load
    yield load, session
    for made in sessions.values():
        made.close()


@pytest.mark.parametrize("page", [page for page in WRITTEN if blocks(page)], ids=str)
def test_every_block_of_a_page_runs(page, one_demo, monkeypatch, tmp_path):
    monkeypatch.setattr(clipviz, "load", one_demo[0], raising=False)
    monkeypatch.setattr(clipviz, "Session", one_demo[1], raising=False)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for needs, code in blocks(page):
        compiled = compile(code, str(page), "exec")
        if needs is None:
            exec(compiled, names)
        else:
            print(f"{page}: a block was compiled and not run, because it needs {needs}")


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "tools.docs", "--no-board"], cwd=pages.ROOT, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "No issues found" in made.stdout + made.stderr
    site = pages.ROOT / "build" / "site"
    formulas = (site / "topics" / "heads" / "index.html").read_text("utf-8")
    assert "<math" in formulas
    assert "$$" not in formulas


def test_the_readme_is_a_front_door():
    readme = (pages.ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 80
    for address in re.findall(r"\]\(([^)#]+)", readme):
        assert "://" in address or (pages.ROOT / address).is_file(), address


def test_the_package_says_the_same_without_addresses_in_the_repository():
    readme, package = ((pages.ROOT / name).read_text("utf-8") for name in ("README.md", "clipviz/README.md"))
    code = re.compile(r"^```python\n.*?^```", re.DOTALL | re.MULTILINE)
    assert code.findall(package) == code.findall(readme)
    assert all("://" in address for address in re.findall(r"\]\(([^)]+)\)", package))


def test_addresses_without_a_file_are_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text(
        '<a href="../b/"></a><img src="c.png"><a href="https://x.y/z"></a>'
    )
    (tmp_path / "index.html").write_text('<a href="a/#x"></a><iframe src="demo/index.html#v"></iframe>')
    dead = ["a/index.html: ../b/", "a/index.html: c.png"]
    assert dead_links(tmp_path, without=("demo/",)) == dead
    assert dead_links(tmp_path) == [*dead, "index.html: demo/index.html"]


def test_links_that_leave_docs_lead_to_pages_or_become_words():
    text = "[card](../../clipviz/demo/model/MODEL_CARD.md#x) [code](../../clipviz/cli.py) [n](../nulls.md) [w](https://a.b)"
    assert pages._relinked(text, "docs/topics/heads.md", "topics/heads.md") == (
        "[card](../about/model.md#x) code (`clipviz/cli.py`) [n](../nulls.md) [w](https://a.b)"
    )


@pytest.mark.parametrize(
    ("page", "start"),
    [("index.md", "demo/"), ("topics/heads.md", "../demo/"), ("topics/index.md", "../demo/")],
)
def test_a_board_is_found_from_every_page(page, start):
    assert f'src="{start}index.html#text=a swan&amp;head=4.6"' in pages.board("text=a swan&head=4.6", page)
    assert f'src="{start}index.html"' in pages.board("", page)
