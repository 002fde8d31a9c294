"""The scripts are strings that hold together: one kit, no name twice, nothing fetched."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from clipviz import panels
from clipviz.panels.scripts import KIT, kit, script

FOLDER = resources.files("clipviz.panels")
OWN = sorted(file.name for file in FOLDER.iterdir() if file.name.endswith(".js"))
TOP = re.compile(r"^(?:const|let|function|class) (\w+)", re.MULTILINE)


def test_the_kit_is_every_file_of_its_folder():
    assert sorted(file.name for file in (FOLDER / "kit").iterdir() if file.name.endswith(".js")) == sorted(
        f"{name}.js" for name in KIT
    )


def test_no_helper_is_written_twice():
    names = TOP.findall(kit())
    assert len(names) == len(set(names)) > 40
    for file in OWN:
        own = TOP.findall((FOLDER / file).read_text())
        assert not set(own) & set(names), file


@pytest.mark.parametrize("file", OWN)
def test_every_helper_is_used_and_nothing_is_fetched(file):
    text = (FOLDER / file).read_text()
    assert not re.search(r"https?://|\bfetch\(|XMLHttpRequest|\beval\(|innerHTML", text)
    if file != "standalone.js":
        assert script(file.removesuffix(".js")) == kit() + text


def test_every_part_of_the_kit_has_a_caller():
    everything = kit() + "".join((FOLDER / file).read_text() for file in OWN)
    idle = [name for name in TOP.findall(kit()) if len(re.findall(rf"\b{name}\b", everything)) < 2]
    assert idle == []


@pytest.mark.parametrize("name", [name for name in panels.__all__ if name != "Dashboard"])
def test_a_panel_ships_its_script_as_a_string(name):
    kind = getattr(panels, name)
    assert kind._esm.startswith(kit())
    assert isinstance(kind._esm, str)
    assert "export default" in kind._esm
