"""A session's generator: edits and inversions by name, on the embedded one and on a stand-in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import brief_searches
import pytest
import torch
from tiny_dictionary import tiny_pair
from torch import nn

import clipviz
from clipviz.analysis.generation import editing
from clipviz.analysis.generation.concepts import open_concepts
from clipviz.analysis.generation.editing import edit
from clipviz.analysis.generation.guides import find_guides
from clipviz.data.texts import class_texts
from clipviz.demo.generator.scenes import rotation
from clipviz.lens.invert import Schedule
from clipviz.models.generator import ModuleGenerator
from clipviz.session import EVERY, Goal
from clipviz.session.topics import workbench
from clipviz.session.topics.workbench import LIVE, Workbench
from tests.models.families import with_texts


def bench_of(session, **options):
    """A workbench of its own, which nobody else has worked on."""
    return Workbench(session._state, session.generator._guided, session.images, session.ablation, **options)


@pytest.fixture(scope="module")
def session(model):
    made = clipviz.Session(model)
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def few_starts():
    with brief_searches.few_starts():
        yield


@pytest.fixture(scope="module")
def concepts(session):
    return session.generator.concepts()


def test_concepts_are_units_that_other_models_share(session, concepts):
    units = [unit for concept in concepts for unit in concept.units]
    assert len(concepts) > 10
    assert len(set(units)) == len(units) == session.generator.guides.n_units
    assert len({concept.name for concept in concepts}) == len(concepts)
    assert all(set(concept.readers) <= {"cnn", "vit"} and concept.readers for concept in concepts)
    assert session.generator.concepts() == concepts
    assert open_concepts(session.model.bundle.generator_concepts, session.generator.weights()) == concepts


def test_identity_is_exact_and_a_shift_moves_the_true_object(session):
    latents = session.generator.model.sample(2, seed=5)
    same = session.generator.edit(latents)
    assert torch.equal(same.images, same.source)
    truth = session.generator.model.true_scenes
    before = truth(latents)
    way = 1 if before.centre[0, 0, 0] < 0.5 else -1
    found = session.generator.edit(latents[:1], "shift", right=0.15 * way, schedule=Schedule(40, 0.1))
    moved = truth(found.latents).centre[0, 0, 0] - before.centre[0, 0, 0]
    assert moved * way > 0.04
    assert (found.latents.label == latents[:1].label).all()
    assert (found.distance < found.asked).all()


def test_an_image_is_inverted_into_the_class_that_the_model_names(session):
    image = next(
        i
        for i, word in enumerate(session.images.opened.attributes["class"])
        if word in session.generator.model.classes
    )
    classes = session.generator.model.classes
    directions = torch.stack([  # each class's mean prompt, literally (Eq. 2.1)
        sum(prompt.double() / prompt.double().norm() for prompt in session.model.encode_texts(prompts))
        for prompts in class_texts(list(classes))
    ])  # fmt: skip
    named = []
    for i in range(0, 400, 13):
        embedding = session.model.encode_images(session.images[i])[0].double()
        cosines = [float(embedding @ one / one.norm()) for one in directions]
        named.append((i, classes[cosines.index(max(cosines))]))
    assert len({name for _, name in named}) > 10
    assert [session.generator._guided.nearest_class(classes, i) for i, _ in named] == [
        name for _, name in named
    ]
    for i, name in named[:2]:
        assert classes[int(session.generator.invert(i, schedule=Schedule(1)).latents.label)] == name
    steps = []
    found = session.generator.invert(
        image, schedule=Schedule(3), progress=lambda step: steps.append(step.number)
    )
    assert found.images.shape == (
        1,
        3,
        session.generator.model.side,
        session.generator.model.side,
    )
    assert steps == [0, 1, 2, 3]
    other = session.generator.invert(image, label="owl", pixels=False, schedule=Schedule(2))
    assert session.generator.model.classes[int(other.latents.label)] == "owl"


def test_an_image_is_inverted_by_a_generator_without_classes(model):
    """One that tells neither its side nor its classes: what `load_generator` makes of somebody else's module."""
    session = clipviz.Session(model)
    torch.manual_seed(0)
    module = nn.Sequential(nn.ConvTranspose2d(6, 4, 8), nn.ReLU(), nn.Upsample(16), nn.Conv2d(4, 3, 1))
    module.requires_grad_(False)
    session.generator.model = ModuleGenerator(
        "blocks", module, lambda z: module(z[..., None, None]), ("1",), 6
    )
    session.generator.guides = find_guides(
        session.generator.model,
        session.generator.readers,
        session.generator.model.sample(8, seed=1),
        above=0.0,
        most=4,
    )
    found = session.generator.invert(0, schedule=Schedule(2))
    assert found.images.shape == (1, 3, 16, 16)
    assert torch.isfinite(found.latents).all()
    with pytest.raises(ValueError, match="without classes, got 'car'"):
        session.generator.invert(0, label="car")
    session.close()


