"""Every notebook runs from top to bottom, says nothing on stderr, and is kept with what it shows; lessons are answered.

They share one kernel, since opening torch and the demo model takes longer than some notebooks; each starts with no
names, its predecessor's sessions closed, in a folder of its own. They run as they are but for `SMALLER`: searches of a
few steps, fewer images and pictures and coarser figures, since here nobody looks at what comes out. So the outputs that
are kept are compared with this run but for the cells in `TELLS_LESS`; `python tools/notebooks.py --check` compares all.
"""

from __future__ import annotations

import base64
import copy
import gzip
import io
import json
import re
import tempfile
from pathlib import Path

import pytest

from tools import notebooks

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LESSONS = [path.stem for path in NOTEBOOKS if path.stem.startswith("lesson")]
LIMIT = 600  # seconds a cell, so that a hang is an error
ANEW = """\
for _name, _value in [*globals().items()]:
    if type(_value).__name__ == "Session":
        _value.close()
    if _name not in get_ipython().user_ns_hidden:
        del globals()[_name]
Out.clear()
__import__("os").chdir({folder!r})
"""
"""What `%reset` does, without walking all objects of torch for those that nothing refers to."""
COARSE = """"png"
%config InlineBackend.rc = {"figure.dpi": 40}
%config InlineBackend.print_figure_kwargs = {"bbox_inches": None}
__import__("clipviz.analysis.heads.labels", fromlist=["labels"]).N_DRAWS = 20"""
"""Drawn once, not a second time to find the margins, and in few pixels; heads labelled as by `few_rotations`."""
SMALLER = {
    "chapter2": {
        '"retina"': COARSE,
        "(model, limit=32,": "(model, limit=12,",
        "len(measuring.masks), 9": "len(measuring.masks), 3",
    },
    "chapter3": {
        '"retina"': COARSE,
        "range(0, len(everything), 12)": "range(0, len(everything), 36)",
        "range(6, len(everything), 12)": "range(6, len(everything), 96)",
        "[3, 20, 45, 77, 101, 130]": "[3, 20]",
        "n_sentences=5, n_images=2": "n_sentences=2, n_images=1",
        "for seed in range(3)": "for seed in range(2)",
        "][:24]": "][:6]",
        "range(0, 24, 6)": "range(0, 6, 3)",
    },
    "chapter4": {
        '"retina"': COARSE,
        "// 64)[:64]": "// 16)[:16]",
        "world.render(48,": "world.render(8,",
        "generator.sample(96,": "generator.sample(24,",
        "generator.sample(4,": "generator.sample(2,",
        "for i in range(4)]": "for i in range(2)]",
        "Schedule(40,": "Schedule(2,",
    },
    "lesson1_sum": {'"retina"': COARSE},
    "lesson2_heads": {
        '"retina"': COARSE,
        "len(session.images), 12)": "len(session.images), 48)",
        "n=4, seed=2": "n=2, seed=2",
    },
    "lesson3_shortcut": {'"retina"': COARSE},
    "lesson4_units": {'"retina"': COARSE},
    "lesson5_drag": {'"retina"': COARSE, "list(bench.classes)[:6]": "list(bench.classes)[:2]"},
    "lesson6_own_model": {'"retina"': COARSE, "PER_GROUP = 40": "PER_GROUP = 12"},
    "rosetta_in_your_hands": {
        '"retina"': COARSE + "\nfrom clipviz.analysis.generation import inversion\ninversion.N_STARTS = 4",
        "n_starts=4,": "n_starts=2,",
        '["start 1", "start 2", "start 3", "start 4"]': '["start 1", "start 2"]',
        "Schedule(25,": "Schedule(2,",
        "Schedule(30,": "Schedule(2,",
        "Schedule(15,": "Schedule(2,",
    },
    "world": {
        '"retina"': COARSE,
        "scenes=200, large=36, traced=250,": "scenes=40, large=12, traced=40,",
        "birds=40, neurons=64,": "birds=5, neurons=12,",
        "world.render(96,": "world.render(24,",
    },
}
"""Stem -> what stands in its code -> what is run instead."""
TELLS_LESS = {
    "chapter2": (6,),
    "chapter3": (1, 4, 8, 12),
    "chapter4": (2,),
    "lesson2_heads": (2, 5, 7),
    "lesson3_shortcut": (6, 8),
    "lesson5_drag": (1, 4, 6, 8),
    "lesson6_own_model": (1, 2, 4, 5, 6, 8, 9, 10),
    "rosetta_in_your_hands": (9,),
    "world": (11, 15),
}
"""Stem -> the code cells, counted from 1, whose words or tables are other ones where `SMALLER` is run."""

