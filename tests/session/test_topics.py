"""The names of a session: few on itself, science on its topics, nothing of what only panels need."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import traitlets

import clipviz
from clipviz.session import Board, Session

TOPICS = ("images", "texts", "heads", "maps", "ablation", "neurons", "cues", "rosetta", "generator")
MOST = 25
PLUMBING = {
    "attack_steps",
    "background",
    "begin",
    "cue_steps",
    "join",
    "keep",
    "label_heads",
    "labelling",
    "leave",
    "lock",
    "neuron_reading",
    "note",
    "pool_ready",
    "reading",
    "refresh",
    "remember",
    "session",
    "state",
    "tell",
    "tour",
    "update",
    "waiting",
    "watch",
    "worker",
}
ROOM = Path(inspect.getfile(Session)).parent


@pytest.fixture(scope="module")
def session(model):
    made = clipviz.Session(
        model, clipviz.demo.images().subset(range(6)), ["a dog", "a cat"], background=False
    )
    yield made
    made.close()


def public(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


def test_a_session_has_few_names_and_each_topic_among_them(session):
    own = public(session) - public(traitlets.HasTraits)
    assert len(own) <= MOST, sorted(own)
    assert set(TOPICS) < own
    assert not own & PLUMBING


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_shows_science_alone_and_each_name_is_described(session, name):
    topic = getattr(session, name)
    own = public(topic) - public(tuple)
    assert own
    assert not own & PLUMBING
    assert type(topic).__doc__
    for one in own:
        assert inspect.getdoc(inspect.getattr_static(type(topic), one)), one


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_says_what_it_holds_in_a_line(session, name):
    said = repr(getattr(session, name))
    assert said
    assert " at 0x" not in said
    assert "\n" not in said


def test_a_session_says_model_images_texts_and_device(session):
    said = repr(session)
    for part in ("demo", "6 images", "2 texts", "cpu"):
        assert part in said


def test_panels_find_one_board_which_goes_with_the_last_of_them(session):
    board = Board.of(session)
    assert Board.of(session) is board
    for name in ("watch", "note", "progress", "waiting", "tour"):
        assert hasattr(board, name)
    del board
    assert session._state.screen() is None


def test_images_and_texts_of_a_session_open_another_one_with_the_same_identity(session, model):
    other = clipviz.Session(model, session.images, session.texts, background=False)
    assert other.images.opened is session.images.opened
    assert other.texts.opened is session.texts.opened
    other.close()


def signatures(path):
    """(function, its arguments' annotations) of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield node.name, [ast.unparse(one.annotation) for one in arguments if one.annotation]


def test_topics_receive_the_state_and_no_function_of_them_a_whole_session():
    for path in ROOM.rglob("*.py"):
        if path.name != "board.py":
            takers = [name for name, given in signatures(path) if "Session" in given]
            assert not takers, (path.name, takers)
        words = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "cast" not in words, path.name


def test_a_topic_is_one_class_without_mixins():
    for path in (ROOM / "topics").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Topic"):
                bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
                assert bases <= {"Sequence"}, node.name
