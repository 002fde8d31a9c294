"""Second-order effects and their statistics on random towers in float64: explicit forms, identities, by hand."""

from __future__ import annotations

import pytest
import torch

from clipviz.lens.neuron_stats import ablated, first_component, large_norms, neuron_stats, rank_one, rebuilt
from clipviz.lens.neurons import Passage, SecondOrder, neuron_basis, second_order
from clipviz.values import LayerWeights, Readout, TowerWeights

N_LAYERS, N_HEADS, D_HEAD, D_MODEL, D_EMBED, N_NEURONS, GRID = 3, 2, 3, 6, 5, 7, (2, 3)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_weights(seed: int = 0) -> TowerWeights:
    g = generator(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    layers = tuple(
        LayerWeights(
            query=draw(N_HEADS, D_HEAD, D_MODEL),
            query_bias=draw(N_HEADS, D_HEAD),
            key=draw(N_HEADS, D_HEAD, D_MODEL),
            value=draw(N_HEADS, D_HEAD, D_MODEL),
            value_bias=draw(N_HEADS, D_HEAD),
            output=draw(N_HEADS, D_MODEL, D_HEAD),
            output_bias=draw(D_MODEL),
            ln_gamma=draw(D_MODEL),
            ln_beta=draw(D_MODEL),
            ln_eps=1e-5,
            mlp_output=draw(D_MODEL, N_NEURONS),
            mlp_output_bias=draw(D_MODEL),
        )
        for _ in range(N_LAYERS)
    )
    return TowerWeights(
        layers, Readout.after_norm(draw(D_MODEL), draw(D_MODEL), draw(D_MODEL, D_EMBED)), GRID
    )


def random_passage(n_later: int, n_images: int = 12, seed: int = 1) -> Passage:
    g, n_tokens = generator(seed), 1 + GRID[0] * GRID[1]

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    attention = torch.softmax(draw(n_images, n_later, n_tokens), -1)
    return Passage(
        activations=draw(n_images, n_tokens, N_NEURONS).relu() ** 2,
        attention=attention / (0.5 + draw(n_images, 1, n_tokens).abs()),
        shift=draw(n_images, n_later),
        mean=draw(n_images),
        std=1 + draw(n_images).abs(),
        embedding=draw(n_images, D_EMBED),
    )


def example(layer: int = 0, n_images: int = 12, seed: int = 1) -> SecondOrder:
    basis = neuron_basis(random_weights(), layer)
    return second_order(random_passage(len(basis.later), n_images, seed), basis)


def naive(weights: TowerWeights, passage: Passage, layer: int) -> torch.Tensor:
    """Eq. B.5 a later head and a token at a time, without biases: sum_t p_t a_t/sigma_t P A W_VO A' w."""
    effects = torch.zeros(len(passage.mean), N_NEURONS, D_EMBED, dtype=torch.float64)
    for image in range(len(passage.mean)):
        k = 0
        for later in range(layer + 1, N_LAYERS):
            target = weights.layers[later]
            for head in range(N_HEADS):
                w_vo = target.output[head] @ target.value[head]
                for token in range(passage.activations.shape[1]):
                    writes = passage.activations[image, token][:, None] * weights.layers[layer].mlp_output.T
                    inner = passage.attention[image, k, token] * target.ln_gamma * writes
                    effects[image] += (inner @ w_vo.T) / passage.std[image] @ weights.readout.matrices[0]
                k += 1
    return effects


@pytest.mark.parametrize("layer", [0, 1])
def test_effects_equal_the_naive_sum_over_heads_and_tokens(layer):
    weights = random_weights()
    basis = neuron_basis(weights, layer)
    passage = random_passage(len(basis.later))
    effects = second_order(passage, basis).effects(shared=False, normalize=False)
    assert torch.allclose(effects, naive(weights, passage, layer), atol=1e-12)


def test_norms_and_sums_equal_those_of_explicit_effects():
    second = example()
    for shared in (True, False):
        effects = second.effects(shared=shared)
        assert torch.allclose(second.norms(shared), effects.norm(dim=-1))
    weights = torch.rand(12, N_NEURONS, generator=generator(4), dtype=torch.float64)
    expected = torch.einsum("in,ind->id", weights, second.effects(shared=False))
    assert torch.allclose(second.weighted_sum(weights), expected)


@pytest.mark.parametrize("heads", [1, 2, 64])
def test_lengths_in_pieces_equal_those_by_the_kept_gram(monkeypatch, heads):
    expected = example().norms()
    monkeypatch.setattr("clipviz.lens.neurons.KEPT_BYTES", 0)
    monkeypatch.setattr("clipviz.lens.neurons.CACHED_BYTES", 100)
    monkeypatch.setattr("clipviz.lens.neurons.HEADS_AT_ONCE", heads)
    second = example()
    formed = [part.stop - part.start for part in second.basis._parts(heads)]
    assert max(formed) < N_NEURONS
    assert torch.allclose(second.norms(), expected)
    assert torch.allclose(second.norms(), second.effects().norm(dim=-1))


def test_large_gram_matrices_wait_for_a_second_question(monkeypatch):
    small = example()
    small.norms()
    assert "gram" in vars(small.basis)
    monkeypatch.setattr("clipviz.lens.neurons.GRAM_AT_ONCE", 0)
    second = example()
    first = second.norms()
    assert "gram" not in vars(second.basis)
    assert torch.allclose(second.norms(), first)
    assert "gram" in vars(second.basis)


def test_a_single_head_by_hand():
    # one later head, all maps identity: phi = (a_0 p_0 + a_1 p_1) / (sigma_t sigma) * gamma1 * w
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    flat = one[0, 0]
    layer = LayerWeights(
        one, zero, one, one, zero, one, 0 * flat, 2 * flat, 0 * flat, 1e-5, 3 * one[0], 0 * flat
    )
    basis = neuron_basis(TowerWeights((layer, layer), Readout.after_norm(flat, 0 * flat, one[0]), (1, 1)), 0)
    passage = Passage(
        activations=torch.tensor([[[4.0], [1.0]]], dtype=torch.float64),
        attention=torch.tensor([[[0.25 / 0.5, 0.75 / 0.5]]], dtype=torch.float64),
        shift=zero,
        mean=torch.zeros(1, dtype=torch.float64),
        std=2 * flat,
        embedding=10 * one[0],
    )
    second = second_order(passage, basis)
    assert second.effects(normalize=False).item() == pytest.approx((0.25 * 4 + 0.75 * 1) / 0.5 / 2 * 2 * 3)
    assert second.norms().item() == pytest.approx(10.5 / 10)
    assert second.activation_maps().tolist() == [[[[1.0]]]]


def test_scores_as_lengths_are_the_norms_of_projections():
    """The thesis's x: |<phi, r>| with the mean and the shared part in phi, against explicit effects."""
    second = example(n_images=15)
    line = rank_one(neuron_stats(second, range(15), n_top=8), second.basis)
    effects = second.effects()
    expected = torch.einsum("ind,nd->in", effects, line.directions).abs()
    assert torch.allclose(line.coefficients(second, lengths=True), expected)
    signed = torch.einsum("ind,nd->in", effects - effects.mean(0), line.directions)
    common = (second.scaled()[1] - second.scaled()[1].mean(0)) @ line.directions.T
    assert torch.allclose(line.coefficients(second), signed - common)
    whole = second.embedding / second.norm[:, None]
    rest = whole - second.weighted_sum(torch.ones(15, N_NEURONS).double(), line.mean)
    assert torch.allclose(rebuilt(second, line, lengths=True), rest + expected @ line.directions)


def test_merged_statistics_equal_one_batch_in_any_order():
    second = example(n_images=20)
    whole = neuron_stats(second, range(20), n_top=6)
    parts = []
    for part in (slice(0, 4), slice(4, 7), slice(7, 20)):
        passage = random_passage(len(second.basis.later), 20)
        piece = Passage(
            **{
                name: getattr(passage, name)[part]
                for name in vars(passage)
                if getattr(passage, name) is not None
            }
        )
        parts.append(neuron_stats(second_order(piece, second.basis), range(20)[part], n_top=6))
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = parts[order[0]].merge(parts[order[1]]).merge(parts[order[2]])
        assert merged.count == 20
        for name in ("mean", "scatter", "shared_mean", "total", "top_norms", "top_coordinates"):
            assert torch.allclose(getattr(merged, name), getattr(whole, name)), name
        assert torch.equal(merged.top_images, whole.top_images)
        assert torch.equal(merged.top_maps, whole.top_maps)


def test_top_images_are_those_of_the_largest_norms_with_their_maps():
    second = example(n_images=9)
    stats = neuron_stats(second, range(100, 109), n_top=12)
    norms = second.effects().norm(dim=-1)
    best = norms[:, 2].argsort(descending=True)
    assert stats.top_images[2].tolist() == [100 + int(i) for i in best] + [-1] * 3
    assert torch.allclose(stats.top_norms[2, :9], norms[best, 2])
    assert torch.equal(stats.top_maps[2, 0], second.activation_maps([2])[best[0], 0].half())
    assert torch.allclose(stats.top_share(), torch.ones(N_NEURONS, dtype=torch.float64))


@pytest.mark.parametrize("over", ["all", "top"])
@pytest.mark.parametrize("reference", ["mean", "origin"])
def test_rank_one_equals_svd_of_explicit_effects_up_to_sign(over, reference):
    second = example(n_images=30)
    stats = neuron_stats(second, range(30), n_top=10)
    line = rank_one(stats, second.basis, over, reference)
    effects = second.effects(shared=False)
    for neuron in range(N_NEURONS):
        rows = effects[:, neuron] if over == "all" else effects[stats.top_images[neuron], neuron]
        rows = rows - (effects[:, neuron].mean(0) if reference == "mean" else 0)
        _, singular, right = torch.linalg.svd(rows, full_matrices=False)
        assert abs(float(line.directions[neuron] @ right[0])) == pytest.approx(1, abs=1e-5)
        assert float(line.share[neuron]) == pytest.approx(
            float(singular[0] ** 2 / singular.square().sum()), rel=1e-5
        )
        top = effects[stats.top_images[neuron], neuron] - effects[:, neuron].mean(0)
        assert (top @ line.directions[neuron] > 0).sum() >= 5
    assert torch.allclose(line.bias, second.effects().mean(0), atol=1e-6)


def test_coefficients_are_projections_of_centred_effects():
    second = example(n_images=30)
    line = rank_one(neuron_stats(second, range(30)), second.basis)
    effects = second.effects(shared=False)
    expected = torch.einsum("ind,nd->in", effects - effects.mean(0), line.directions)
    assert torch.allclose(line.coefficients(second), expected, atol=1e-9)


def test_ablation_and_reconstruction_equal_the_explicit_replacement():
    second = example(n_images=15)
    stats = neuron_stats(second, range(15))
    effects, unit = second.effects(), second.embedding / second.norm[:, None]
    chosen = large_norms(second.norms(), 4)
    assert chosen.sum(0).tolist() == [4] * N_NEURONS
    gaps = effects - effects.mean(0)
    assert torch.allclose(ablated(second, stats), unit - gaps.sum(1))
    assert torch.allclose(ablated(second, stats, chosen), unit - (chosen[..., None] * gaps).sum(1))
    line = rank_one(stats, second.basis)
    along = torch.einsum(
        "ind,nd->in",
        second.effects(shared=False) - effects.mean(0) + stats.shared_mean,
        line.directions,
    )
    expected = unit - gaps.sum(1) + torch.einsum("in,nd->id", along, line.directions)
    assert torch.allclose(rebuilt(second, line, stats=stats), expected, atol=1e-9)


def test_first_component_of_a_rank_one_set_explains_all():
    line = torch.tensor([[1.0, 2.0, -1.0]])
    wide = first_component((torch.arange(1.0, 3.0)[:, None] * line)[None])
    tall = first_component((torch.arange(1.0, 9.0)[:, None] * line)[None])
    for directions, share, _ in (wide, tall):
        assert share.item() == pytest.approx(1)
        assert abs(float(directions[0] @ line[0])) == pytest.approx(6**0.5, rel=1e-5)


def test_unknown_neurons_layers_and_statistics_are_refused():
    second = example()
    with pytest.raises(ValueError, match=r"expected neurons within 0\.\.6 of layer 0, got \[7\]"):
        second.effects([7])
    with pytest.raises(ValueError, match=r"within 0\.\.1 .* got 2; choose an earlier layer"):
        neuron_basis(random_weights(), 2)
    with pytest.raises(ValueError, match="expected one id for each of 12 images"):
        neuron_stats(second, range(3))
    first, other = neuron_stats(second, range(12)), neuron_stats(example(1), range(12))
    with pytest.raises(ValueError, match="merge statistics of one layer of one model"):
        first.merge(other)
    with pytest.raises(ValueError, match="got 'some' and 'mean'"):
        rank_one(first, second.basis, over="some")


@pytest.mark.parametrize("shared", [True, False])
def test_images_can_be_ranked_by_their_deviation_from_the_mean(shared):
    """The authors' S_n: |phi_n - mean phi_n| over the collection, from a second pass about the first one's means."""
    second = example()
    plain = neuron_stats(second, range(12), 4, shared=shared)
    about = neuron_stats(second, range(12), 4, shared=shared, about=plain)
    effects = second.effects(shared=shared)
    deviations = (effects - effects.mean(0)).norm(dim=-1)
    expected = deviations.topk(4, dim=0)
    torch.testing.assert_close(about.top_norms, expected.values.T)
    assert torch.equal(about.top_images, expected.indices.T)
    torch.testing.assert_close(about.total, deviations.square().sum(0))
    assert torch.equal(plain.top_images, effects.norm(dim=-1).topk(4, dim=0).indices.T)
    assert not torch.equal(plain.top_images, about.top_images)


@pytest.mark.parametrize("size", [1e-6, 1e3])
def test_components_of_effects_do_not_depend_on_their_size(size):
    effects = size * torch.randn(3, 6, 4, generator=generator(2), dtype=torch.float64)
    directions, share, total = first_component(effects)
    for neuron, rows in enumerate(effects):
        _, singular, right = torch.linalg.svd(rows, full_matrices=False)
        assert float(share[neuron]) == pytest.approx(float(singular[0] ** 2 / singular.square().sum()))
        assert float(total[neuron]) == pytest.approx(float(rows.square().sum()))
        assert abs(float(directions[neuron] @ right[0])) == pytest.approx(1)
