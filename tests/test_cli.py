"""The command line: what is refused before anything is fetched, and which notebook a start opens."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import clipviz
from clipviz import cli


def started(capsys, *arguments):
    """The command that `clipviz demo` would run, and what it said before."""
    assert cli.main(["demo", "--dry-run", *map(str, arguments)]) == 0
    *said, command = capsys.readouterr().out.splitlines()
    return shlex.split(command), "\n".join(said)


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"clipviz {clipviz.__version__}\n"


def test_jupyterlab_takes_the_options_it_is_started_with(capsys, tmp_path):
    from jupyterlab.handlers.announcements import NeverCheckForUpdate
    from jupyterlab.labapp import LabApp

    command, _ = started(capsys, "--folder", tmp_path)
    app = LabApp()
    app.parse_command_line([part for part in command if part.startswith("--LabApp")])
    assert app.news_url is None
    assert app.check_for_updates_class is NeverCheckForUpdate


def test_the_notebook_opens_the_demo_and_is_valid(capsys, tmp_path):
    import nbformat

    command, _ = started(capsys, "--folder", tmp_path)
    assert str(tmp_path / "dashboard.ipynb") in command
    made = nbformat.read(tmp_path / "dashboard.ipynb", as_version=4)
    nbformat.validate(made)
    code = [cell.source for cell in made.cells if cell.cell_type == "code"]
    assert "clipviz.Session(clipviz.load('demo'))" in code[0]
    for source in code:
        ast.parse(source)


def test_a_second_start_with_other_arguments_opens_a_new_notebook(capsys, tmp_path):
    (tmp_path / "texts.txt").write_text("a dog\na cat\n")
    first, _ = started(capsys, "--folder", tmp_path)
    second, said = started(capsys, "--folder", tmp_path, "--texts", tmp_path / "texts.txt")
    assert said == ""
    assert str(tmp_path / "dashboard-2.ipynb") in second
    again, said = started(capsys, "--folder", tmp_path)
    assert again == first
    assert "again" in said
    written = json.loads((tmp_path / "dashboard-2.ipynb").read_text())
    assert f"texts={str(tmp_path / 'texts.txt')!r}" in written["cells"][0]["source"]


def test_an_edited_notebook_is_opened_as_it_is_and_another_programs_left_alone(capsys, tmp_path):
    started(capsys, "--folder", tmp_path)
    path = tmp_path / "dashboard.ipynb"
    made = json.loads(path.read_text())
    made["cells"][1]["source"] += "\n# mine"
    path.write_text(json.dumps(made))
    started(capsys, "--folder", tmp_path)
    assert "# mine" in path.read_text()
    started(capsys, "--folder", tmp_path, "--fresh")
    assert "# mine" not in path.read_text()
    path.write_text("not a notebook")
    command, _ = started(capsys, "--folder", tmp_path)
    assert str(tmp_path / "dashboard-2.ipynb") in command
    assert path.read_text() == "not a notebook"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "nowhere"], "'nowhere', which does not exist"),
        (["--model", "ViT-B-32"], "requires --images FOLDER"),
        (["--model", "ViT-B-33", "--images", "."], "similar names: ViT-B-32"),
        (["--model", "ViT-B-32", "--images", "."], "needs pretrained"),
        (["--model", "ViT-B-32", "--pretrained", "nothing", "--images", "."], "no pretrained tag 'nothing'"),
        (["--model", "RN50", "--pretrained", "openai", "--images", "."], "RN50"),
        (["--pretrained", "nowhere.safetensors"], "expected a file of weights"),
        (["--texts", "nowhere.txt"], "which does not exist; check the name"),
        (["--model", "ViT-B-32", "--pretrained", "openai", "--images", ".", "--texts", "demo"], "got 'demo'"),
        (["--device", "abacus"], "expected a device"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(capsys, tmp_path, arguments, message):
    folder = tmp_path / "here"
    assert cli.main(["demo", "--dry-run", "--folder", str(folder), *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert not folder.exists()


def test_a_module_planted_in_the_working_folder_is_not_run(capsys, tmp_path, monkeypatch):
    for name in ("clipviz", "jupyterlab", "traitlets"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()\nraise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    command, _ = started(capsys)
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    assert not (tmp_path / "ran").exists(), done.stderr
    assert done.returncode == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\s*", done.stdout)


@pytest.mark.parametrize(
    "planted", ["clipviz.py", "clipviz/__init__.py", "json.py", "ipykernel_launcher.py", "torch/__init__.py"]
)
def test_a_folder_with_modules_that_hide_installed_ones_is_refused(capsys, tmp_path, planted):
    (tmp_path / planted).parent.mkdir(exist_ok=True)
    (tmp_path / planted).write_text("")
    (tmp_path / "helper_of_mine.py").write_text("")  # hides nothing
    assert cli.main(["demo", "--dry-run", "--folder", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert planted.partition("/")[0] in said
    assert "shadow installed ones" in said
    assert "helper" not in said
    assert not (tmp_path / "dashboard.ipynb").exists()


def test_a_folder_of_somebody_else_is_refused(capsys, tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    assert cli.main(["demo", "--dry-run", "--folder", str(tmp_path)]) == 2
    assert "which everybody can write to" in capsys.readouterr().err
    tmp_path.chmod(0o755)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert cli.main(["demo", "--dry-run", "--folder", str(tmp_path)]) == 2
    assert "which belongs to another user" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_doctor_names_what_each_extra_gives_and_what_publishing_needs(capsys, monkeypatch):
    from clipviz import extras

    monkeypatch.setattr(
        cli.shutil, "which", lambda name: "/bin/shell" if name == "chromium-headless-shell" else None
    )
    found = extras.importlib.util.find_spec
    monkeypatch.setattr(
        extras.importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else found(name, *a)
    )
    assert cli.main(["doctor"]) == 0
    told = capsys.readouterr().out
    for name, extra in extras.EXTRAS.items():
        assert f"[{name}]" in told
        assert f"{extra.gives}: " in told
    lines = {line[2:20].strip(): line[20:].strip() for line in told.splitlines()}
    assert lines["browser for tests"] == "/bin/shell"
    assert lines["clipviz publish"] == "onnx is not installed; pip install 'clipviz[web]'"


def test_every_extra_of_the_package_is_described():
    from clipviz import extras

    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"(?s)\[project.optional-dependencies\]\n(.*?)\n\n", text).group(1)
    assert set(re.findall(r"(?m)^(\w+) =", listed)) - {"all", "dev"} == set(extras.EXTRAS)