class Stripes(nn.Module):
    """A generator of somebody else's: two numbers place a bright stripe, units are its layers' maps."""

    def __init__(self):
        super().__init__()
        self.units = nn.Conv2d(1, 3, 1, bias=False)
        self.units.weight.data = torch.tensor([1.0, 0.5, -1.0]).reshape(3, 1, 1, 1)

    def forward(self, z):
        at = (torch.arange(24) + 0.5) / 24
        stripe = torch.exp(-((at[None, None] - 0.5 - 0.15 * z[:, :1, None]) ** 2) / 0.01).expand(-1, 24, -1)
        return self.units(0.2 + 0.6 * stripe[:, None])[:, :1].expand(-1, 3, -1, -1)


class Looker:
    """A model that looks at pictures: pooled colours."""

    def __init__(self, name="looker", side=12):
        self.name, self.side = name, side

    def maps(self, images, layers=None):
        pictures = torch.as_tensor(images) if isinstance(images, torch.Tensor) else images
        return {"pool": torch.nn.functional.adaptive_avg_pool2d(pictures, self.side)}


@pytest.fixture
def own():
    """A session of a model without a bundle, with a generator of one's own."""
    made = clipviz.Session(
        with_texts("SigLIP"), clipviz.demo.images().subset(range(20)), ["a stripe", "a dog"], background=False
    )
    module = Stripes().eval().requires_grad_(False)
    made.generator.model = ModuleGenerator("stripes", module, module, ("units",), 2)
    yield made
    made.close()


def test_a_generator_works_on_ones_own_model(own):
    """Its units are matched with the session's own model, with what is given, and with what was mined last."""
    assert set(own.generator.readers) == {"clip"}
    own.generator.readers = [Looker()]
    assert set(own.generator.readers) == {"looker"}
    concepts, latents, brief = own.generator.concepts(), own.generator.model.sample(2, seed=1), Schedule(2)
    assert {reader for concept in concepts for reader in concept.readers} == {"looker"}
    assert own.generator.edit(latents, "shift", right=0.1, schedule=brief).images.shape == (2, 3, 24, 24)
    assert own.generator.edit(latents, "remove", concepts=[0], schedule=brief).images.shape == (2, 3, 24, 24)
    assert own.generator.invert(0, schedule=brief).images.shape == (1, 3, 24, 24)
    assert own.generator.invert(0, pixels=False, schedule=brief).images.shape == (1, 3, 24, 24)
    assert own.generator.visualise(0, n_starts=2, schedule=brief).images.shape == (2, 3, 24, 24)
    own.generator.workbench.random()
    frames = list(own.generator.workbench.follow(Goal(own.generator.workbench.latents, EVERY, right=0.1)))
    assert frames[-1].step == frames[-1].of
    assert own.generator.workbench.verdict().by == "maps"
    assert own.generator.workbench.scene() is None
    assert not own.generator.workbench.empty()


def test_what_was_mined_last_reads_the_generators_pictures(own, tmp_path):
    first = {one.name for one in tiny_pair().values()}
    own.rosetta.mine(tmp_path / "mined", partners=[*tiny_pair().values()], at_least=1, above=0.3)
    assert set(own.generator.readers) == first
    before = own.generator.readers
    own.generator.readers = {"eye": Looker()}
    assert set(own.generator.readers) == {"eye"}
    assert {name for concept in own.generator.concepts() for name in concept.readers} == {"eye"}
    own.generator.readers = None
    assert own.generator.readers == before


def test_guides_of_ones_own_take_the_place_of_those_found(own):
    own.generator.readers = {"looker": Looker()}
    found = find_guides(
        own.generator.model, own.generator.readers, own.generator.model.sample(32, seed=3), most=1
    )
    n_before = len([unit for concept in own.generator.concepts() for unit in concept.units])
    own.generator.guides = found
    assert own.generator.guides is found
    assert len([unit for concept in own.generator.concepts() for unit in concept.units]) == 1 < n_before
    own.generator.readers = {"other": Looker()}
    with pytest.raises(
        ValueError,
        match=r"expected guides with other, got pairs with looker; set session\.generator\.readers",
    ):
        own.generator.guides = found


