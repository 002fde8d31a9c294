"""Saving a view as a page: what is refused, and that nothing is left half-written."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re

import numpy as np
import pytest

import clipviz
from clipviz import waits
from clipviz.demo import images as demo
from clipviz.panels.core import standalone
from clipviz.panels.core.stored import UNFINISHED, Answer, Kept, Store, key
from clipviz.panels.heads.panel import Heads
from clipviz.panels.words.panel import Words

pytestmark = pytest.mark.usefixtures("few_rotations")


@pytest.fixture
def panel(lend, model):
    with lend(model, demo().subset(range(12)), [*clipviz.demo.texts()][:60]) as session:
        yield Heads(session)


def inflated(text, name):
    """What an element of a page holds."""
    return gzip.decompress(base64.b64decode(text.split(f'id="{name}">')[1].split("</script>")[0]))


def test_the_page_holds_what_the_panel_shows(panel, tmp_path):
    panel.session.select(text="a red circle", image=4)
    path = panel.save_html(tmp_path / "heads.html")
    text = path.read_text()
    held = json.loads(inflated(text, "panels"))
    (part,) = held["panels"]
    assert part["name"] == "heads"
    assert part["traits"]["view"] == json.loads(json.dumps(panel.view))
    assert part["traits"]["view"]["summaries"]  # which are labelled behind the panel
    assert held["selection"] == panel.session.selection.to_dict()
    assert (held["images"], held["texts"]) == ([4], ["a red circle"])
    assert "request" not in part["traits"]
    assert part["script"] == panel._esm
    (answers,) = part["parts"]
    fields, arrays, _ = answers["answers"]["4\x01a red circle"]
    assert held["values"][fields["cosine"]] == panel.view["cosine"]
    place = held["arrays"][arrays["heads"]]
    content = inflated(text, "arrays")[place["offset"] : place["offset"] + place["size"]]
    assert np.frombuffer(content, "float32") == pytest.approx(panel.data()["heads"].ravel())
    assert [p.name for p in tmp_path.iterdir()] == ["heads.html"]


def test_a_page_does_not_say_for_ever_how_far_some_work_is(lend, model):
    with lend(model, demo().subset(range(12)), [*clipviz.demo.texts()][:60]) as session:
        panel = Words(session)
        session.wait(120, background=True)
        work = waits.Work("Reading the neurons of layer 3", 2014)
        work.reached(32)
        panel.tell(work)
        panel.doing = panel.view["message"] = work.line
        text = standalone.page([panel], "words")
        (part,) = json.loads(inflated(text, "panels"))["panels"]
        shown = part["traits"]
        assert (shown["progress"], shown["work"], shown["doing"]) == ([0, 0], "", "")
        assert shown["view"]["message"] == UNFINISHED
        assert panel.work.startswith("Reading the neurons of layer 3: 32 of 2,014, about ")
    kept = Store()
    view = {"waits": "Reading the images: 3 of 12", "joint": {"message": work.line}, "title": "text: 3 of 12"}
    (fields, _, _) = kept._kept(Answer(view))
    assert {name: kept.values[i] for name, i in fields.items()} == {
        "waits": UNFINISHED,
        "joint": {"message": UNFINISHED},
        "title": "text: 3 of 12",
    }


def test_opening_and_saving_say_what_they_wait_for(model, tmp_path, monkeypatch, capsys):
    """Each with its estimate, on the line of the terminal; a quick one without a word."""
    screen = io.StringIO()
    screen.isatty = lambda: True
    with monkeypatch.context() as slow:
        slow.setattr(waits.sys, "stderr", screen)
        slow.setattr(waits, "QUIET", -1.0)
        slow.setattr(waits, "EVERY", 0.0)
        texts = [f"text {i}" for i in range(40)]
        session = clipviz.Session(model, demo().subset(range(12)), texts, background=False)
        board = clipviz.Dashboard(session)
        board.save_html(tmp_path / "board.html", images=2, heads=[(5, 1), (4, 2)])
    told = re.sub(r"\d+ (s|min) left", "some time left", screen.getvalue())
    told = [words.strip() for words in re.split("[\r\n]", told)]
    for words in (
        "Reading the images: 4 of 12, about some time left",
        "Labelling the heads: 20 of 48, about some time left",
        "Describing the heads in texts: 2 of 3, about some time left",
        "Answers of the panel 'heatmap': 2 of 16, about some time left",
    ):
        assert words in told
    board.save_html(tmp_path / "again.html")
    assert capsys.readouterr().err == ""
    board.close()


def test_what_is_kept_is_what_is_asked_for(panel):
    session = panel.session
    session.select(text="a red circle", image=4, layer=2, head=1)
    kept = Kept.of(session, [7, 4], ["a swan"], [(0, 3)])
    assert kept == Kept((4, 7), ("a red circle", "a swan"), ((2, 1), (0, 3)))
    counted = Kept.of(session, 3, 4, "all")
    assert counted.texts[0] == "a red circle"
    assert len(set(counted.texts)) == 4
    assert len(counted.heads) == 48
    in_turn = [session.images.search(text, 3)[rank][0] for rank in range(3) for text in counted.texts]
    assert list(counted.images) == list(dict.fromkeys([4, *in_turn]))[:3]
    keys = [key(("image", "text"), s) for s in counted.selections(("image", "text"), session.selection)]
    assert len(set(keys)) == 12
    for wrong, message in (
        ({"images": [12]}, "an image within 0..11"),
        ({"texts": "a swan"}, "put it in a list"),
        ({"heads": [(9, 0)]}, "layer within"),
        ({"heads": "late"}, '"selected", "all"'),
        ({"images": 0}, "images"),
        ({"texts": [" "]}, "expected a text"),
    ):
        with pytest.raises(ValueError, match=message):
            Kept.of(session, **wrong)


def test_equal_values_and_arrays_are_kept_once_and_numbers_to_their_last_digits():
    store, generator = Store(), np.random.default_rng(0)
    values = generator.normal(0, [[1.0], [1e-3], [0.0]], (3, 100)).astype(np.float32)
    first = store._kept(Answer({"a": [1, 2]}, {"map": values, "few": values[:1, :5]}))
    again = store._kept(Answer({"b": [1, 2]}, {"map": values.copy()}))
    assert first[0]["a"] == again[0]["b"]
    assert first[1]["map"] == again[1]["map"]
    content = gzip.decompress(base64.b64decode(store.packed([], {})[1]))
    place = store.arrays[first[1]["map"]]
    steps = np.frombuffer(content, np.int16, 300, place["offset"]).reshape(3, 100)
    scale = np.frombuffer(content, np.float32, 3, place["scale"])
    for row, found, by in zip(values, steps, scale, strict=True):  # each row to 2e-5 of its own largest
        assert np.abs(found * by - row).max() <= 2e-5 * np.abs(row).max()
    assert place["row"] == 100
    few = store.arrays[first[1]["few"]]
    assert few["dtype"] == "float32"
    assert np.frombuffer(content, np.float32, 5, few["offset"]).tolist() == values[0, :5].tolist()


@pytest.mark.parametrize("name", ["heads.pdf", "heads"])
def test_another_kind_of_file_is_refused(panel, tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in \.html, got"):
        panel.save_html(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_refused(panel, tmp_path):
    with pytest.raises(ValueError, match="expected a folder that exists"):
        panel.save_html(tmp_path / "gone" / "heads.html")


def test_a_panel_that_shows_nothing_is_refused_by_name(panel, tmp_path, monkeypatch):
    monkeypatch.setattr(Heads, "compute", lambda *_: None)
    fresh = Heads(panel.session)
    with pytest.raises(ValueError, match="'heads' shows nothing"):
        fresh.save_html(tmp_path / "heads.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["</script>", "<!--", "a & b", "a\u2028b"])
def test_texts_have_no_markup_in_the_page_and_read_back(panel, tmp_path, text):
    panel.session.select(text=text, image=4)
    page = panel.save_html(tmp_path / "heads.html").read_text()
    assert json.loads(inflated(page, "panels"))["texts"] == [text]
    assert page.count("</script>") == 3
    assert page.count("<!--") == 0
