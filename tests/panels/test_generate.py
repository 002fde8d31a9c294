"""The Generate desk without a browser: a hand moves, buttons change, the newest request wins."""

from __future__ import annotations

import threading
from dataclasses import replace

import brief_searches
import numpy as np
import pytest
import torch

import clipviz
from clipviz.panels import Generate
from clipviz.session import EVERY
from clipviz.session.topics import workbench
from clipviz.values import Latents
from panels.asking import ask


@pytest.fixture(scope="module")
def session(model):
    made = clipviz.Session(model)
    made.generator.concepts()
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def few_starts():
    with brief_searches.few_starts():
        yield


@pytest.fixture
def brief():
    """For tests that do not ask where the object is in the end."""
    with brief_searches.few_steps(8):
        yield


@pytest.fixture
def desk(session):
    panel = Generate(session)
    session.wait(120)
    yield panel
    panel.close()


def place(desk):
    """Where the true object of the picture is, (x, y) in sides."""
    return desk.session.generator.model.true_scenes(desk.session.generator.workbench.latents).centre[0, 0]


def test_it_opens_with_a_picture_its_map_and_what_the_model_says(desk):
    shown = desk.data()
    assert shown["settled"]
    assert shown["map"].shape == (shown["side"], shown["side"])
    assert shown["picture"].tobytes()[:4] == b"\x89PNG"
    assert all(one["name"] and one["units"] for one in shown["concepts"])
    assert {one["question"] for one in shown["before"]} >= {"kind", "colour", "background"}
    assert shown["before"] == shown["after"]
    assert len(shown["concepts"]) == 12
    assert shown["n_concepts"] == len(desk.session.generator.concepts())


def test_a_drag_moves_the_true_object_and_a_new_grip_holds_what_is_there(desk):
    ask(desk, action="begin", source="class", label="car")
    assert desk.view["label"] == "car"
    before = place(desk)
    way = 1 if before[0] < 0.5 else -1
    ask(desk, options={"move": [1, 0.15 * way, 0.0, 1.0]})
    moved = place(desk)
    assert (moved[0] - before[0]) * way > 0.05
    assert desk.view["settled"]
    assert desk.view["distance"] < desk.view["asked"]
    held = desk.session.generator.workbench.latents
    ask(desk, options={"move": [2, 0.0, 0.0, 1.0]})
    assert np.abs(place(desk) - moved).max() < 0.05  # nothing asked of the new grip
    assert desk._grip[1] is held


@pytest.mark.usefixtures("brief")
def test_what_an_edit_did_is_said_by_the_true_scene(desk):
    ask(desk, action="begin", source="class", label="car")
    shown = desk.data()
    assert shown["verdict"] == ""
    assert shown["done"] is None
    assert shown["scene"]["kind"].startswith("car")
    before = place(desk)
    ask(desk, options={"move": [11, 0.15 if before[0] < 0.5 else -0.15, 0.0, 1.0]})
    shown = desk.data()
    parts = desk.session.generator.model.judged(
        desk.session.generator.workbench.first,
        desk.session.generator.workbench.latents,
        "zoom",
        desk.move[1],
        0.0,
        1.0,
    )
    right = all(bool(one[0]) for one in parts.values())
    assert shown["done"] == right
    assert shown["verdict"].startswith(
        "Done, according to the true scene" if right else "Not done, according to the true scene: "
    )
    ask(desk, options={"concept": 1})
    ask(desk, options={"move": [12, 0.1, 0.0, 1.0]})
    assert "of the way to the requested ones" in desk.data()["verdict"]
    ask(desk, options={"concept": EVERY})
    ask(desk, action="reset")
    assert desk.data()["verdict"] == ""


def test_a_storm_of_moves_settles_on_the_last(desk):
    ask(desk, action="begin", source="class", label="house")
    start = place(desk)
    way = 1 if start[0] < 0.5 else -1
    seq = desk.request["seq"]
    with brief_searches.few_steps(20):
        for i in range(40):
            desk.request = {"seq": seq, "options": {"move": [5, -0.1 * way + 0.25 * way * i / 39, 0.0, 1.0]}}
        desk.session.wait(120)
    assert desk.view["settled"]
    assert (place(desk)[0] - start[0]) * way > 0.03  # the last went this way, the first the other