class Blind(Looker):
    """One that sees nothing of the pictures."""

    def maps(self, images, layers=None):
        return {"pool": torch.rand(len(images), 2, 4, 4, generator=torch.Generator().manual_seed(0))}


def test_dead_ends_name_calls_that_exist(own):
    own.generator.readers = {"blind": Blind()}
    for ask in (
        own.generator.concepts,
        lambda: own.generator.invert(0, schedule=Schedule(1)),
        lambda: own.generator.edit(own.generator.model.sample(1), "shift", right=0.1),
        lambda: own.generator.visualise(0),
    ):
        with pytest.raises(ValueError, match="correlates above") as said:
            ask()
        named = re.findall(r"session\.generator\.(\w+) = ", str(said.value))
        assert named == ["readers", "guides"]
        for name in named:
            assert isinstance(getattr(type(own.generator), name).fset, Callable)
        assert "session.generator.readers = " in str(said.value)
        assert callable(find_guides)
    for wrong in ("cnn", [], [object()], 3):
        with pytest.raises(ValueError, match=r"readers as a list|models with \.maps"):
            own.generator.readers = wrong


@pytest.mark.parametrize("pixels", [True, False])
def test_the_literal_objectives_are_asked_by_the_session(session, pixels):
    """Eq. 4.5 and 4.6 as the thesis writes them, for inversions; and for edits."""
    found = {
        objective: session.generator.invert(3, pixels=pixels, schedule=Schedule(1), objective=objective)
        for objective in (None, "product", "cosine")
    }
    assert found["product"].asked < 0 < found["cosine"].asked
    assert found[None].asked != found["cosine"].asked
    latents = session.generator.model.sample(1, seed=5)
    asked = [
        float(
            session.generator.edit(
                latents, "shift", right=0.2, schedule=Schedule(1), objective=objective
            ).asked
        )
        for objective in ("distance", "product")
    ]
    assert asked[1] < 0 < asked[0]
    literal = session.generator.edit(latents, "shift", right=0.2, schedule=Schedule(1), literal=True)
    assert float(literal.asked) > asked[0]  # zeros come in


def test_one_concept_from_several_starts_moves_all_of_them(session, concepts):
    """Also a unit that is silent on most pictures: its starts are those on which it is not."""
    drawn = session.generator.model.maps(session.generator.model.sample(24, seed=0))
    spread = [drawn[one.units[0][0]][:, one.units[0][1]].flatten(1).std(1) for one in concepts]
    rare = int(torch.stack([(one > 0.05).float().mean() for one in spread]).argmin())
    found = session.generator.visualise(rare, n_starts=3, schedule=Schedule(12, 0.1))
    assert len(found.images) == 3
    moved = (found.images - found.source).abs().amax((1, 2, 3)) > 0.01
    assert (moved | (found.asked < 0.01)).all()  # the start that the others should be like is there already
    assert (found.distance <= found.asked).all()
    assert found.distance.mean() < found.asked.mean()


def test_impossible_requests_say_what_to_do(session, concepts):
    latents = session.generator.model.sample(1)
    with pytest.raises(ValueError, match="concepts within"):
        session.generator.edit(latents, "shift", concepts=[len(concepts)])
    with pytest.raises(ValueError, match="n_starts"):
        session.generator.visualise(0, n_starts=0)
    with pytest.raises(ValueError, match="expected a label among"):
        session.generator.invert(0, label="unicorn")
    with pytest.raises(ValueError, match="among none, zoom, shift"):
        session.generator.edit(latents, "twist")


class Faulty:
    """The session's generator with one thing wrong."""

    def __init__(self, generator, fault):
        self.generator, self.fault = generator, fault

    def __getattr__(self, name):
        if self.fault == "no truth" and name in ("true_scenes", "judged", "described"):
            raise AttributeError(name)
        return getattr(self.generator, name)

    def maps(self, latents, layers=None):
        maps = self.generator.maps(latents, layers)
        return {layer: one * float("nan") for layer, one in maps.items()} if self.fault == "NaN" else maps

    def generate(self, latents):
        with torch.no_grad():
            return self.generator.generate(latents)


