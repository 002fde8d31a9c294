"""Cues of a class pair: words by hand from the codes, fair choices for every method, attempts with any writer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

import clipviz
from clipviz.analysis.cues import attacks, pairs, words
from clipviz.lens import cues
from clipviz.lens.sparse import prepare_dictionary, sparse_code
from clipviz.models.bundle import Studio
from clipviz.values import SparseCode

TEXTS = ["a panda", "a zebra", "in the sea", "two zebras", "a letter", "in the forest", "a car", "striped"]
PAIR = ("horse", "zebra")


@pytest.fixture(scope="module")
def session(model):
    images = clipviz.demo.images().subset(range(20))
    session = clipviz.Session(model, images, texts=TEXTS, background=False)
    yield session
    session.close()


@pytest.fixture(scope="module")
def found(session):
    return session.cues.source(3)


class Toy:
    """A model whose texts are given vectors."""

    bundle = None

    def __init__(self, vectors):
        self.vectors = vectors

    def encode_texts(self, texts):
        return torch.stack([self.vectors[text] for text in texts])


def test_scores_and_the_neurons_behind_them_by_hand():
    # v = zebra - horse = (-1, 1); neurons along it: 1, -1; text 0 carries 2 x 1 and 3 x -1, text 1 carries 0.5 x 1
    axis = torch.eye(2)
    model = Toy({"a horse": axis[0], "a zebra": axis[1]})
    codes = SparseCode(torch.tensor([[0, 1], [0, -1]]), torch.tensor([[2.0, 0.5], [-3.0, 7.0]]))
    encoded = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    source = words.Source(
        ["sea", "car", "a zebra"], encoded, codes, torch.tensor([[0.0, 1.0], [1.0, 0.0]]), ((4, 1), (6, 1))
    )
    answers = words.cues(model, source, *PAIR)
    assert [(cue.text, cue.score) for cue in answers] == [("sea", 5.0), ("car", 0.5)]
    assert answers[0].neurons == (words.Behind(6, 0, -3.0, -1.0, 3.0), words.Behind(4, 0, 2.0, 1.0, 2.0))
    assert answers[1].neurons == (words.Behind(4, 0, 0.5, 1.0, 0.5),)


def test_chance_is_the_most_that_rotated_neurons_reach(model, found):
    encoded, target = pairs.target_direction(model, *PAIR)
    banned = words.banned_words(found, *PAIR, encoded[1])
    dictionary, m = prepare_dictionary(found.encoded), found.codes.atoms.shape[1]
    turned = cues.rotated_scores(found.directions, dictionary, target, words.N_NEURONS, m, words.N_ROTATIONS)
    tops = turned[:, ~banned].clamp_min(0).sort(dim=1, descending=True).values
    answers = words.cues(model, found, *PAIR)
    for rank, cue in enumerate(answers):
        assert cue.null == pytest.approx(float(tops[:, rank].max()), rel=1e-4)
        assert cue.differs == (cue.score > cue.null)


def test_few_words_of_neurons_that_have_nothing_to_do_with_the_texts_are_beyond_chance():
    """Directions of no meaning in six embeddings of 24: all alike, or along three lines, as an untrained network's."""
    shares = []
    for seed in range(12):
        draw = torch.Generator().manual_seed(seed)
        pool = normalize(torch.randn(80, 24, generator=draw), dim=1)
        lines = torch.randn(3 if seed % 2 else 24, 24, generator=draw)
        directions = normalize(torch.randn(150, len(lines), generator=draw) @ lines, dim=1)
        codes = sparse_code(directions, prepare_dictionary(pool), 6)
        model = Toy({"a horse": pool[0], "a zebra": pool[1]})
        source = words.Source([f"word {i}" for i in range(80)], pool, codes, directions, ((0, 150),))
        answers = words.cues(model, source, *PAIR, n_words=10, n_neurons=30)
        shares.append(np.mean([cue.differs for cue in answers]))
    assert np.mean(shares) <= 0.05


def test_parts_sum_to_the_score(model, found):
    for cue in words.cues(model, found, *PAIR, n_behind=1000):
        positive = sum(one.part for one in cue.neurons)
        assert positive >= cue.score - 1e-4
        assert all(one.part == pytest.approx(one.weight * one.along, rel=1e-4) for one in cue.neurons)


