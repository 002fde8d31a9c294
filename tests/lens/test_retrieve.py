"""Retrieval, projection on texts, roles, shortcuts and joint maps against the plain arithmetic on effects."""

import pytest
import torch

from clipviz.lens import ablate, headset, joint, projection, retrieve, roles, spurious
from clipviz.lens.textspan import describe_heads, textspan
from clipviz.values import Ablation, TextBasis

HEADS = [(4, 1), (5, 0), (5, 7)]


@pytest.fixture(scope="module")
def trace(model):
    """Pictures with colours and edges of their own, so that heads have something to differ on."""
    generator = torch.Generator().manual_seed(11)
    coarse = torch.randn(40, 3, 6, 6, generator=generator)
    return model.trace(torch.nn.functional.interpolate(coarse, model.image_size, mode="nearest"))


@pytest.fixture(scope="module")
def codes(trace):
    return trace.to_codes([4, 5])


@pytest.fixture(scope="module")
def basis(model):
    return model.head_basis([4, 5])


@pytest.fixture(scope="module")
def effects(trace):
    return trace.head_effects([4, 5])


@pytest.fixture(scope="module")
def texts(model):
    names = [
        "red",
        "green",
        "blue",
        "dog",
        "forest",
        "sea",
        "circle",
        "square",
        "two",
        "letter a",
        "dark",
        "city",
    ]
    return model.encode_texts([f"something {name}" for name in names])


# -- retrieval ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize(
    "heads", [HEADS[:1], HEADS, [(layer, head) for layer in (4, 5) for head in range(8)]]
)
def test_similarity_equals_inner_products_of_effects(codes, basis, effects, centre, cosine, heads):
    summed = sum(effects[:, layer - 4, head] for layer, head in heads)
    summed = summed - summed.mean(0) if centre else summed
    summed = torch.nn.functional.normalize(summed, dim=-1) if cosine else summed
    found = retrieve.similarity(codes, basis, [3, 0], heads, centre, cosine)
    torch.testing.assert_close(found, summed[[3, 0]] @ summed.T, atol=1e-4, rtol=1e-3)


