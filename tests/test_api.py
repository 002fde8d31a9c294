"""What docs/api.md promises: every public name is listed, every name listed exists, and every name said resolves."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import traitlets

import clipviz
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
