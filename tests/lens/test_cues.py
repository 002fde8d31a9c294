"""Contribution scores, words, concepts, the adversarial loop and neuron maps: by hand and against plain loops."""

from __future__ import annotations

import pytest
import torch

from clipviz.lens import cues
from clipviz.lens.rotations import random_rotations
from clipviz.lens.sparse import sparse_code
from clipviz.values import SparseCode
from lens.test_neurons import example

CODES = SparseCode(
    torch.tensor([[0, 2], [1, -1], [2, 0]]), torch.tensor([[0.5, -1.0], [2.0, 9.0], [1.0, 1.0]])
)
DIRECTIONS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, -0.8]])


def test_contribution_scores_by_hand():
    # v = (1, 0): <v, r> = 1, 0, 0.6; neuron 1 carries nothing, the padding weight 9 counts nowhere
    scores = cues.contribution_scores(CODES, DIRECTIONS, torch.tensor([1.0, 0.0]), torch.tensor([0, 1, 2]), 4)
    assert torch.allclose(scores, torch.tensor([0.5 + 0.6, 0.0, -1.0 + 0.6, 0.0]))
    # v = (0, -1): <v, r> = 0, -1, 0.8; what a neuron writes away from v counts against its texts
    scores = cues.contribution_scores(
        CODES, DIRECTIONS, torch.tensor([0.0, -1.0]), torch.tensor([1, 2, 0]), 4
    )
    assert torch.allclose(scores, torch.tensor([0.8, -2.0, 0.8, 0.0]))
    alone = cues.contribution_scores(CODES, DIRECTIONS, torch.tensor([1.0, 0.0]), torch.tensor([2]), 4)
    assert torch.allclose(alone, torch.tensor([0.6, 0.0, 0.6, 0.0]))


def test_class_neurons_are_taken_by_size_or_by_sign():
    target = torch.tensor([0.0, 1.0])
    assert cues.class_neurons(DIRECTIONS, target, 2).tolist() == [1, 2]
    assert cues.class_neurons(DIRECTIONS, target, 2, signed=True).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"expected a target \[d_embed=2\], got \[3\]"):
        cues.class_neurons(DIRECTIONS, torch.zeros(3), 2)


def test_words_leave_out_synonyms_and_negative_scores():
    scores = torch.tensor([0.9, 0.8, -0.5, 0.3])
    pool = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    banned = cues.synonyms(pool, torch.tensor([2.0, 0.0]), 0.9)
    assert banned.tolist() == [True, False, False, False]
    assert cues.top_words(scores, banned, 4).tolist() == [1, 3]
    assert cues.similar_words(pool, torch.tensor([0.0, 1.0]), banned, 2).tolist() == [1, 2]


def test_rotated_scores_are_those_of_neurons_that_are_turned_and_coded_anew():
    """Slowly, one rotation, neuron and text after the other, in float64."""
    draw = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(30, 6, generator=draw), dim=1)
    dictionary = torch.nn.functional.normalize(torch.randn(12, 6, generator=draw), dim=1)
    target, done = torch.randn(6, generator=draw), []
    found = cues.rotated_scores(directions, dictionary, target, 7, 2, 5, seed=4, progress=done.append)
    rotations, again = [], torch.Generator().manual_seed(4)
    for _ in range(5):
        rotations.append(random_rotations(1, 6, again)[0].double())
    for scores, rotation in zip(found, rotations, strict=True):
        expected = torch.zeros(12, dtype=torch.float64)
        turned = directions.double() @ rotation
        for n in sorted(range(30), key=lambda n: -abs(float(turned[n] @ target.double())))[:7]:
            code = sparse_code(turned[n : n + 1], dictionary.double(), 2)
            for text, weight in zip(code.atoms[0].tolist(), code.weights[0].tolist(), strict=True):
                expected[text] += weight * (turned[n] @ target.double())
        torch.testing.assert_close(scores.double(), expected, atol=1e-5, rtol=1e-5)
    assert done == [0, 1, 2, 3, 4]


