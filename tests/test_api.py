"""What docs/api.md promises: every public name is listed, every name listed exists, and every name said resolves."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import traitlets

import clipviz
from clipviz import lens, loading, models
from clipviz.session import Session

ROOT = Path(__file__).parents[1]
API = (ROOT / "docs/api.md").read_text(encoding="utf-8")
TOPICS = ("images", "texts", "heads", "maps", "ablation", "neurons", "cues", "rosetta", "generator")


def topic_class(name):
    room = importlib.import_module(f"clipviz.session.topics.{name}")
    (found,) = [
        made
        for word, made in vars(room).items()
        if word.endswith("Topic") and made.__module__ == room.__name__
    ]
    return found


def public_of(made, above):
    return {name for name in dir(made) if not name.startswith("_")} - set(dir(above))


def listed(accessor):
    """The names in the row of an accessor."""
    (row,) = re.findall(rf"^\| `{re.escape(accessor)}` \| (.*) \|$", API, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", row))


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_has_the_names_that_are_listed_and_no_others(topic):
    own = {name for name in vars(topic_class(topic)) if not name.startswith("_")}
    assert listed(f"session.{topic}") == own


def test_a_session_has_the_names_that_are_listed_and_no_others():
    assert listed("session") == public_of(Session, traitlets.HasTraits)


def test_the_package_has_the_names_that_are_listed_and_no_others():
    table = API.split("## The package")[1].split("\n## ")[0]
    names = set(re.findall(r"`clipviz\.(\w+)`", table))
    assert set(clipviz._NAMES) <= names
    for name in names:
        assert getattr(clipviz, name) is not None


def test_every_module_is_said_to_be_stable_or_not():
    names = set(re.findall(r"`clipviz\.(\w+)`", API))
    assert set(clipviz._MODULES) - {"session"} <= names


def test_a_glossary_says_where_its_words_are_found():
    words = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    said = re.findall(r"`session\.(\w+)(?:\.(\w+))?", words)
    assert len(said) > 12
    for topic, name in said:
        if topic not in TOPICS:
            assert hasattr(Session, topic), topic
        elif name:
            assert hasattr(topic_class(topic), name), (topic, name)
    for name in re.findall(r"`clipviz\.([\w.]+)", words):
        found = clipviz
        for part in name.split("."):
            found = getattr(found, part)


NAME = re.compile(r"(?<!-m )\bclipviz(?:\.[A-Za-z_]\w*)+")
ALONE = """
import os, sys
from functools import reduce
import torch, open_clip, sklearn.decomposition, scipy, anywidget, ipywidgets, matplotlib.pyplot, PIL.Image, timm
import clipviz
for name in sys.stdin.read().split():
    child = os.fork()  # each in a process of its own, in which nothing of clipviz has been imported before it
    if not child:
        try:
            reduce(getattr, name.split(".")[1:], clipviz)
            os._exit(0)
        except BaseException:
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        print(name)
"""


def said():
    """Dotted names below clipviz in pages, notebooks and the texts that the package shows, docstrings aside."""
    pages = [page.read_text("utf-8") for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]]
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        pages += ["".join(cell["source"]) for cell in json.loads(notebook.read_text("utf-8"))["cells"]]
    texts = [re.sub(r"(?m)^\s*(from|import) clipviz.*$", "", page) for page in pages]
    for path in (path for path in (ROOT / "clipviz").rglob("*.py") if path.name != "__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        shown = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts += [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in shown
        ]
    commands = re.compile(r"clipviz\.(cli|first_run|\w+\.command|kits)\b|clipviz\.demo\.model\.evaluate")
    return sorted({name for text in texts for name in NAME.findall(text) if not commands.match(name)})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process for each name")
def test_every_name_that_is_said_is_there_after_importing_clipviz_alone():
    names = said()
    assert len(names) > 60
    assert "clipviz.models.bundle.Studio.of" in names
    asked = {"input": "\n".join(names), "capture_output": True, "text": True, "check": True}
    missing = subprocess.run([sys.executable, "-W", "ignore", "-c", ALONE], **asked).stdout.split()
    assert missing == []


def parameters(function):
    return [one for one in inspect.signature(function).parameters.values() if one.name not in ("self", "cls")]


def section(text, name):
    """The names that a section of a docstring describes."""
    found = re.search(rf"^{name}:\n((?: +.*\n?|\n)*)", text, re.MULTILINE)
    return re.findall(r"^    \*{0,2}(\w+): ", found[1], re.MULTILINE) if found else []


ASKED = [
    pytest.param(made, id=f"{accessor}.{name}")
    for accessor, owner in (("session", Session), *((topic, topic_class(topic)) for topic in TOPICS))
    for name, made in vars(owner).items()
    if name in listed("session" if owner is Session else f"session.{accessor}")
    and inspect.isfunction(made)
    and len(parameters(made)) > 1
]


@pytest.mark.parametrize("function", ASKED)
def test_a_question_of_two_arguments_describes_them_and_its_answer_in_sections(function):
    text = inspect.getdoc(function)
    assert section(text, "Args") == [one.name for one in parameters(function)]
    if inspect.signature(function).return_annotation != "None":
        assert re.search(r"^(Returns|Yields):$", text, re.MULTILINE)
    assert not re.search(r"(?<!\n)\bRaises [A-Z]\w+Error", text)  # in its section


def public_functions(module):
    """The functions and methods of a module that others may call: what it lists, else what it defines."""
    own = [name for name, made in vars(module).items() if getattr(made, "__module__", "") == module.__name__]
    for name in getattr(module, "__all__", own):
        made = getattr(module, name)
        for called, one in vars(made).items() if inspect.isclass(made) else [(name, made)]:
            function = getattr(one, "__func__", one)  # of a class method
            if inspect.isfunction(function) and not (name.startswith("_") or called.startswith("_")):
                yield pytest.param(function, id=f"{function.__module__}.{function.__qualname__}")


ROOMS = {lens: lens.__all__, models: models._MODULES}
PUBLIC = [
    function
    for room, names in ROOMS.items()
    for name in names
    for function in public_functions(importlib.import_module(f"{room.__name__}.{name}"))
] + [*public_functions(loading)]


@pytest.mark.parametrize("function", {one.id: one for one in PUBLIC}.values())
def test_a_function_of_the_lenses_and_models_describes_its_arguments_in_sections(function):
    text, given = inspect.getdoc(function), parameters(function)
    if len(given) > 1:
        assert section(text, "Args") == [one.name for one in given]
        if inspect.signature(function).return_annotation != "None":
            assert re.search(r"^(Returns|Yields):$", text, re.MULTILINE)
    code = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    if any(isinstance(node, ast.Raise) for node in ast.walk(code)):
        assert section(text, "Raises") != []
    assert not re.search(r"(?<!\n)\bRaises [A-Z]\w+Error", text)  # in its section


def test_the_pages_of_lenses_and_models_are_among_them():
    named = {one.id for one in PUBLIC}
    for page in ("lens", "models"):
        text = (ROOT / f"docs/reference/{page}.md").read_text(encoding="utf-8")
        for name in re.findall(r"^::: (clipviz[\w.]+)", text, re.MULTILINE):
            assert any(one == name or one.startswith(f"{name}.") for one in named), name
