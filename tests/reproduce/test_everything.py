"""All chapters at once: what is run and what is not run again, one page, what each table needs. The chapters are small
stand-ins; their own tests measure them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from clipviz import cli, reproduce
from clipviz.figures import chapter2 as figures
from clipviz.figures import chapter2_interactive as interactive
from clipviz.reproduce import contents
from clipviz.reproduce.chapter2 import chapter as chapter2
from clipviz.reproduce.chapter3 import chapter as chapter3
from clipviz.reproduce.chapter4 import chapter as chapter4
from clipviz.reproduce.page import rows_of
from clipviz.reproduce.report import Needed, Report, Written
from clipviz.reproduce.world import chapter as world

CURVES = {"objects": {0: 0.9, 1: 0.8, 2: 0.1}}


def written(calls, name):
    """A stand-in for a chapter's run, with one measured section, one figure and one that needs an option."""

    def run(model, out, data=None, limit=None, segmentation=None, quiet=False):
        calls.append((name, limit, segmentation))
        report = Report(out, f"A report of {name}", "Its **lead**.", getattr(model, "device", None))
        report.section("Attention layers (Figure 2.2)", "With `code` and 1 < 2.")
        report.table(["task", "a | b"], [["objects", 0.5], ["<b>", None]])
        report.figure("layers", figures.accumulated_ablation(CURVES), "Figure 2.2: accuracy")
        report.interactive("layers", interactive.accumulated_ablation(CURVES), "the same, interactive")
        report.section("Segmentation (Table 2.4, Figure A.4)")
        if segmentation is None:
            report.needs("--segmentation FOLDER", "images and masks")
        return report.write(name)

    return run


@pytest.fixture
def calls(monkeypatch):
    calls = []
    for name, module in (("world", world), ("chapter2", chapter2), ("chapter3", chapter3)):
        monkeypatch.setattr(module, "run", written(calls, name))

    def no_partners(model, out, data=None, limit=None, quiet=False):
        raise Needed("--partners NAMES", "models to match with")

    monkeypatch.setattr(chapter4, "run", no_partners)
    return calls


def test_all_chapters_are_run_once_and_shown_on_one_page(model, calls, tmp_path):
    page = reproduce.run("all", model, tmp_path, quick=True, quiet=True).path
    assert page == tmp_path / "report.html"
    assert calls == [("world", 200, None), ("chapter2", 90, None), ("chapter3", None, None)]
    text = page.read_text()
    assert text.count(get_plotlyjs()) == 1
    text = text.replace(get_plotlyjs(), "")
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", text)
    assert text.count('<details class="interactive">') == 3
    plots = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)
    assert list(json.loads(plots[0])["data"][0]["y"]) == [0.9, 0.8, 0.1]
    assert "<td>a | b</td>" not in text
    assert "<th>a | b</th>" in text
    assert "&lt;b&gt;" in text
    assert "<strong>lead</strong>" in text
    assert "<code>code</code> and 1 &lt; 2" in text
    assert "needs <code>--segmentation FOLDER</code>" in text
    assert "Needs <code>--partners NAMES</code>, models to match with" in text
    assert re.search(
        r"quick version: \d+ s in all .* on cpu, \d+ threads?, at most [\d.]+ GiB of memory", text
    )
    assert re.search(r"Made in \d+ s on cpu, \d+ threads?\.", (tmp_path / "chapter2.md").read_text())


def test_finished_chapters_are_not_run_again(model, calls, tmp_path):
    reproduce.run("all", model, tmp_path, quiet=True)
    del calls[:]
    reproduce.run("all", model, tmp_path, quiet=True)
    assert calls == []
    masks = tmp_path / "masks"
    masks.mkdir()
    reproduce.run("all", model, tmp_path, segmentation=str(masks), quiet=True)
    assert [name for name, _, _ in calls] == ["world", "chapter2", "chapter3"]
    del calls[:]
    chapter2.run(model, tmp_path, limit=7)  # by itself, with other options: its report is another one now
    reproduce.run("all", model, tmp_path, segmentation=str(masks), quiet=True)
    assert calls == [("chapter2", 7, None), ("chapter2", None, str(masks))]
    kept = {"chapter2": Written.read(tmp_path, "chapter2")}
    assert ("Table 2.4", "chapter2", "Segmentation (Table 2.4, Figure A.4)", "") in rows_of(kept)
    assert ("Table 2.3", "chapter2", "", "not in this report") in rows_of(kept)


def test_an_option_of_no_chapter_is_refused(model, calls, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"expected options among .*segmentation.*, got colour"):
        reproduce.run("all", model, tmp_path, colour="red")
    assert cli.main(["reproduce", "all", "--index", "x", "--out", str(tmp_path)]) == 2
    assert "got index" in capsys.readouterr().err
    assert not calls


def test_items_are_read_from_titles_and_captions():
    assert contents.named_in("Birds (Tables 2.3, A.7-A.9) and Figure 2.2: x; Figures A.2a, A.2b, B.1 and B.4") == [
        *("Table 2.3", "Table A.7", "Table A.8", "Table A.9", "Figure 2.2"),
        *("Figure A.2", "Figure A.2", "Figure B.1", "Figure B.4"),
    ]  # fmt: skip
    assert contents.named_in("Figures of 2.2 GB; Table of 3") == []


def test_what_is_shown_counts_whatever_its_section_lacks(tmp_path):
    report = Report(tmp_path, "any")
    report.section("Layers (Figures 3.3, B.2, B.3)")
    report.needs("--shifted FOLDER", "images of another kind", "Figure B.3")
    report.section("Segmentation (Table 3.4, Figure 3.7)")
    report.needs("--segmentation FOLDER", "masks")
    report.section("Other maps")
    report.blocks.append({"kind": "figure", "caption": "Figure 3.7: maps", "file": "x"})
    found = contents.where_shown(report.blocks)
    assert {item: option for item, (_, option) in found.items()} == {
        "Figure 3.3": "",
        "Figure B.2": "",
        "Figure B.3": "--shifted FOLDER",
        "Table 3.4": "--segmentation FOLDER",
        "Figure 3.7": "",
    }
    assert found["Figure 3.7"][0] == "Other maps"
    assert "Table 3.1" in contents.missing(found, "chapter3")


def test_a_report_is_returned_as_values_and_printed_by_the_command_line_alone(model, calls, tmp_path, capsys):
    made = reproduce.run("chapter2", model, tmp_path, limit=7)
    assert made.path == tmp_path / "chapter2.md"
    assert made.title == "A report of chapter2"
    assert made.tables == [
        ("Attention layers (Figure 2.2)", ["task", "a | b"], [["objects", 0.5], ["<b>", None]])
    ]
    assert made.figures["Figure 2.2: accuracy"] == tmp_path / "figures" / "layers.svg"
    assert all(file.is_file() for file in made.figures.values())
    assert capsys.readouterr().out == ""
    assert cli.main(["reproduce", "chapter2", "--out", str(tmp_path), "--limit", "7"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'chapter2.md'}\n"


def test_tables_keep_numbers_as_they_were_measured(tmp_path):
    report = Report(tmp_path, "any")
    report.table(["name", "value"], [[Path("x"), np.float64(1 / 3)], [np.int64(3), np.float32(0.25)]])
    report.write("any")
    ((_, _, rows),) = Written.read(tmp_path, "any").tables
    assert rows == [["x", 1 / 3], [3, 0.25]]
    assert report.blocks[0]["rows"] == [["x", "0.333"], ["3", "0.250"]]
