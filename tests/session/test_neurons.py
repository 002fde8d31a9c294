"""What the Neurons panel asks: readings in steps, searches, codes, honest samples, concept groups."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from few_texts import COMMON
from torch.nn.functional import normalize

import clipviz
from clipviz.analysis.neurons import layer as analysis
from clipviz.lens.cues import image_contribution_scores
from clipviz.lens.sparse import reconstruct, sparse_code
from clipviz.session import Board
from clipviz.session.state import State
from clipviz.session.topics import readings

TEXTS = [*COMMON, "a car", "a blue star"]
LAYER, N_IMAGES = 3, 40


@pytest.fixture(scope="module")
def session(model):
    images = clipviz.demo.images().subset(range(N_IMAGES))
    session = clipviz.Session(model, images, texts=TEXTS, background=False)
    yield session
    session.close()


@pytest.fixture(scope="module")
def known(session):
    return session.neurons.layer(LAYER)


@pytest.fixture(scope="module")
def effects(session, model, known):
    """phi of every image and neuron, in the order of known.ids, [image, neuron, d_embed]."""
    images = [session.images[i] for i in known.ids.tolist()]
    return model.second_order(images, LAYER).effects()


def test_reading_in_steps_is_reading_at_once(session, model, known):
    assert sorted(known.ids.tolist()) == list(range(N_IMAGES))
    second = model.second_order([session.images[i] for i in known.ids.tolist()], LAYER)
    assert known.norms.float().numpy() == pytest.approx(second.norms().numpy(), rel=2e-3, abs=1e-6)
    assert known.stats.mean.numpy() == pytest.approx(second.scaled()[0].mean(0).numpy(), abs=1e-6)


def test_any_beginning_is_spread_over_the_collection(session):
    order = readings.Reading(session._state, LAYER).plan(None)
    assert sorted(order) == list(range(N_IMAGES))
    first = sorted(order[:8])
    assert max(np.diff([-1, *first, N_IMAGES])) <= 10


def test_effect_on_a_text_is_the_rms_of_the_explicit_effects_along_the_direction(session, known, effects):
    direction = session.neurons.direction("a dog")
    found = known.towards(direction, 5)
    assert [f.effect for f in found] == sorted((f.effect for f in found), reverse=True)
    best = found[0]
    top = [known.ids.tolist().index(i) for i in known.top(best.neuron).ids]
    r = known.line.directions[best.neuron]
    along = (effects[top, best.neuron] - effects[:, best.neuron].mean(0)) @ r
    assert best.cosine == pytest.approx(float(r @ normalize(direction, dim=0)), abs=1e-5)
    assert best.effect == pytest.approx(float(along.square().mean().sqrt() * (r @ direction)), rel=1e-3)
    by_cosine = known.towards(direction, 5, by="cosine")
    assert by_cosine[0].cosine == pytest.approx(
        float((known.line.directions @ normalize(direction, dim=0)).max()), abs=1e-5
    )
    with pytest.raises(ValueError, match="'effect' or 'cosine'"):
        known.towards(direction, 5, by="size")


def test_texts_are_compared_without_what_all_texts_share(session):
    pool = session.texts.pool()
    assert torch.allclose(session.neurons.direction("a dog"), pool[1] - pool.mean(0), atol=1e-5)
    difference = session.neurons.direction("a dog", "a car")
    assert torch.allclose(difference, pool[1] - pool[6], atol=1e-5)


def test_codes_are_least_squares_fits_with_signs(session, known, monkeypatch):
    code = known.codes([7], 3)[0]
    assert len(code.words) == 3
    sizes = [abs(word.weight) for word in code.words]
    assert sizes == sorted(sizes, reverse=True)
    rows = known.dictionary[[TEXTS.index(word.text) for word in code.words]]
    fit = torch.linalg.lstsq(rows.T, known.line.directions[7][:, None]).solution[:, 0]
    assert [word.weight for word in code.words] == pytest.approx(fit.tolist(), abs=1e-4)
    rebuilt = fit @ rows
    assert code.share == pytest.approx(float(rebuilt.square().sum()), abs=1e-4)
    monkeypatch.setattr(analysis, "sparse_code", lambda *_: pytest.fail("coded again"))
    assert known.codes([7], 3)[0] == code


def test_top_images_are_those_of_largest_norm_with_their_maps(session, model, known, effects):
    norms = effects.norm(dim=-1)
    top = known.top(11, 6)
    order = norms[:, 11].argsort(descending=True)[:6]
    assert top.ids == known.ids[order].tolist()
    assert top.norms == pytest.approx(norms[order, 11].numpy(), rel=1e-4)
    second = model.second_order([session.images[i] for i in top.ids], LAYER)
    assert top.maps == pytest.approx(second.activation_maps([11])[:, 0].numpy(), abs=5e-3)
    along = (effects[order, 11] - effects[:, 11].mean(0)) @ known.line.directions[11]
    assert top.along == pytest.approx(along.numpy(), abs=1e-6)


def test_quantiles_run_from_the_strongest_to_the_weakest(session, known):
    reading = Board.of(session).neuron_reading(LAYER)
    sample = reading.samples(known, 11, "quantiles", 5)
    order = known.norms[:, 11].float().argsort(descending=True)
    assert sample.ids[0] == known.ids[order[0]]
    assert sample.ids[-1] == known.ids[order[-1]]
    assert list(sample.norms) == sorted(sample.norms, reverse=True)
    random = reading.samples(known, 11, "random", 5)
    assert len(set(random.ids)) == 5
    assert random.ids == reading.samples(known, 11, "random", 5).ids
    with pytest.raises(ValueError, match="top, intervals, quantiles, random"):
        reading.samples(known, 11, "best", 5)


def test_one_image_is_ranked_among_the_images_read(session, known, effects):
    reading = Board.of(session).neuron_reading(LAYER)
    image = int(known.ids[4])
    found = reading.most_active(image, 3)
    expected = effects[4].norm(dim=-1)
    assert [n for n, _ in found] == expected.topk(3).indices.tolist()
    here = reading.on_image(known, image, found[0][0])
    assert float(here.norms[0]) == pytest.approx(found[0][1], abs=1e-6)
    assert 0 <= known.rank(found[0][0], found[0][1]) <= 1


def test_a_histogram_counts_every_image_once_and_shows_images_of_their_interval(session, known):
    found, values = session.neurons.histogram(11, LAYER, 5), known.norms[:, 11].float().numpy()
    assert found.edges[-1] == pytest.approx(values.max(), rel=1e-6)
    assert found.counts.sum() == len(values)
    by_image = dict(zip(known.ids.tolist(), values.tolist(), strict=True))
    for low, high, n, images in zip(
        found.edges[:-1], found.edges[1:], found.counts, found.images, strict=True
    ):
        inside = [v for v in values if low <= v < high or (high == found.edges[-1] and v >= high)]
        shown = [by_image[i] for i in images]
        assert len(inside) == n
        assert len(shown) == min(6, n)
        assert shown == sorted(shown, reverse=True)
        assert not shown or shown[0] == max(inside)
    strips = Board.of(session).neuron_reading(LAYER).samples(known, 11, "intervals", 1)
    assert strips.ids == [i for images in known.histogram(11).images[::-1] for i in images]


def test_neurons_are_found_by_text_by_image_and_by_strength(session, known):
    session.select(image=3, text="a dog", text_b="a car")
    by_text = session.neurons.find("text", LAYER, 4)
    expected = known.towards(session.neurons.direction("a dog", "a car"), 4)
    assert (by_text.neurons, by_text.scores) == (
        [one.neuron for one in expected],
        [one.effect for one in expected],
    )
    session.select(text="", text_b="")
    by_image = session.neurons.find("text", LAYER, 4)
    assert by_image.by == "image"
    active = Board.of(session).neuron_reading(LAYER).most_active(3, 4)
    assert list(zip(by_image.neurons, by_image.scores, strict=True)) == active
    session.select(image=None)
    assert session.neurons.find("image", LAYER, 4).neurons == [n for n, _ in known.strongest(4)]
    with pytest.raises(ValueError, match="text, image, strength"):
        session.neurons.find("luck", LAYER)


def test_unrelated_top_images_part_into_groups():
    generator = np.random.default_rng(0)
    centres = np.eye(12)[:3]
    vectors = np.repeat(centres, [8, 5, 4], 0) + 0.05 * generator.standard_normal((17, 12))
    labels, separation = analysis.cluster(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    assert sorted(np.bincount(labels).tolist()) == [4, 5, 8]
    assert separation > 0.7
    one, nothing = analysis.cluster(np.ones((6, 4)))
    assert one.tolist() == [0] * 6
    assert nothing == 0


def test_groups_hold_every_top_image_once(session, known):
    samples = known.top(11)
    found = known.groups(samples)
    assert sorted(place for group in found.groups for place in group.places) == list(range(len(samples.ids)))
    assert all(set(group.texts) <= set(TEXTS) for group in found.groups)
    assert (found.separation > found.chance) == (len(found.groups) > 1)


def test_images_without_groups_are_not_parted():
    """One cloud, sixteen times, beside the most that draws of its own mean and covariance do."""
    for seed in range(16):
        generator = np.random.default_rng(seed)
        cloud = generator.standard_normal((30, 16)) * np.arange(1, 17) ** -0.5 + np.eye(16)[0]
        unit = cloud / np.linalg.norm(cloud, axis=1, keepdims=True)
        assert analysis.cluster(unit)[1] > 0.1  # divided all the same where it is not asked what chance does
        assert analysis.cluster(unit, above=analysis.one_group(cloud))[1] == 0
    groups = np.repeat(np.eye(12)[:3], [12, 10, 8], 0) + 0.05 * generator.standard_normal((30, 12))
    unit = groups / np.linalg.norm(groups, axis=1, keepdims=True)
    assert analysis.cluster(unit, above=analysis.one_group(groups))[1] > 0.7


def test_words_and_titles_of_random_directions_are_within_chance(known):
    """Other random directions than those that the chance was taken from."""
    directions = normalize(torch.randn(300, known.dictionary.shape[1]), dim=1)
    code = known.codes([11], 3)[0]
    shares = reconstruct(sparse_code(directions, known.dictionary, 3), known.dictionary).square().sum(1)
    assert code.by_chance == pytest.approx(float(shares.mean()), abs=0.02)
    assert float((shares > code.most_by_chance).float().mean()) <= 0.05
    assert code.differs == (code.share > code.most_by_chance)
    named = [known._nearest(direction) for direction in directions]
    assert sum(texts != () for texts in named) <= 0.05 * len(named)
    assert known._nearest(known.dictionary[2])[0] == TEXTS[2]


def test_broken_images_are_left_out(model, tmp_path):
    images = clipviz.demo.images().subset(range(6))
    for i in range(6):
        images[i].save(tmp_path / f"{i}.png")
    opened = clipviz.data.images.open_images(tmp_path)
    (tmp_path / "2.png").write_bytes(b"no image")
    session = clipviz.Session(model, opened, texts=TEXTS, background=False)
    known = session.neurons.layer(LAYER)
    assert sorted(known.ids.tolist()) == [0, 1, 3, 4, 5]
    assert Board.of(session).neuron_reading(LAYER).complete(None)
    session.close()


def test_a_layer_without_later_attention_is_refused(session):
    with pytest.raises(ValueError, match=r"expected a layer within 0\.\.4"):
        Board.of(session).neuron_reading(5)


def test_readings_go_with_their_session(model):
    session = clipviz.Session(model, clipviz.demo.images().subset(range(4)), texts=TEXTS, background=False)
    session.neurons.layer(LAYER)
    reading = weakref.ref(Board.of(session).neuron_reading(LAYER))
    session.close()
    del session
    gc.collect()
    assert reading() is None


@pytest.mark.parametrize("m", [None, 4])
def test_concepts_sum_the_codes_of_all_activated_neurons(session, known, effects, m):
    image = known.ids.tolist()[0]
    norms = effects[0].norm(dim=1)
    thresholds = torch.quantile(known.norms.float(), 0.98, dim=0)
    codes = sparse_code(known.line.directions, known.dictionary, m or len(TEXTS))
    scores = image_contribution_scores(codes, norms[None], thresholds, len(TEXTS))[0]
    found = session.neurons.concepts(image, LAYER, 3, m)
    assert [text for text, _ in found] == [TEXTS[j] for j in scores.topk(3).indices.tolist()]
    assert [score for _, score in found] == pytest.approx(scores.topk(3).values.tolist(), rel=2e-3)


def test_a_finished_reading_is_not_begun_again_after_many_other_answers(session):
    """As a saved page asks them: more than are remembered."""
    known, reading = session.neurons.layer(3), Board.of(session).neuron_reading(3)
    for text in range(30):
        for image in range(10):
            session._state.remember(("an answer", text, image), lambda: 0.0)
    assert Board.of(session).neuron_reading(3) is reading
    assert session.neurons.layer(3) is known


def test_a_line_of_code_summarises_a_layer_once_and_says_how_far_it_is(model, monkeypatch):
    """A desk shows the first images early; who waits for all of them need not pay for a summary on the way."""
    gathered, said = [], []
    gather = readings.Reading._gather
    monkeypatch.setattr(
        readings.Reading, "_gather", lambda self: gathered.append(self.n_read) or gather(self)
    )
    monkeypatch.setattr(readings, "FIRST", 16)
    session = clipviz.Session(
        model, clipviz.demo.images().subset(range(48)), ["a dog", "a red circle", "the sea"], background=False
    )
    monkeypatch.setattr(State, "tell", lambda self, work: said.append(work.line))
    session.neurons.layer(3)
    assert gathered == [48]
    assert any(line.startswith("Reading the neurons of layer 3: 16 of 48") for line in said)
    session.cues.source([3])
    assert any(line.startswith("Coding the neurons in texts: ") for line in said)
    reading = Board.of(session).neuron_reading(2)
    while reading.step(None):
        pass
    assert gathered[1:] == [16, 32, 48]
    session.close()
