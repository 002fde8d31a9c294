"""The documentation site: every Python block runs, and what is wrong with a built site is found (.ci/run builds it)."""

from __future__ import annotations

import argparse
import base64
import functools
import gzip
import json
import re
import shlex
from pathlib import Path

import pytest

import clipviz
from clipviz.page.command import add_arguments
from clipviz.session import Session
from tools.docs import __main__ as built
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


def test_pages_are_written_with_the_board_in_a_place_of_its_own(tmp_path, monkeypatch):
    """.ci/run builds the site; here are the pages that the generator is given."""
    monkeypatch.setattr(pages, "BOARD", tmp_path / "board")
    pages.BOARD.mkdir()
    (pages.BOARD / "index.html").write_text("the board")
    folder = tmp_path / "docs"
    pages.write(folder)
    assert (folder / "board" / "index.html").read_text() == "the board"
    places = [
        page for page in folder.rglob("*.md") if page.relative_to(folder).parts[0] in ("board", "board.md")
    ]
    assert places == []
    assert 'src="board/index.html' in (folder / "index.md").read_text("utf-8")
    heads = (folder / "topics" / "heads.md").read_text("utf-8")
    assert "<math" in heads
    assert "$$" not in heads
    assert (folder / "thesis.md").read_text("utf-8").startswith("---\nhide: [toc]\n---\n\n# ")


def test_what_is_wrong_with_a_built_site_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(built, "BOARD", tmp_path / "build" / "board")
    site = tmp_path / "site"
    for folder, words in ((built.BOARD, "the board"), (site / "board", "the board"), (site / "a", "a page")):
        folder.mkdir(parents=True)
        (folder / "index.html").write_text(words)
    assert built.problems(site) == []
    (site / "board" / "index.html").write_text("a page of the same name")
    (site / "a" / "index.html").write_text('$$x$$ <a href="../b/"></a> <p>One.\n2. <code>Two</code></p>')
    assert built.problems(site) == [
        "nothing is at a/index.html: ../b/",
        "a/index.html: a formula is left between $$",
        "a/index.html: a list runs on in a paragraph, at '2. <code>Two</code>'",
        "board/index.html: another page is in the board's place",
    ]
    remark = "griffe: clipviz/lens/a.py:1: Failed to get 'exception: description' pair"
    assert built.remarks(f"Build started\n{remark}\nNo issues found") == [remark]


def test_long_names_in_tables_may_be_broken():
    row = "| `session.maps.tokens` | [`a|b`](x.md) | `<b>` |".replace("a|b", "a\\|b")
    assert pages.breakable(row) == (
        "| <code>session.<wbr>maps.<wbr>tokens</code> | [<code>a&#124;b</code>](x.md) | <code>&lt;b&gt;</code> |"
    )


@pytest.mark.parametrize(("host", "folder"), [("github", "site/"), ("gitlab", "public/")])
def test_a_hosts_workflow_publishes_the_folder_that_it_serves(host, folder):
    yaml = pytest.importorskip("yaml")
    text = (DOCS / "hosts" / f"{host}.yml").read_text("utf-8")
    said = yaml.safe_load(text)
    assert "secrets." not in text
    if host == "github":
        steps = said["jobs"]["publish"]["steps"]
        commands = [step["run"] for step in steps if "run" in step]
        served = next(step["with"]["path"] for step in steps if "upload" in step.get("uses", ""))
    else:
        commands, served = said["pages"]["script"], said["pages"]["artifacts"]["paths"][0] + "/"
    assert served == folder
    assert 'pip install "clipviz[web]"' in commands
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    written = [line.strip(" #-") for line in text.splitlines() if "clipviz publish" in line]
    for command in (*commands, *written):
        _, publish, arguments = command.partition("clipviz publish ")
        if publish:
            assert parser.parse_args(shlex.split(arguments)).folder == folder
    assert any("clipviz publish" in command for command in commands)


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
    (tmp_path / "index.html").write_text('<a href="a/#x"></a><iframe src="board/index.html#v"></iframe>')
    dead = ["a/index.html: ../b/", "a/index.html: c.png"]
    assert dead_links(tmp_path, without=("board/",)) == dead
    assert dead_links(tmp_path) == [*dead, "index.html: board/index.html"]