def test_coding_in_steps_is_coding_at_once(session, found):
    known = session.neurons.layer(3)
    expected = sparse_code(known.line.directions, known.dictionary, found.codes.atoms.shape[1])
    assert torch.equal(found.codes.atoms, expected.atoms)
    assert torch.allclose(found.codes.weights, expected.weights, atol=1e-5)
    steps = list(words.coding([known], session.texts.pool()))
    assert len(steps) == known.n_neurons // words.CODED + 1
    assert steps[:-1] == [None] * (len(steps) - 1)
    assert session.cues.source(3) is found


def test_the_other_class_is_no_cue_of_itself(model, found):
    encoded, _ = pairs.target_direction(model, *PAIR)
    banned = words.banned_words(found, *PAIR, encoded[1])
    assert banned[TEXTS.index("a zebra")]
    assert banned[TEXTS.index("two zebras")]
    assert not banned[TEXTS.index("in the sea")]
    for chosen in words.method_words(model, found, PAIR, 0).values():
        assert not {"a zebra", "two zebras"} & set(chosen)


def test_every_method_chooses_by_its_own_rule(model, found):
    encoded, target = pairs.target_direction(model, *PAIR)
    banned = words.banned_words(found, *PAIR, encoded[1])
    source = words.Source(
        found.pool, found.encoded, found.codes, found.directions, found.layers, found.codes, found.directions
    )
    chosen = words.choose_words(source, target, banned, torch.Generator().manual_seed(0), 20, 3)
    assert list(chosen) == ["random neurons", "indirect effect", "similar words", "second order"]
    assert torch.equal(chosen["indirect effect"], chosen["second order"])
    similar = (found.encoded @ target).masked_fill(banned, -torch.inf).argsort(descending=True)
    assert chosen["similar words"].tolist() == similar[: len(chosen["similar words"])].tolist()
    ours = words.cues(model, found, *PAIR, n_words=3, n_neurons=20)
    assert [found.pool[i] for i in chosen["second order"].tolist()] == [cue.text for cue in ours]


def test_attempts_draw_the_class_and_measure_the_margin(model, found):
    steps = list(attacks.attempts(model, found, PAIR, seed=1, n_sentences=2, n_images=2))
    assert [name for name, _, _ in steps] == list(attacks.SHOWN)
    alone = steps[0][2]
    assert set(alone.sentences) == {"a horse"}
    assert len(alone.margins) == 4
    for _, _, attack in steps:
        unit = normalize(model.encode_images(list(attack.images)), dim=1)
        texts = model.encode_texts(["a horse", "a zebra"])
        assert list(attack.margins) == pytest.approx((unit @ (texts[1] - texts[0])).tolist(), abs=1e-5)
    again = list(attacks.attempts(model, found, PAIR, seed=1, n_sentences=2, n_images=2))
    assert [a.margins for *_, a in again] == [a.margins for *_, a in steps]


def test_the_experiment_has_every_method(model, found):
    """Table 3.3: each method's words literally, from the codes one by one in float64, and what is drawn of them."""
    one = attacks.attack_pair(model, found, PAIR, 0, n_sentences=1, n_images=2, n_neurons=9)
    assert list(one) == ["no words", "random neurons", "similar words", "second order"]
    texts = model.encode_texts(["a horse", "a zebra"]).double()
    target = texts[1] - texts[0]
    allowed = [i for i, text in enumerate(TEXTS) if "zebra" not in text]
    along = [float(row.double() @ target) for row in found.directions]
    chosen = {
        "random neurons": torch.randperm(len(along), generator=torch.Generator().manual_seed(0))[:9].tolist(),
        "second order": sorted(range(len(along)), key=lambda n: -abs(along[n]))[:9],
    }
    scores = {"similar words": {i: float(found.encoded[i].double() @ target) for i in allowed}}
    for method, neurons in chosen.items():
        scores[method] = dict.fromkeys(allowed, 0.0)
        for n in neurons:
            for text, weight in zip(
                found.codes.atoms[n].tolist(), found.codes.weights[n].tolist(), strict=True
            ):
                if text in scores[method]:
                    scores[method][text] += weight * along[n]
    expected = {"no words": []}
    for method, of in scores.items():
        expected[method] = [TEXTS[i] for i in sorted(of, key=lambda i: -of[i]) if of[i] > 0]
    assert {method: words for method, (words, _) in one.items()} == expected
    assert len({tuple(words) for words in expected.values()}) == 4
    for method, (chosen_words, attack) in one.items():
        assert len(attack.images) == len(attack.margins) == 2
        assert all("horse" in sentence and "zebra" not in sentence for sentence in attack.sentences)
        assert attack.n_fooled == sum(margin > 0 for margin in attack.margins)
        assert chosen_words or set(attack.sentences) == {"a horse"}, method