@pytest.mark.parametrize("change", ["shift", "copy"])
def test_bad_input_is_refused_and_the_session_stays_usable(session, change):
    generator, latents = session.generator.model, session.generator.model.sample(1, seed=2)
    wide = replace(latents, z=torch.zeros(1, generator.n_latent + 1))
    with pytest.raises(ValueError, match=f"expected latents of {generator.n_latent} numbers, got"):
        session.generator.edit(wide, change, right=0.1)
    with pytest.raises(TypeError, match=r"expected Latents, got Tensor; take generator\.sample"):
        session.generator.edit(latents.z, change, right=0.1)
    guides = session.generator.guides
    for fault, told in (("no gradient", "must not run under torch.no_grad"), ("NaN", "expected finite maps")):
        with pytest.raises(ValueError, match=told):
            edit(Faulty(generator, fault), latents, guides, change, right=0.1, schedule=Schedule(2))
    found = session.generator.edit(latents, change, right=0.1, schedule=Schedule(2))
    assert torch.isfinite(found.images).all()


def test_a_workbench_follows_goals_and_can_be_left_at_any_frame(session):
    bench = bench_of(session)
    bench.random("duck")
    start = bench.latents
    frames = bench.follow(Goal(start, EVERY, right=0.1))
    first, second = next(frames), next(frames)
    frames.close()
    assert (first.step, second.step) == (0, 1)
    assert first.picture.size == (session.generator.model.side, session.generator.model.side)
    assert not torch.equal(bench.latents.z, start.z)
    left_at = bench.latents
    bench.keep()
    bench.begin(bench.first)
    assert torch.equal(bench.latents.z, start.z)
    bench.back_to(0)
    assert bench.latents is left_at
    with pytest.raises(ValueError, match=r"a kept picture within 0\.\.0"):
        bench.back_to(1)


def test_a_drag_of_nothing_leaves_the_picture(session):
    """A search from the source that nothing is asked of; a fifth of pictures fell below 40 dB, since Adam takes steps
    of full length along the small pull to the prior's mean."""
    bench = bench_of(session)
    for seed in (11, 12):
        bench.begin(session.generator.model.sample(1, seed=seed))
        start = bench.picture()
        with brief_searches.few_steps(12):
            frames = list(bench.follow(Goal(bench.latents, EVERY, right=1e-7)))
        assert bench.picture().tobytes() == start.tobytes() == frames[-1].picture.tobytes()
        assert bench.distance <= bench.asked + 1e-9


@pytest.mark.parametrize(
    ("change", "concept", "how"),
    [
        ("copy", EVERY, {}),
        ("remove", 2, {}),
        ("amplify", 2, {"factor": 1.6}),
        ("zoom", EVERY, {"right": 0.1, "factor": 1.2}),
    ],
)
def test_the_desk_and_an_edit_by_name_paint_the_same_picture(session, change, concept, how):
    bench = bench_of(session)
    bench.begin(session.generator.model.sample(1, seed=3))
    with brief_searches.few_steps(6):
        brief = workbench.LIVE
        if change == "zoom":  # what a hand does
            frames = list(bench.follow(Goal(bench.latents, concept, **how)))
        else:
            frames = list(bench.change(change, concept, **how))
    chosen = None if concept == EVERY else [concept]
    found = session.generator.edit(bench.first, change, chosen, schedule=brief, **how)
    torch.testing.assert_close(bench.latents.z, found.latents.z, rtol=0, atol=0)
    assert change == "amplify" or not torch.equal(
        found.latents.z, bench.first.z
    )  # 6 steps come no nearer there
    assert (bench.distance, bench.asked) == (float(found.distance), pytest.approx(float(found.asked)))
    n_tries = editing.START_STEPS.get(change, 0)
    assert [frame.number for frame in frames] == list(range(brief.n_steps + n_tries + 1))
    assert frames[-1].step == frames[-1].of