def test_links_that_leave_docs_lead_to_pages_or_become_words():
    text = "[card](../../clipviz/demo/model/MODEL_CARD.md#x) [code](../../clipviz/cli.py) [n](../nulls.md) [w](https://a.b)"
    assert pages._relinked(text, "docs/topics/heads.md", "topics/heads.md") == (
        "[card](../about/model.md#x) code (`clipviz/cli.py`) [n](../nulls.md) [w](https://a.b)"
    )


@pytest.mark.parametrize(
    ("page", "start"),
    [("index.md", "board/"), ("topics/heads.md", "../board/"), ("topics/index.md", "../board/")],
)
def test_a_board_is_found_from_every_page(page, start):
    assert f'src="{start}index.html#text=a swan&amp;head=4.6"' in pages.board("text=a swan&head=4.6", page)
    assert f'src="{start}index.html"' in pages.board("", page)


def test_a_lessons_page_shows_its_questions_and_its_figures_from_files_beside_it(tmp_path):
    question, figure = b"<!doctype html><p>Which one?</p>", b"\x89PNG of a figure"
    packed, drawn = (base64.b64encode(one).decode() for one in (gzip.compress(question), figure))
    image = f'<img alt="Figure" width="700" src="data:image/png;base64,{drawn}">'
    folded = f"<details><summary>Shown</summary>{image}</details>"
    outputs = [
        [{"output_type": "stream", "name": "stdout", "text": ["one\n", "\n", "a < b\n"]}],
        [
            {"data": {"text/html": f"<div class=\"clipviz-output\"><script>atob('{packed}')</script></div>"}},
            {"data": {"text/html": ["<details><summary>Measured</summary>\n", "\n<p>B.</p></details>"]}},
        ],
        [{"data": {"text/html": folded}}, {"data": {"image/jpeg": drawn, "text/plain": "<Print>"}}],
        [
            {
                "data": {
                    "text/markdown": ["| group |\n", "| --- |\n", "| a |"],
                    "text/plain": "<Markdown object>",
                }
            }
        ],
    ]
    cells = [{"cell_type": "markdown", "source": "# Lesson 9: all"}]
    cells += [{"cell_type": "code", "source": "predict(session)", "outputs": one} for one in outputs]
    notebook = tmp_path / "lesson9_all.ipynb"
    notebook.write_text(json.dumps({"cells": cells}))
    words, beside = pages.lesson(notebook)
    assert beside == {
        "lesson9_all/question1.html": question,
        "lesson9_all/figure1.png": figure,
        "lesson9_all/figure2.jpeg": figure,
    }
    shown = [f'src="{name}"' for name in beside]
    assert all(words.count(one) == 1 for one in shown)
    assert [*map(words.index, shown)] == sorted(map(words.index, shown))
    assert "base64" not in words
    assert "<pre>one\na &lt; b</pre>" in words
    assert "<details><summary>Measured</summary>\n<p>B.</p></details>" in words
    assert "\n\n| group |\n| --- |\n| a |\n" in words
    assert "object" not in words


def test_the_site_is_refused_without_its_builder_before_a_board_is_published(monkeypatch):
    published = []
    monkeypatch.setattr(built, "publish_board", lambda: published.append(1))
    monkeypatch.setattr(built.importlib.util, "find_spec", {}.get)
    with pytest.raises(SystemExit, match=r"expected zensical.*Python 3\.11"):
        built.main([])
    assert not published


def test_a_line_stands_on_paper_in_the_boards_place():
    line = "Here the site shows the live board, opened at text “a &lt;b&gt; &amp; c”, head “4.6”."
    assert pages.printed("text=a <b> %26 c&head=4.6&heatmap.scope=late") == line
    assert pages.printed("") == "Here the site shows the live board."
    assert f'<p class="printed">{line}</p>' in pages.board("text=a <b> %26 c&head=4.6", "index.md")