MOST = 1_500_000
MOST_TOGETHER = 6_000_000
"""Bytes that a notebook may have with its outputs, and all of them."""


NAMED = re.compile(
    r"(Equations?|Eq\.|Tables?|Figures?|Fig\.|section|Algorithm|[Ll]essons?|chapter|p <) [\d.]+( (and|to) [\d.]+)?"
    r"|L\d·H\d|95 of 100|500 steps|`[^`]*`"
)
"""Numbers that name something, or that are a definition: what may stand in the words of a lesson."""
STUDENTS = """\
import itertools
from clipviz.lessons import Quiz
def possible(question, answer):
    try:
        return not question.is_right(question.read(answer))
    except ValueError:
        return False
asked = [value for value in Out.values() if isinstance(value, Quiz)]
session.wait(60)
for quiz in asked:
    assert not any("answer" in quiz.show().view for quiz in asked), "what is right was sent before the answer"
    for good in (True, False):
        sitting = Quiz.of(session, quiz.questions)
        panel = sitting.show()
        session.wait(60)
        for at, question in enumerate(sitting.questions):
            some = itertools.product(*(range(0, n, max(1, n // 5)) for n in question.parts))
            answer = question.best if good else next(one for one in some if possible(question, one))
            assert "answer" not in panel.view
            commit = {"action": "commit", "question": at, "answer": answer}
            panel.request = {"seq": 2 * at + 1, "changes": {}, **commit}
            session.wait(60)
            told = panel.view["answer"]
            assert told["fits"] == good and told["because"].strip(), told
            panel.request = {"seq": 2 * at + 2, "changes": {}, "options": {"at": at + 1}}
            session.wait(60)
        assert sitting.score().right.value == good
        panel.close()
print("asked", len(asked), "questions", sum(len(quiz.questions) for quiz in asked))
"""
"""Run before a lesson's last cell: one student answers everything rightly, another everything wrongly."""


def test_there_are_notebooks():
    assert NOTEBOOKS


def stored(stem):
    import nbformat

    return nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4)


def outputs_of(cells):
    return [cell.outputs for cell in cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_kept_with_what_its_code_showed(path):
    import nbformat

    notebook = stored(path.stem)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    anew = f"to write its outputs anew, run: python tools/notebooks.py {path.stem}"
    assert notebook.metadata.get("clipviz", {}).get("ran") == notebooks.code_of(notebook), anew
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)], anew
    assert sum(map(bool, outputs_of(code))) > len(code) / 2
    stripped = copy.deepcopy(notebook)
    notebooks.strip(stripped, path.stem)
    assert stripped == notebook, anew
    assert path.stat().st_size < MOST
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")


def test_the_notebooks_are_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MOST_TOGETHER


@pytest.mark.parametrize("stem", LESSONS)
def test_the_outputs_kept_of_a_lesson_give_no_answer_away(stem):
    shown = [output for cell in outputs_of(stored(stem).cells) for output in cell]
    pages = [at for at, one in enumerate(shown) if notebooks.PAGE in one.get("data", {}).get("text/html", "")]
    assert len(pages) >= 3
    for at, output in enumerate(shown):
        if at in pages:
            (packed,) = re.findall(r"atob\('([\w+/=]+)'", output.data["text/html"])
            page = gzip.decompress(base64.b64decode(packed)).decode()
            (said,) = re.findall(r'id="panels">([^<]*)<', page)
            said = json.loads(gzip.decompress(base64.b64decode(said)))
            asked = json.dumps(said)
            assert '"words"' in asked
            assert not re.search(r'"(answer|because|measured|best)"', asked)
            assert notebooks.ANSWERS in shown[at + 1].data["text/html"]
        elif at > pages[0]:
            assert [*output.data] == ["text/html"], output
            assert re.fullmatch(r"<details><summary>.*</details>", output.data["text/html"], re.DOTALL)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Stem -> the notebook's cells with their outputs, all run in one kernel, errors among the outputs."""
    import nbclient
    import nbformat

    whole, parts = nbformat.v4.new_notebook(), {}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        for large, small in SMALLER.get(path.stem, {}).items():
            where = [cell for cell in cells if cell.cell_type == "code" and large in cell.source]
            assert where, f"expected {large!r} in {path.name}; keep SMALLER as the notebook is"
            for cell in where:
                cell.source = cell.source.replace(large, small)
        if path.stem in LESSONS:
            cells.insert(len(cells) - 1, nbformat.v4.new_code_cell(STUDENTS))
            cells.append(nbformat.v4.new_code_cell(notebooks.KEYS))
        code = ANEW.format(folder=str(tmp_path_factory.mktemp(path.stem)))
        parts[path.stem] = [nbformat.v4.new_code_cell(code), *cells]
        whole.cells += parts[path.stem]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        nbclient.NotebookClient(whole, timeout=LIMIT, kernel_name="python3", allow_errors=True).execute()
    for stem in LESSONS:
        notebooks.answered(parts[stem])
    return parts