def test_random_neurons_are_distinct_and_reproducible():
    first, second = (cues.random_neurons(50, 20, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert len(set(first.tolist())) == 20


def test_concepts_come_from_activated_neurons_only():
    norms = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0]])
    scores = cues.image_contribution_scores(CODES, norms, torch.tensor([2.0, 2.0, 2.0]), 3)
    assert torch.allclose(scores, torch.tensor([[0.0, 6.0, 0.0], [2.5, 0.0, -5.0]]))
    many = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    assert ((many > cues.activation_thresholds(many)).sum(0) == 4).all()
    with pytest.raises(ValueError, match="the thesis uses 98"):
        cues.activation_thresholds(many, 100.0)


def describe(words, class_name):
    return [f"a {class_name} and a {word}" for word in words] + ["a tree", f"a {class_name} with two cats"]


def run(**changes):
    drawn = []

    def draw(sentence):
        drawn.append(sentence)
        return sentence

    arguments = {
        "words": ["moon", "ball", "cat"],
        "class_name": "dog",
        "describe": describe,
        "draw": draw,
        "margin": lambda images: torch.tensor([0.1 if "moon" in image else -0.1 for image in images]),
        "generator": torch.Generator().manual_seed(0),
        "forbidden": ["cat"],
        "n_images": 3,
    }
    return cues.attack(**{**arguments, **changes}), drawn


def test_the_loop_draws_fair_sentences_and_counts_the_fooled():
    attack, drawn = run()
    assert sorted(set(drawn)) == ["a dog and a ball", "a dog and a moon"]
    assert len(drawn) == len(attack.images) == 6
    assert attack.n_fooled == 3
    assert attack.success == pytest.approx(0.5)
    assert len(run(n_sentences=1)[1]) == 3


def test_the_loop_says_what_is_missing():
    with pytest.raises(ValueError, match=r"name 'cow' and not 'cat'.*give describe\(\) more words"):
        run(describe=lambda words, class_name: ["a tree"], class_name="cow")


def test_fair_sentences_name_whole_words():
    assert cues.is_fair("A dog, on the water.", "dog", ["cat"])
    assert not cues.is_fair("a hotdog", "dog", [])
    assert cues.is_fair("a dog and a caterpillar", "dog", ["cat"])
    assert not cues.is_fair("a dog near ponies", "dog", ["pony"])


@pytest.mark.parametrize("signed", [False, True])
def test_a_texts_map_is_that_of_the_neurons_most_along_it(signed):
    """Table 3.4, literally: the five of largest |<r, t>| of all layers, their maps averaged, from 0 to 1."""
    assert (cues.N_SEGMENT_NEURONS, cues.SEGMENT_THRESHOLD) == (200, 0.5)  # the thesis's
    seconds = [example(0), example(1)]
    draw = torch.Generator().manual_seed(7)
    directions, target = torch.randn(14, 5, generator=draw).double(), torch.randn(5, generator=draw).double()
    along = [sum(float(a * b) for a, b in zip(row, target, strict=True)) for row in directions]
    best = sorted(range(14), key=lambda n: -along[n] if signed else -abs(along[n]))[:5]
    assert {n // 7 for n in best} == {0, 1}
    found = cues.map_towards(seconds, directions, target, 5, signed)
    for image in range(12):
        maps = [seconds[n // 7].activations[image, 1:, n % 7].reshape(2, 3) for n in best]
        mean = sum(maps) / 5
        low, high = min(mean.flatten().tolist()), max(mean.flatten().tolist())
        assert torch.allclose(found[image], (mean - low) / (high - low))


def test_neuron_maps_run_through_layers_and_heatmaps_are_stretched():
    seconds = [example(0), example(1)]
    maps = cues.neuron_maps(seconds, torch.tensor([9, 3]))
    assert torch.equal(maps[:, 0], seconds[1].activation_maps([2])[:, 0])
    assert torch.equal(maps[:, 1], seconds[0].activation_maps([3])[:, 0])
    heatmap = cues.neuron_heatmap(maps)
    assert heatmap.amin((1, 2)).tolist() == [0.0] * 12
    assert torch.allclose(heatmap.amax((1, 2)), torch.ones(12, dtype=torch.float64))
    weighted = cues.neuron_heatmap(maps, torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert torch.allclose(weighted, heatmap)
    with pytest.raises(ValueError, match="expected neurons below 14 for 2 layers, got 14"):
        cues.neuron_maps(seconds, torch.tensor([14]))