@pytest.mark.usefixtures("brief")
def test_a_moving_hand_is_followed_by_one_search_with_one_pass_a_picture(desk, monkeypatch):
    desk.session.generator.workbench.seed = 0  # the same car, whatever was begun before
    ask(desk, action="begin", source="class", label="car")
    bench, seq, seen = desk.session.generator.workbench, desk.request["seq"], []
    follow, show, passes = bench.follow, desk._show, [0]
    runs = desk.session.generator.model.module.register_forward_hook(
        lambda *_: passes.__setitem__(0, passes[0] + 1)
    )
    counted = []

    def watched(goal):
        for number, frame in enumerate(follow(goal)):
            if 2 <= number <= 21:  # the hand moves on while the search runs
                desk.request = {"seq": seq, "options": {"move": [8, 0.01 * number, 0.0, 1.0]}}
            yield frame
        counted.append((number, passes[0]))

    def shown(selection, view, arrays):
        seen.append((view["settled"], sorted(arrays)))
        show(selection, view, arrays)

    monkeypatch.setattr("clipviz.panels.generate.panel.FRAMES_APART", 0.0)
    monkeypatch.setattr(desk, "_show", shown)
    bench.follow = watched
    try:
        desk.request = {"seq": seq, "options": {"move": [8, 0.01, 0.0, 1.0]}}
        desk.session.wait(120)
    finally:
        del bench.follow
        runs.remove()
    ((n_steps, n_passes),) = counted  # one search
    assert n_steps == 22 + workbench.LIVE.n_steps  # which ends LIVE after the last move
    assert (
        n_passes == n_steps + 1
    )  # one for each picture, none for the maps under the hand: they have been on show
    assert seen[:-1] == [(False, ["pixels"])] * n_steps
    assert seen[-1][0]
    assert desk.view["moved"] == [8, 0.21, 0.0, 1.0]
    assert desk.view["asked"] > desk.view["distance"]


@pytest.mark.usefixtures("brief")
def test_pictures_on_the_way_are_those_of_the_search(desk, monkeypatch):
    ask(desk, action="begin", source="class", label="house")
    pixels, pictures, show = [], [], desk._show
    bench = desk.session.generator.workbench
    follow = bench.follow

    def watched(goal):
        for frame in follow(goal):
            pictures.append(np.asarray(frame.picture))
            yield frame

    def shown(selection, view, arrays):
        show(selection, view, arrays)
        pixels.append(desk.data().get("pixels"))

    monkeypatch.setattr("clipviz.panels.generate.panel.FRAMES_APART", 0.0)
    monkeypatch.setattr(desk, "_show", shown)
    monkeypatch.setattr(bench, "follow", watched, raising=False)
    desk.request = {"seq": desk.request["seq"], "options": {"move": [9, 0.1, 0.0, 1.0]}}
    desk.session.wait(120)
    for found, picture in zip(pixels[:-1], pictures[1:], strict=True):
        assert np.array_equal(found[..., :3], picture)
        assert (found[..., 3] == 255).all()


@pytest.mark.usefixtures("brief")
def test_what_a_hand_does_is_no_part_of_a_view(desk):
    desk.session.wait(60)
    before = desk.session.view
    desk.concept = 1
    assert desk.session.view.panels["generate"] == {"concept": 1}
    desk.concept = EVERY
    desk.move = [desk.move[0] + 1, 0.01, 0.0, 1.0]
    assert desk.session.view == before
    desk.session.wait(120)


class Blind:
    """A generator whose pictures do not follow their latents with gradients."""

    def __init__(self, generator):
        self.inner, self.side, self.classes = generator, generator.side, generator.classes
        self.sample, self.images = generator.sample, generator.images

    def maps(self, latents, layers=None):
        return self.inner.maps(latents)

    def generate(self, latents):
        with torch.no_grad():
            return self.inner.generate(latents)


class Broken(Blind):
    """A generator whose maps hold NaN."""

    def maps(self, latents, layers=None):
        return {name: maps * float("nan") for name, maps in self.inner.maps(latents).items()}

    generate = property(lambda self: self.inner.generate)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(("kind", "told"), [(Blind, "with gradients"), (Broken, "NaN or infinity")])
def test_a_generator_that_cannot_be_followed_is_said_and_the_picture_stays(desk, kind, told):
    ask(desk, action="begin", source="random")
    bench, good = desk.session.generator.workbench, desk.session.generator.model
    held, session = bench.latents, desk.session
    concepts, guides = session.generator.concepts(), session.generator.guides
    session.generator._guided.generator = kind(
        good
    )  # the picture in hand stays, as it would not with another one of `generator`
    session.generator.guides = guides
    guided = session.generator._guided
    session._state.keep(guided._key("generator concepts"), lambda: concepts)
    ask_wrong(desk, {"action": "change", "change": "copy"})
    assert told in desk.error["message"]
    assert bench.latents is held
    assert desk.view["settled"]
    session.generator._guided.generator = good
    ask(desk, action="change", change="copy")
    assert not desk.error
    assert desk.view["settled"]


def test_latents_of_another_width_are_said(desk):
    with pytest.raises(ValueError, match="expected latents of"):
        desk.session.generator.edit(
            Latents(torch.zeros(1, 5), torch.zeros(1, dtype=torch.long)), "shift", right=0.2
        )