def test_a_search_that_somebody_watches_leaves_a_core_to_the_browser(session):
    bench, before, seen = bench_of(session), torch.get_num_threads(), []
    bench.begin(session.generator.model.sample(1, seed=3))

    def begins(*_):
        seen.append(torch.get_num_threads())
        torch.set_num_threads(1)  # of a network this small, threads wait for each other longer than they work

    module = session.generator.model.module
    runs = module.register_forward_pre_hook(begins)
    ends = module.register_forward_hook(lambda *_: torch.set_num_threads(seen[-1]))
    torch.set_num_threads(3)
    try:
        frames = bench.follow(Goal(bench.latents, EVERY, right=0.1))
        next(frames)
        assert torch.get_num_threads() == 3
        next(frames)
        next(bench.change("amplify", EVERY, 1.6))
        session.generator.edit(bench.first, "amplify", schedule=replace(LIVE, n_steps=1), factor=1.6)
        assert set(seen) == {2}
        assert torch.get_num_threads() == 3
    finally:
        runs.remove()
        ends.remove()
        torch.set_num_threads(before)


def test_a_goal_that_moves_is_followed_to_where_it_rests(session):
    bench = bench_of(session)
    bench.random("car")
    truth = session.generator.model.true_scenes
    start, before = bench.latents, truth(bench.latents).centre[0, 0, 0]
    way = 1 if before < 0.5 else -1
    asked = [0]

    def goal():
        asked[0] += 1
        return Goal(start, EVERY, right=0.15 * way * min(1, asked[0] / 8))

    frames = list(bench.follow(goal))
    assert [frame.step for frame in frames[-3:]] == [LIVE.n_steps - 2, LIVE.n_steps - 1, LIVE.n_steps]
    assert len(frames) == LIVE.n_steps + 8  # it moved 7 times, and was not begun anew
    assert (truth(bench.latents).centre[0, 0, 0] - before) * way > 0.04
    assert bench.distance < 0.6 * bench.asked


def test_an_edit_is_judged_by_the_true_scene_by_the_locator_and_by_the_maps(session):
    bench, generator = bench_of(session), session.generator.model
    drawn = generator.sample(30, seed=4)
    truth = generator.true_scenes(drawn)
    plain = int(((truth.opacity[:, 0] > 0.95) & (truth.opacity[:, 1] < 0.05)).nonzero()[0][0])
    bench.begin(drawn[plain])
    assert bench.verdict() is None
    goal = Goal(bench.latents, EVERY, right=0.2)
    with brief_searches.few_steps(1):
        list(bench.follow(goal))
    verdict = bench.verdict()
    assert (verdict.by, verdict.done) == ("true scene", False)
    assert "the object is not where it was requested" in verdict.wrong
    with brief_searches.few_steps(1):
        list(bench.follow(goal._replace(concept=0)))
    assert bench.verdict().by == "maps"
    session.generator.model = Faulty(generator, "no truth")
    bench._edit, bench.latents = workbench.Asked("zoom", drawn[plain], EVERY, 0.2), drawn[plain]
    assert (bench.verdict().by, bench.verdict().done) == ("locator", False)
    session.generator.model = generator


def test_nothing_here_is_an_answer(session):
    """By the true scene, and by the locator where that is not known; the model would name some class."""
    bench, generator = bench_of(session), session.generator.model
    drawn = generator.sample(1, seed=9)
    factors = drawn.z @ rotation().float().T
    factors[:, 3] = -3.5  # how many there are
    empty = drawn.moved(factors @ rotation().float())
    for source in (generator, Faulty(generator, "no truth")):
        session.generator.model = source
        bench.begin(empty)
        said = {one.question: one for one in bench.now()}
        assert said["kind"] == workbench.Said("kind", "nothing here", None)
        assert said["colour"].answer == "–"
        assert said["background"].probability > 0
        bench.begin(drawn[0])
        assert all(one.probability for one in bench.now())
    session.generator.model = generator
    bench.begin(empty)
    assert bench.scene()["kind"] == "nothing"


def test_a_workbench_asks_the_model_and_shares_its_picture(session):
    bench = session.generator.workbench
    assert session.generator.workbench is bench
    bench.random("castle")
    said = {one.question: one for one in bench.said(bench.picture())}
    assert said["kind"].answer in session.generator.model.classes
    assert {"kind", "colour", "background"} <= set(said)
    assert all(0 < one.probability <= 1 for one in said.values())
    assert bench.maps().shape[0] == len(session.generator.concepts())
    n_images = len(session.images)
    assert bench.add_to_session() == n_images
    assert session.images.names[n_images] == "generated castle"
    again = bench.latents
    bench.random()
    bench.from_image(n_images)  # what was painted here need not be searched
    assert bench.latents is again
    assert bench.now() == bench.before()
