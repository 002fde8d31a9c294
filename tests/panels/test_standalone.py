"""Saving a view as a page: what is refused, and that nothing is left half-written."""

from __future__ import annotations

import json

import pytest

import clipviz
from clipviz.demo import images as demo
from clipviz.panels import standalone
from clipviz.panels.heads import Heads


@pytest.fixture
def panel(model):
    session = clipviz.Session(model, demo().subset(range(12)), background=False)
    yield Heads(session)
    session.close()


def test_the_page_holds_what_the_panel_shows(panel, tmp_path):
    panel.session.select(text="a red circle", image=4)
    path = panel.save_html(tmp_path / "heads.html")
    text = path.read_text()
    held = text.split('id="panels">')[1].split("</script>")[0]
    (part,) = json.loads(held)
    assert part["name"] == "heads"
    assert part["traits"]["view"] == json.loads(json.dumps(panel.view))
    assert part["traits"]["view"]["selection"]["image"] == 4
    assert standalone.packed(panel.blob) == part["traits"]["blob"]
    assert "request" not in part["traits"]
    assert part["script"] == panel._esm
    assert [p.name for p in tmp_path.iterdir()] == ["heads.html"]


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


@pytest.mark.parametrize("text", ["</script>", "<!--", "a & b", "\u2028"])
def test_embedded_json_has_no_markup_and_reads_back(text):
    written = standalone.embedded({"text": text})
    assert not set("<>&") & set(written)
    assert json.loads(written) == {"text": text}