@pytest.mark.slow
@pytest.mark.parametrize("stem", [path.stem for path in NOTEBOOKS])
def test_a_notebook_runs(executed, stem):
    code = [cell for cell in executed[stem] if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    errors = [output for output in outputs if output.output_type == "error"]
    assert not errors, "\n".join(errors[0].traceback)
    shown = [output.data for output in outputs if output.output_type in ("execute_result", "display_data")]
    bare = [data["text/plain"] for data in shown if set(data) == {"text/plain"}]
    assert not [text for text in bare if text.startswith("<")], bare  # objects that a notebook cannot show
    told = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert not [text for text in told if "Error" in text or "Warning" in text], told


@pytest.mark.slow
@pytest.mark.parametrize("stem", [path.stem for path in NOTEBOOKS])
def test_the_outputs_kept_are_those_of_a_run(executed, stem):
    ran = [cell for cell in executed[stem][1:] if cell.get("source") != STUDENTS]
    found = notebooks.shown(ran, stem)
    differ = notebooks.differences(outputs_of(stored(stem).cells), found, sizes=False)
    less = TELLS_LESS.get(stem, ())
    differ = {at: what for at, what in differ.items() if at not in less or what.startswith("it shows")}
    assert not differ, notebooks.told(stem, differ)


@pytest.mark.slow
def test_a_board_that_nobody_answers_leaves_its_saved_page(executed):
    shown = [
        output.data
        for cell in executed["dashboard"]
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    (page,) = [data["text/html"] for data in shown if 'class="clipviz-output"' in data.get("text/html", "")]
    assert 200_000 < len(page) < 500_000
    assert page.count('src="data:image/webp') == 3
    assert not [data for data in shown if "application/vnd.jupyter.widget-view+json" in data]


@pytest.mark.slow
@pytest.mark.parametrize("stem", LESSONS)
def test_a_lesson_asks_before_it_tells_and_scores_both_students(executed, stem):
    (told,) = [
        output.text
        for cell in executed[stem]
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.text.startswith("asked ")
    ]
    n_asked, n_questions = int(told.split()[1]), int(told.split()[3])
    assert n_asked >= 3
    assert n_questions >= n_asked


@pytest.mark.parametrize("stem", LESSONS)
def test_a_lesson_has_its_parts(stem):
    import nbformat

    cells = nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    for part in ("minutes.**", "After this lesson you can", "## Exercises", "**In code.**", "**In clicks.**"):
        assert part in prose, part
    assert "## What this does not show" in prose
    assert not re.findall(r"\d+", NAMED.sub("", prose)), (
        "a number in the words of a lesson; compute it in a cell"
    )
    assert "**In the thesis:**" in prose
    assert code.count("folded(") >= 2
    assert "predict(" in code
    assert code.count("readable(") == len(re.findall(r"^ *(?:readable\()?figures\.\w+\(", code, re.MULTILINE))
    slides = [cell.metadata["slideshow"]["slide_type"] for cell in cells]
    assert slides[0] == "slide"
    assert slides[1] == slides[-1] == "skip"  # what opens the session and what closes it
    for cell, slide in zip(cells, slides, strict=True):
        if cell.source.startswith("## "):
            assert slide == "slide"
        if "figures." in cell.source and slide != "skip":
            assert slide in ("-", "subslide")
    # An answer is measured when the cell runs, never typed in.
    assert not re.search(r"measured=[\d\"']", code)


def drawn(side, seed):
    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def ran(*outputs):
    """A notebook of one cell that shows these: a text printed, or the data of something shown."""
    from nbformat import v4

    made = [
        v4.new_output("stream", name="stdout", text=one)
        if isinstance(one, str)
        else v4.new_output("display_data", data=one, metadata={})
        for one in outputs
    ]
    return v4.new_notebook(cells=[v4.new_code_cell("show()", outputs=made, execution_count=1)])


def test_what_differs_from_run_to_run_is_left_out():
    from nbformat import v4

    notebook = ran(
        "\rReading: 3 of 9, about 2 s left",
        "\r            \rtwo images\n",
        {"text/plain": "<A object at 0x7fd84a413f50>", "application/vnd.jupyter.widget-view+json": {}},
        {"image/png": drawn(64, 0), "text/plain": "<Print>"},
        f"written to {notebooks.ROOT}/here and {tempfile.gettempdir()}/tmp1abc\n",
        "\rReading: 4 of 9, about 1 s left",
    )
    (cell,) = notebook.cells
    cell.outputs.append(v4.new_output("stream", name="stderr", text="slow"))
    cell.metadata["execution"] = {"iopub.status.busy": "now"}
    notebook.metadata["widgets"] = {"state": {}}
    notebooks.strip(notebook, "world")
    first, shown, picture, said = cell.outputs
    assert first.text == "two images\n"
    assert shown.data == {"text/plain": "<A object>"}
    assert "image/jpeg" in picture.data
    assert len(picture.data["image/jpeg"]) < len(drawn(64, 0))
    assert said.text == "written to ./here and TEMPORARY\n"
    assert not cell.metadata
    assert "widgets" not in notebook.metadata


def test_the_answers_to_a_question_are_folded_below_it():
    page = {"text/html": f"<div {notebooks.PAGE}></div>"}
    cells = [*ran("not asked\n").cells, *ran(page).cells, *ran(page).cells]
    told = [["Measured: 3. a < b."], ["A. It was.", "C. So was this."]]
    cells += ran(json.dumps(told)).cells
    notebooks.answered(cells)
    assert [len(cell.outputs) for cell in cells] == [1, 2, 2]
    one, two = (cell.outputs[1].data["text/html"] for cell in cells[1:])
    assert one == f"<details><summary>{notebooks.ANSWERS}</summary><p>Measured: 3. a &lt; b.</p></details>"
    assert "<p>1. A. It was.</p><p>2. C. So was this.</p>" in two
    kept = notebooks.shown(cells, "lesson1_sum")
    assert [[*output.data] for cell in kept[1:] for output in cell] == 4 * [["text/html"]]
    assert kept[1][1].data["text/html"] == one


def test_a_stale_output_is_named_with_its_notebook_and_cell():
    before = ran("off by 2e-07, right 0.53\n", {"image/png": drawn(40, 0)})
    again = ran("off by 3.1e-08, right 0.53\n", {"image/png": drawn(42, 1)})
    other = ran("off by 2e-07, right 0.54\n", {"image/png": drawn(40, 0)})
    large = ran("off by 2e-07, right 0.53\n", {"image/png": drawn(90, 0)})
    fewer = ran("off by 2e-07, right 0.53\n")
    kept, same, changed, grown, gone = (
        notebooks.shown(one.cells, "world") for one in (before, again, other, large, fewer)
    )
    assert notebooks.differences(kept, same) == {}
    (what,) = notebooks.differences(kept, changed).values()
    assert "0.53" in what
    assert "0.54" in what
    assert "picture has" in notebooks.differences(kept, grown)[1]
    assert notebooks.differences(kept, grown, sizes=False) == {}
    assert notebooks.differences(kept, gone)[1] == "it shows stream, and what is kept shows stream, picture"
    message = notebooks.told("world", {1: what})
    assert message.startswith("world.ipynb, code cell 1: ")
    assert message.endswith("python tools/notebooks.py world")


def test_the_check_runs_a_notebook_and_fails_where_it_shows_something_else(tmp_path, monkeypatch, capsys):
    import nbformat

    path = tmp_path / "small.ipynb"
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cells = [nbformat.v4.new_code_cell("print(6 * 7)"), nbformat.v4.new_code_cell("'seen'")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    for arguments, code, said in (
        ([], 0, "small.ipynb: "),
        (["--check"], 0, "as a run gives it"),
        (["--check", "small"], 1, "code cell 1: the stream differs: expected '43\\n', got '42\\n'"),
    ):
        with pytest.raises(SystemExit) as ended:
            notebooks.main(arguments)
        assert (bool(ended.value.code), said in capsys.readouterr().out) == (bool(code), True)
        if arguments == ["--check"]:
            path.write_text(path.read_text().replace('"42\\n"', '"43\\n"'))
    assert "43" in path.read_text()