def test_similarity_through_everything_is_the_embeddings(model, trace):
    """All heads plus the MLPs make the embedding, so the heads' part is the embedding less the MLPs'."""
    codes, basis = trace.to_codes(), model.head_basis()
    rest = trace.embedding - trace.mlp_effects().sum(1)
    found = retrieve.similarity(codes, basis, [0], headset.all_heads(codes))
    torch.testing.assert_close(found[0], rest @ rest[0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("centre", [False, True])
def test_nearest_leaves_out_the_query_and_ranks(codes, basis, effects, centre, cosine):
    found = retrieve.nearest(codes, basis, [5, 6], HEADS[:1], k=3, centre=centre, cosine=cosine)
    own = effects[:, 0, 1].double()
    own = own - own.mean(0) if centre else own
    own = own / own.norm(dim=1, keepdim=True) if cosine else own
    for query, images, scores in zip((5, 6), found.images.tolist(), found.scores.tolist(), strict=True):
        alike = {image: float(own[query] @ own[image]) for image in range(40) if image != query}
        assert images == sorted(alike, key=lambda image: -alike[image])[:3]
        assert scores == pytest.approx([alike[image] for image in images], rel=1e-3, abs=1e-4)
    whole = retrieve.whole_similarity(codes, [5])
    assert whole[0].argmax() == 5
    assert float(whole[0, 5]) == pytest.approx(1, abs=1e-5)


def test_direction_scores_and_top_images(codes, basis, effects, texts):
    expected = (effects[:, 0, 1] @ texts.T).T
    found = retrieve.direction_scores(codes, basis, texts, [(4, 1)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    top = retrieve.top_images(codes, basis, texts[:1], [(4, 1)], k=2)
    assert top.images[0].tolist() == expected[0].argsort(descending=True)[:2].tolist()
    variance = retrieve.text_variance(codes, basis, texts[:2])
    torch.testing.assert_close(variance[:, 0, 1], expected[:2].var(1, unbiased=False), atol=1e-6, rtol=1e-3)
    assert variance.shape == (2, 2, 8)


def test_retrieval_errors(codes, basis, texts):
    with pytest.raises(ValueError, match=r"image indices within 0..39, got \[99\]"):
        retrieve.similarity(codes, basis, [99], HEADS)
    with pytest.raises(ValueError, match="d_embed=128"):
        retrieve.direction_scores(codes, basis, texts[:, :5], HEADS)
    with pytest.raises(ValueError, match=r"got \(0, 0\)"):
        retrieve.similarity(codes, basis, [0], [(0, 0)])
    with pytest.raises(ValueError, match="at least one"):
        retrieve.similarity(codes, basis, [0], [])


# -- projection on texts ----------------------------------------------------------------------------------------


def test_description_from_codes_equals_textspan_on_effects(codes, basis, effects, texts):
    found = describe_heads(codes, basis, texts, 4)
    for i, (layer, head) in enumerate([(4, 0), (4, 1)]):
        reference = textspan(effects[:, layer - 4, head], texts, 4)
        assert found.order[i].tolist() == reference.order.tolist()
        torch.testing.assert_close(found.explained[i], reference.explained, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("centred", [True, False])
def test_projection_equals_the_plain_sum(codes, basis, effects, texts, trace, centred):
    described = describe_heads(codes, basis, texts, 4)
    found = projection.project_heads(codes, basis, described, [0, 2, 4], centred)
    flat, mean = effects.flatten(1, 2), effects.flatten(1, 2).mean(0)
    for size, embedding in found.items():
        onto = torch.einsum("hmd,hme->hde", described.directions[:, :size], described.directions[:, :size])
        if centred:
            parts = torch.einsum("ihd,hde->ie", flat - mean, onto)
        else:
            parts = torch.einsum("ihd,hde->ie", flat, onto) - mean.sum(0)
        torch.testing.assert_close(embedding, trace.embedding.mean(0) + parts, atol=1e-4, rtol=1e-3)


def test_projection_on_the_whole_span_ablates_everything_else(codes, basis, trace):
    """With the identity as the texts nothing of a head is lost: all else is mean-ablated, exactly."""
    identity = torch.eye(128).expand(16, -1, -1)
    whole = TextBasis(
        order=torch.zeros(16, 128),
        explained=torch.zeros(16, 128),
        directions=identity,
        n_used_up=torch.zeros(16),
    )
    found = projection.project_heads(codes, basis, whole, [128])[128]
    terms = ablate.terms_of(trace)
    rest = Ablation(layers=range(4), mlps=range(7))
    torch.testing.assert_close(found, ablate.embedding_after(terms, rest), atol=1e-3, rtol=1e-3)


def test_projection_errors(codes, basis, texts):
    described = describe_heads(codes, basis, texts, 3)
    with pytest.raises(ValueError, match=r"sizes within 0..3 .*got \[9\]"):
        projection.project_heads(codes, basis, described, [1, 9])
    one = TextBasis(
        described.order[:1], described.explained[:1], described.directions[:1], described.n_used_up[:1]
    )
    with pytest.raises(ValueError, match="texts of 16 heads, got 1"):
        projection.project_heads(codes, basis, one, [1])


# -- roles ------------------------------------------------------------------------------------------------------


FAMILIES = ["colour", "colour", "colour", "place", "place", None]


def chosen(*texts, gains=(5.0, 4.0, 3.0, 2.0, 1.0)):
    return roles.Chosen(texts, gains)


def test_roles_by_hand():
    """Three texts about colour explain 12 of 15; of the draws 1 has as many of a family, which explain 6 of 15."""
    null = [chosen(3, 5, 0, 5, 4)] * 39 + [chosen(3, 5, 0, 1, 2)]
    first = roles.role_of(chosen(0, 1, 2, 3, 5), null, FAMILIES)
    assert (first.family, first.n_texts, first.n_as_many, first.clear) == ("colour", 3, 1, True)
    assert first.label == "colour"
    assert first.p_value == pytest.approx(1 / 41)
    assert first.confidence == pytest.approx(40 / 41)
    assert first.why == (
        "3 of the first 5 texts are about colour; under random rotations of the head's span some family is as frequent "
        "in 1 of 40 draws, and also explains as large a share in 0"
    )
    none = roles.role_of(chosen(5, 5, 5, 5, 5), null, FAMILIES)
    assert (none.family, none.n_texts, none.p_value, none.clear) == (None, 0, 1.0, False)
    assert "does not state its texts' families" in none.why
    assert roles.heads_with({(5, 0): first, (5, 1): none}, {"colour"}) == {(5, 0)}
    with pytest.raises(ValueError, match="a family for each text"):
        roles.role_of(chosen(0, 1, 2, 3, 5), null, FAMILIES[:3])


def test_a_draw_counts_whichever_family_it_is_about():
    """The head's own family is the largest of several by choice, so every draw takes its largest too."""
    families = ["colour"] * 3 + ["place"] * 3 + ["size"] * 3
    own, places = chosen(0, 1, 2, 3, 6), chosen(3, 4, 5, 0, 6)
    found = roles.role_of(own, [places] * 30 + [chosen(0, 3, 6, 1, 4)] * 10, families)
    assert (found.n_as_many, found.label) == (30, "no clear role")
    assert found.p_value == pytest.approx(31 / 41)


def test_texts_that_explain_more_decide_between_equal_counts():
    families = ["colour"] * 3 + ["place"] * 3 + ["size"] * 3
    early, late = chosen(0, 1, 2, 3, 6), chosen(3, 6, 0, 1, 2)
    assert roles.largest(early, families) == ("colour", (3, 12 / 15))
    assert roles.largest(late, families) == ("colour", (3, 6 / 15))
    assert roles.largest(chosen(3, 0, 1, 4, 6), families) == ("place", (2, 7 / 15))
    assert roles.role_of(early, [late] * 40, families).p_value == pytest.approx(1 / 41)
    assert roles.role_of(late, [early] * 40, families).p_value == 1.0
    assert roles.role_of(early, [early] * 40, families).p_value == 1.0  # as much is as good
    assert not roles.role_of(early, [late] * 40, families).clear  # the count alone decides


# -- shortcuts ----------------------------------------------------------------------------------------------


def test_spurious_comparison_evaluates_the_three_cases(trace, texts):
    terms = ablate.terms_of(trace, layers=[4, 5])
    effects, whole = trace.head_effects([4, 5]).double(), trace.embedding.double()
    before = (whole @ texts[:2].double().T).argmax(
        1
    )  # labels that most of these agree with, unlike their neighbours'
    labels = [int(kind) if i % 5 else 1 - int(kind) for i, kind in enumerate(before)]
    groups = ["abc"[(i * i + labels[i]) % 3] for i in range(40)]
    ablation = Ablation(heads={(5, 1), (4, 2)})
    found = spurious.compare(terms, texts[:2], labels, groups, ablation, n_draws=4, seed=1)
    assert len(found.random) == 4
    draws = spurious.random_draws(terms, ablation, 4, 1)
    assert len(spurious.random_draws(terms, ablation)) == 5  # of which the thesis reports the best
    assert all(len(draw.heads) == 2 for draw in draws)
    measured = zip(
        [(), ablation.heads, *(d.heads for d in draws)],
        [found.before, found.after, *found.random],
        strict=True,
    )
    for heads, accuracy in measured:
        after = whole
        for layer, head in heads:
            after = after - effects[:, layer - 4, head] + effects[:, layer - 4, head].mean(0)
        hits = [
            int((row @ texts[:2].double().T).argmax()) == label
            for row, label in zip(after, labels, strict=True)
        ]
        assert accuracy.top1 == pytest.approx(sum(hits) / 40)
        for name in "abc":
            own = [hit for hit, group in zip(hits, groups, strict=True) if group == name]
            assert accuracy.groups[name] == (pytest.approx(sum(own) / len(own)), len(own))
        assert accuracy.worst_accuracy == min(value for value, _ in accuracy.groups.values())
    assert found.gain == pytest.approx(found.after.worst_accuracy - found.before.worst_accuracy)
    draws = spurious.random_draws(
        terms, Ablation(heads={(5, 1)}, mlps={2}, how="zero"), 3, draw_from=[(4, 0)]
    )
    assert draws == [Ablation(heads={(4, 0)}, mlps={2}, how="zero")]
    assert all(draw.heads.isdisjoint({(5, 1), (4, 2)}) for draw in spurious.random_draws(terms, ablation, 9))
    nothing = spurious.compare(terms, texts[:2], labels, groups, Ablation())
    assert nothing.gain == 0
    assert nothing.random == ()


def test_shortcut_heads_are_those_of_most_variance_along_the_shortcut_alone(trace, texts):
    terms = ablate.terms_of(trace, layers=[4, 5])
    effects = trace.head_effects([4, 5]).double().flatten(1, 2)
    shortcut, classes = texts[:2].double(), texts[2:4].double()
    shares = []
    for pair in (shortcut, classes):
        variance = (effects @ (pair[0] - pair[1])).var(0, unbiased=False)
        shares.append(variance / variance.sum())
    order = (shares[0] - shares[1]).argsort(descending=True).tolist()
    heads = [(4 + i // 8, i % 8) for i in order]
    assert spurious.shortcut_heads(terms, texts[:2], texts[2:4], 3) == frozenset(heads[:3])
    last = [head for head in heads if head[0] == 5]
    assert spurious.shortcut_heads(terms, texts[:2], texts[2:4], 2, layers=[5]) == frozenset(last[:2])
    assert spurious.shortcut_heads(terms, texts[:2], texts[2:4], 99, layers=[5]) == frozenset(last)


# -- joint maps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
def test_joint_maps_sum_to_their_coefficients(trace, texts, background):
    found = joint.joint_maps(trace, 2, 5, 3, texts, texts if background else None, k=2)
    used = texts - texts.mean(0) if background else texts
    torch.testing.assert_close(
        found.coefficients, trace.head_effects([5])[2, 0, 3] @ used.T, atol=1e-5, rtol=1e-4
    )
    assert found.positive[0] == found.coefficients.argmax()
    assert found.negative[0] == found.coefficients.argmin()
    class_token = trace.token_scores(used, [5])[:, 2, 0, 3, 0]
    sums = found.positive_maps.sum((1, 2)) + class_token[found.positive]
    torch.testing.assert_close(sums, found.coefficients[found.positive], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"k within 1..12"):
        joint.joint_maps(trace, 0, 5, 3, texts, k=13)