def test_a_desk_that_is_closed_or_hidden_stops_its_search(desk):
    ask(desk, action="begin", source="class", label="car")
    bench, started = desk.session.generator.workbench, threading.Event()
    follow, n_threads, frames = bench.follow, threading.active_count(), []

    def watched(goal):
        for frame in follow(goal):
            frames.append(frame.step)
            started.set()
            yield frame

    bench.follow = watched
    try:
        desk.request = {"seq": desk.request["seq"], "options": {"move": [7, 0.2, 0.0, 1.0]}}
        assert started.wait(60)
        desk.close()
        desk.session.wait(60)
        assert max(frames) < workbench.LIVE.n_steps
        assert threading.active_count() == n_threads
    finally:
        del bench.follow


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("by", ["selection", "hand"])
def test_a_button_that_is_overtaken_begins_again_or_gives_way_to_the_hand(desk, by):
    ask(desk, action="begin", source="class", label="car")
    bench, started, bases = desk.session.generator.workbench, threading.Event(), []
    change, brief = bench.change, replace(workbench.LIVE, n_steps=2)

    def watched(*asked):
        bases.append(bench.latents)
        for frame in change(*asked, schedule=brief):
            if len(bases) == 1 and frame.number == 3:
                started.set()
                assert overtaken.wait(60)
            yield frame

    overtaken = threading.Event()
    bench.change = watched
    try:
        desk.request = {"seq": desk.request["seq"] + 1, "action": "change", "change": "copy"}
        assert started.wait(60)
        if by == "hand":
            desk.move = [desk.move[0] + 1, 0.0, 0.0, 1.1]
        else:
            desk.session.select(image=4)
        overtaken.set()
        desk.session.wait(120)
    finally:
        del bench.change
    assert desk.view["settled"]
    if by == "hand":
        assert len(bases) == 1
        assert desk._grip[1] is not bases[0]  # it holds what the search had reached
        assert desk.view["moved"] == list(desk.move)
    else:
        assert bases == [bench.first] * 2
        found = desk.session.generator.edit(bench.first, "copy", schedule=brief)
        assert torch.equal(bench.latents.z, found.latents.z)


@pytest.mark.usefixtures("brief")
def test_reset_keep_and_back(desk):
    ask(desk, action="begin", source="random")
    first, seen = desk.session.generator.workbench.first, []
    desk.observe(lambda change: seen.append((change["new"]["settled"], change["new"].get("work"))), "view")
    ask(desk, action="change", change="copy")
    desk.unobserve_all("view")
    assert seen[0] == (False, "Copying…")  # before the first step
    assert all(work.startswith("Copying") for settled, work in seen[1:] if not settled)
    assert desk.view["asked"] > 0
    changed = desk.session.generator.workbench.latents
    ask(desk, action="keep")
    assert desk.view["n_kept"] == 1
    ask(desk, action="reset")
    assert desk.session.generator.workbench.latents is first
    ask(desk, action="back", place=0)
    assert desk.session.generator.workbench.latents is changed


def test_the_picture_becomes_an_image_of_the_session(desk):
    n_images = len(desk.session.images)
    ask(desk, action="add")
    assert len(desk.session.images) == n_images + 1
    assert desk.session.selection.image == n_images


def test_one_concept_or_all(desk):
    ask(desk, options={"concept": 3})
    one = desk.data()["map"]
    ask(desk, options={"concept": EVERY})
    assert not np.array_equal(one, desk.data()["map"])


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"action": "begin", "source": "nowhere"}, "random, class or image"),
        ({"action": "change", "change": "twist"}, "copy, remove, amplify"),
        ({"action": "begin", "source": "class", "label": "unicorn"}, "expected a label among"),
        ({"action": "back", "place": 99}, "a kept picture"),
        ({"options": {"move": [9, float("nan"), 0.0, 1.0]}}, "finite moves"),
        ({"options": {"move": [9, 0.0, 0.0, 0.0]}}, "positive zoom"),
        ({"options": {"concept": 100_000}}, "concepts within"),
    ],
)
def test_what_is_wrong_is_said_and_the_desk_goes_on(desk, wrong, told):
    ask_wrong(desk, wrong)
    assert told in desk.error["message"]
    desk.session._state.refresh()  # as what ends behind the panels does
    desk.session.wait(60)
    assert told in desk.error["message"]
    if "concept" in wrong.get("options", {}):
        desk.concept = EVERY
    ask(desk, action="begin", source="random")  # and what was wrong is not tried again
    assert not desk.error
    assert desk.view["settled"]


def ask_wrong(desk, request):
    desk.request = {"seq": desk.request.get("seq", 0) + 1, **request}
    desk.session.wait(60)


def test_a_model_without_a_generator_says_what_to_do(session):
    before = session.model.bundle
    try:
        session.model.bundle = None
        session.generator._guided.generator = None
        panel = Generate(session)
        session.wait(60)
        assert "load_generator" in panel.view["message"]
        panel.close()
    finally:
        session.model.bundle = before