def test_two_callables_make_a_studio():
    made = Studio.of(
        lambda words, name, avoid: [f"{name} {words[0]} not {avoid}"],
        lambda sentence, seed: (sentence, seed),
        ("cat", "dog"),
    )
    assert made.writer("dog", None, False)(["fog"], "cat") == ["cat fog not dog"]
    draw = made.drawer(3000)
    assert [draw("x"), draw("x")] == [("x", 3000), ("x", 3001)]
    assert made.draws("anything")
    assert made.can_draw("fog", {"cat"})
    assert (made.prompt("owl"), made.pair) == ("an owl", ("cat", "dog"))
    with pytest.raises(ValueError, match="expected callables for describe and draw, got str"):
        Studio.of("llama", print)


def test_anyone_can_write_and_draw(model, session, found):
    seeds, asked = [], []

    def draw(sentence, seed):
        seeds.append(seed)
        return Image.fromarray(np.full((96, 96, 3), len(sentence), np.uint8))

    def describe(words, name, avoid):
        asked.append((list(words), name, avoid))
        return [f"a {name} in {words[0]}", f"a zebra and a {name}"]

    attack = attacks.attempt(
        model,
        ["fog"],
        "unicorn",
        "zebra",
        n_sentences=2,
        n_images=1,
        studio=Studio.of(describe, draw),
    )
    assert attack.sentences == ("a unicorn in fog",)
    every = session.cues.attack(("unicorn", "zebra"), 2, 3, 2, 2, describe=describe, draw=draw)
    assert list(every) == ["no words", "random neurons", "similar words", "second order"]
    assert every["no words"][1].sentences == ("a unicorn",) * 4  # the class alone, in as many pictures
    words, ours = every["second order"]
    assert set(ours.sentences) == {f"a unicorn in {words[0]}"}
    assert (words, "unicorn", "zebra") in asked
    assert seeds[-2:] == [302_000, 302_001]
    with pytest.raises(ValueError, match="describe and draw together"):
        session.cues.attack(("unicorn", "zebra"), draw=draw)
    missed = "expected sentences that name 'unicorn' and not 'zebra', got .*; give describe.. more words"
    with pytest.raises(ValueError, match=missed):
        session.cues.attack(("unicorn", "zebra"), 2, 3, 2, 2, describe=lambda *_: ["a zebra"], draw=draw)
    with pytest.raises(ValueError, match="pass your own describe and draw"):
        attacks.attempt(model, ["fog"], "unicorn", "zebra")


def test_maps_of_the_pair_are_the_token_effects_on_the_difference(model):
    picture = clipviz.demo.images()[3]
    texts = model.encode_texts(["a horse", "a zebra"])
    expected = model.trace([picture]).heatmap((texts[1] - texts[0])[None])[0, 0]
    assert np.allclose(attacks.pair_map(model, picture, PAIR), expected.numpy(), atol=1e-6)


def test_what_the_world_can_draw(model):
    assert pairs.drawable(
        model.bundle.studio, ["a panda", "a zebra", "in the sea", "something red", "fog"], PAIR
    ) == [
        True,
        False,
        True,
        False,
        False,
    ]


def test_two_class_names_are_wanted(model):
    with pytest.raises(ValueError, match="expected two class names"):
        pairs.target_direction(model, "horse", " ")
    with pytest.raises(ValueError, match="expected two different classes"):
        pairs.check_pair("horse", "Horse ")
