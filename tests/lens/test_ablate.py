"""Ablation against the model re-run with those terms replaced, identities, hand-computed cases, errors."""

from collections import Counter

import pytest
import torch

from clipviz.lens import ablate, headset, subsets
from clipviz.lens.trace import Trace
from clipviz.values import Ablation, Codes, HeadBasis

CASES = {
    "heads": Ablation(heads={(0, 1), (5, 3), (5, 0)}),
    "layers": Ablation(layers={0, 4}),
    "mlps and input": Ablation(mlps=range(7)),
    "class token": Ablation(tokens={0}),
    "tokens": Ablation(tokens={0, 3, 40}),
    "everything at once": Ablation(heads={(1, 2), (4, 1)}, layers={4}, mlps={0, 3}, tokens={0}),
}


@pytest.fixture(scope="module")
def pixels(model):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(4, 3, *model.image_size, generator=generator)


@pytest.fixture(scope="module")
def trace(model, pixels):
    return model.trace(pixels)


def naive_class_writes(model, pixels):
    """Everything that writes the class token, literally: per head and token from the full attention matrix.

    Returns heads_tokens [layer, image, head, token, d_model] (biases shared), mlps [term, image, d_model] and
    the class token before the final LayerNorm, float64, from the model's own modules through hooks.
    """
    visual = model.visual
    seen, handles = {"ln": [], "mlp": []}, []
    blocks = visual.transformer.resblocks
    handles.append(blocks[0].register_forward_pre_hook(lambda _m, inputs: seen.update(start=inputs[0][:, 0])))
    handles.append(visual.ln_post.register_forward_pre_hook(lambda _m, inputs: seen.update(last=inputs[0])))
    for block in blocks:
        handles.append(block.ln_1.register_forward_hook(lambda _m, _i, output: seen["ln"].append(output)))
        handles.append(
            block.mlp.register_forward_hook(lambda _m, _i, output: seen["mlp"].append(output[:, 0]))
        )
    with torch.no_grad():
        visual(pixels)
    for handle in handles:
        handle.remove()
    writes = []
    for block, tokens in zip(blocks, seen["ln"], strict=True):
        attention, tokens = block.attn, tokens.double()
        n_heads, d_head = attention.num_heads, tokens.shape[-1] // attention.num_heads
        projected = tokens @ attention.in_proj_weight.double().T + attention.in_proj_bias.double()
        query, key, value = projected.unflatten(-1, (3, n_heads, d_head)).permute(2, 0, 3, 1, 4)
        pattern = torch.softmax(query @ key.transpose(-1, -2) / d_head**0.5, -1)
        per_token = pattern[:, :, 0, :, None] * value
        output = attention.out_proj.weight.double().unflatten(1, (n_heads, d_head))
        bias = attention.out_proj.bias.double() / (n_heads * tokens.shape[1])
        writes.append(torch.einsum("ihte,dhe->ihtd", per_token, output) + bias)
    last = seen["last"][:, 0] if seen["last"].ndim == 3 else seen["last"]
    return torch.stack(writes), torch.stack([seen["start"], *seen["mlp"]]).double(), last.double()


@torch.no_grad()
def naive_after(model, pixels, ablation):
    """The model's output with the terms replaced before ln_post, its LayerNorm statistics frozen (App. A)."""
    heads_tokens, mlps, last = naive_class_writes(model, pixels)
    n_layers, _, n_heads, n_tokens, _ = heads_tokens.shape
    out = torch.zeros(n_layers, n_heads, n_tokens, dtype=torch.float64)
    for layer, head in ablation.heads:
        out[layer, head] = 1
    out[list(ablation.layers)] = 1
    out[:, :, list(ablation.tokens)] = 1
    write = torch.einsum("lihtd,lht->id", heads_tokens, out) + mlps[list(ablation.mlps)].sum(0)
    n_terms = 2 * n_layers + 1
    share = (out.sum() / (n_heads * n_tokens) + len(ablation.mlps)) / n_terms
    visual = model.visual
    gamma, beta = visual.ln_post.weight.double(), visual.ln_post.bias.double()
    mean = last.mean(-1, keepdim=True)
    std = (last.var(-1, unbiased=False, keepdim=True) + visual.ln_post.eps).sqrt()

    def finish(stream, kept):
        return (gamma * (stream - kept * mean) / std + kept * beta) @ visual.proj.double()

    whole, zeroed = finish(last, 1.0), finish(last - write, 1.0 - share)
    return zeroed if ablation.how == "zero" else zeroed + (whole - zeroed).mean(0)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("how", ["mean", "zero"])
def test_ablation_equals_the_model_with_those_terms_replaced(model, pixels, trace, name, how):
    ablation = Ablation.from_dict({**CASES[name].to_dict(), "how": how})
    terms = ablate.terms_of(trace, tokens=ablation.tokens)
    expected = naive_after(model, pixels, ablation)
    ours = ablate.embedding_after(terms, ablation)
    assert float((ours - expected).norm() / expected.norm()) < 1e-5


def test_zeroing_everything_leaves_nothing_and_nothing_leaves_everything(trace):
    terms = ablate.terms_of(trace, tokens=[0])
    everything = Ablation(layers=range(6), mlps=range(7), tokens={0}, how="zero")
    assert ablate.embedding_after(terms, everything).abs().max() < 1e-4
    assert torch.equal(ablate.embedding_after(terms, Ablation()), trace.embedding)


def test_mean_ablating_everything_leaves_the_mean_embedding(trace):
    terms = ablate.terms_of(trace)
    after = ablate.embedding_after(terms, Ablation(layers=range(6), mlps=range(7)))
    torch.testing.assert_close(after, trace.embedding.mean(0).expand_as(after), atol=1e-4, rtol=1e-4)


def test_means_may_come_from_another_collection(model, trace):
    other = ablate.terms_of(model.trace(torch.zeros(2, 3, *model.image_size)))
    ablation = Ablation(heads={(5, 1)}, mlps={2})
    terms, means = ablate.terms_of(trace), ablate.means_of(other)
    after = ablate.embedding_after(terms, ablation, means)
    replaced = terms.embedding - (trace.head_effects()[:, 5, 1] + trace.mlp_effects()[:, 2])
    effects = ablate.removed_effects(other, Ablation(heads={(5, 1)}, mlps={2}, how="zero")).mean(0)
    torch.testing.assert_close(after, replaced + effects, atol=1e-4, rtol=1e-4)
    assert means.n_images == 2


def test_join_and_select_are_inverse(model, pixels):
    parts = [ablate.terms_of(model.trace(pixels[i : i + 2]), layers=[4, 5], tokens=[0]) for i in (0, 2)]
    joined = ablate.join(parts)
    ablation = Ablation(heads={(4, 0)}, tokens={0}, how="zero")
    after = ablate.embedding_after(joined, ablation)
    torch.testing.assert_close(after[2:], ablate.embedding_after(parts[1], ablation))
    torch.testing.assert_close(after[[3, 0]], ablate.embedding_after(joined.select([3, 0]), ablation))


def test_summed_effects_by_hand():
    """One layer, two heads of one number: c = (2 u [1, 0] + [0, 1] - mean [1, 1]) / std + [5, 5] for head 1."""
    codes = Codes(
        torch.tensor([[[[3.0], [4.0]]]]), torch.tensor([2.0]), torch.tensor([2.0]), torch.zeros(1, 2), (7,)
    )
    basis = HeadBasis(
        basis=torch.tensor([[[[1.0, 1.0]], [[2.0, 0.0]]]]),
        output_bias=torch.tensor([[0.0, 1.0]]),
        mean_share=torch.tensor([1.0, 1.0]),
        constant=torch.tensor([5.0, 5.0]),
        layers=(7,),
    )
    torch.testing.assert_close(headset.summed_effects(codes, basis, [(7, 1)]), torch.tensor([[8.0, 4.5]]))
    torch.testing.assert_close(
        headset.summed_effects(codes, basis, [(7, 0), (7, 1)]), torch.tensor([[13.5, 10.5]])
    )


def test_half_precision_codes_are_widened_not_rejected(trace):
    terms = ablate.terms_of(trace)
    half = Codes(trace.codes.half(), trace.mean, trace.std, trace.embedding, tuple(range(6)))
    ablation = Ablation(layers={5})
    exact = ablate.embedding_after(terms, ablation)
    ours = ablate.embedding_after(ablate.Terms(half, terms.basis), ablation)
    assert float((ours - exact).norm() / exact.norm()) < 2e-3


@pytest.mark.parametrize("how", ["mean", "zero"])
def test_subset_logits_give_exact_logits_norms_and_cosines(trace, how):
    terms = ablate.terms_of(trace)
    directions = torch.nn.functional.normalize(
        torch.randn(5, 128, generator=torch.Generator().manual_seed(1)), dim=1
    )
    desk = subsets.subset_logits(terms, 2, directions, mlps=(0, 3), how=how)
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        chosen = [head for head in desk.heads if torch.rand(1, generator=generator) < 0.4]
        ablation = Ablation(heads=chosen, layers={1}, mlps={3}, how=how)
        after = ablate.embedding_after(terms, ablation)[2]
        logits, length = desk.after(ablation)
        torch.testing.assert_close(logits, directions @ after, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(length, after.norm(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("how", ["mean", "zero"])
@pytest.mark.parametrize("without_tokens", [False, True])
@pytest.mark.parametrize("layers", [range(6), [4, 5]])
def test_single_mlps_and_tokens_can_be_toggled_apart(trace, how, without_tokens, layers):
    terms = ablate.terms_of(trace, tokens=(0, 3))
    directions, means = torch.eye(128)[:5], ablate.means_of(terms)
    desk = subsets.subset_logits_apart(terms, 2, directions, layers, means, how, without_tokens)
    assert desk.heads == tuple((layer, head) for layer in layers for head in range(8))
    tokens, unkept = {0, 3} if without_tokens else (), set(range(6)) - set(layers)
    for heads, rest, single in (((), False, ()), ({(5, 1), (4, 4)}, False, {0, 6}), ({(5, 0)}, True, ())):
        literal = Ablation(
            heads=heads,
            layers=unkept if rest else (),
            mlps=range(7) if rest else single,
            tokens=tokens,
            how=how,
        )
        after = ablate.embedding_after(terms, literal)[2]
        asked = Ablation(heads=heads, mlps={0} if rest else {1 + i for i in single}, how=how)
        logits, length = desk.after(asked)
        torch.testing.assert_close(logits, directions @ after, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(length, after.norm(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("how", ["mean", "zero"])
@pytest.mark.parametrize("layers", [None, [4, 5]])
def test_the_rest_is_everything_that_is_no_kept_head(trace, how, layers):
    terms = ablate.with_rest(ablate.terms_of(trace, layers))
    kept = trace.head_effects(layers).sum((1, 2))
    torch.testing.assert_close(terms.mlp_effects[:, 0], trace.embedding - kept, atol=1e-4, rtol=1e-4)
    after = ablate.embedding_after(terms, Ablation(mlps={0}, how=how))
    expected = kept if how == "zero" else kept + (trace.embedding - kept).mean(0)
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("how", ["mean", "zero"])
def test_predictions_after_equal_those_of_the_ablated_embeddings(trace, how, monkeypatch):
    monkeypatch.setattr(ablate, "IMAGES_AT_ONCE", 3)
    monkeypatch.setattr(ablate, "CLASSIFIED_AT_ONCE", 3)
    terms = ablate.with_rest(ablate.terms_of(trace))
    texts = torch.randn(4000, 128, generator=torch.Generator().manual_seed(4))
    for ablation in (
        Ablation(how=how),
        Ablation(heads={(5, 1), (0, 2)}, layers={4}, how=how),
        Ablation(heads={(5, 1)}, mlps={0}, how=how),
    ):
        expected = (ablate.embedding_after(terms, ablation) @ texts.T).argmax(1)
        assert torch.equal(ablate.predict_after(terms, ablation, texts), expected)
        kept = terms.embedding @ texts.T
        assert torch.equal(ablate.predict_after(terms, ablation, texts, logits=kept), expected)
    with pytest.raises(ValueError, match="tokens cannot be removed here"):
        ablate.predict_after(terms, Ablation(tokens={0}), texts)


@pytest.mark.parametrize("how", ["mean", "zero"])
@pytest.mark.parametrize("mlps", [(), (0,)], ids=["rest stays", "rest out"])
def test_with_most_heads_out_the_kept_ones_are_added_up(trace, how, mlps, monkeypatch):
    terms = ablate.with_rest(Terms64.of(trace))
    texts = torch.nn.functional.normalize(
        torch.randn(4000, 128, generator=torch.Generator().manual_seed(3)), dim=1
    )
    texts = texts.double()
    everyone = headset.all_heads(terms.codes)
    used = []
    real = ablate._predict_from_kept
    monkeypatch.setattr(ablate, "_predict_from_kept", lambda *a: (used.append(len(a[3])), real(*a))[1])
    monkeypatch.setattr(ablate, "CLASSIFIED_AT_ONCE", 3)
    for kept in ([], [(5, 1)], [(0, 0), (3, 2), (5, 7)]):
        ablation = Ablation(heads=set(everyone) - set(kept), mlps=mlps, how=how)
        if len(kept) == 0 and mlps:
            continue  # nothing that tells images apart is left
        expected = (ablate.embedding_after(terms, ablation) @ texts.T).argmax(1)
        assert torch.equal(ablate.predict_after(terms, ablation, texts), expected)
    assert used == ([1, 3] if mlps else [0, 1, 3])


class Terms64:
    """Terms in float64, so that argmax is not decided by rounding."""

    @staticmethod
    def of(trace):
        terms = ablate.terms_of(trace)
        codes, basis = terms.codes, terms.basis
        numbers = codes.codes.double()
        numbers[..., -1] *= 50  # a last number that counts
        wide = Codes(numbers, *(x.double() for x in (codes.mean, codes.std, codes.embedding)), codes.layers)
        names = ("basis", "output_bias", "mean_share", "constant")
        wider = {name: getattr(basis, name).double() for name in names}
        wider["constant"] = 30 * wider["constant"]  # large enough to decide between texts
        return ablate.Terms(wide, HeadBasis(*wider.values(), basis.layers))


def test_accumulated_isolated_and_random_sets():
    steps = ablate.accumulated([2, 3], mlps=[0])
    assert [sorted(step.layers) for step in steps] == [[], [2], [2, 3]]
    assert all(step.mlps == {0} for step in steps)
    assert [sorted(step.layers) for step in ablate.isolated([2, 3])] == [[2], [3]]
    heads = [(layer, head) for layer in (4, 5) for head in range(8)]
    draws = ablate.random_heads(6, heads, n_draws=5, seed=3)
    assert draws == ablate.random_heads(6, heads, n_draws=5, seed=3)
    assert all(len(draw.heads) == 6 and draw.heads <= set(heads) for draw in draws)
    assert len({draw.heads for draw in draws}) > 1
    assert ablate.all_mlps(7, tokens=[0]) == Ablation(mlps=range(7), tokens={0})


def by_layer(heads):
    return Counter(layer for layer, _ in heads)


def test_heads_drawn_beside_removed_ones_are_others_of_the_same_layers():
    heads = [(layer, head) for layer in (2, 3, 4, 5) for head in range(8)]
    removed = {(2, 3), (4, 5), (4, 6), (5, 0)}
    draws = ablate.matched_heads(removed, heads, n_draws=40, seed=3, how="zero")
    assert draws == ablate.matched_heads(removed, heads, n_draws=40, seed=3, how="zero")
    assert len(draws) == len({draw.heads for draw in draws}) == 40
    for draw in draws:
        assert draw.how == "zero"
        assert not draw.heads & removed
        assert by_layer(draw.heads) == by_layer(removed)
    drawn = Counter(head for draw in draws for head in draw.heads)
    assert len(drawn) == 7 + 6 + 7  # every other head of these layers has its turn


def test_a_layer_with_too_few_others_is_filled_from_the_nearest():
    """Five of the eight heads of the last layer are removed: three others, and two of the layer below."""
    heads = [(layer, head) for layer in (2, 3, 4, 5) for head in range(8)]
    removed = {(2, 3), (4, 5), *((5, head) for head in (0, 4, 5, 6, 7))}
    draws = ablate.matched_heads(removed, heads, n_draws=30)
    assert all(by_layer(draw.heads) == {2: 1, 4: 3, 5: 3} for draw in draws)
    middle = {(3, head) for head in range(8)}
    assert [draw.heads for draw in ablate.matched_heads(middle, heads, n_draws=9)] == [
        frozenset(
            (4, head) for head in range(8)
        )  # the later of two layers equally near, and the same set once
    ]
    strict = ablate.matched_heads(removed, heads, n_draws=30, only_others=False)
    assert all(by_layer(draw.heads) == by_layer(removed) for draw in strict)
    assert any(draw.heads & removed for draw in strict)
    assert ablate.matched_heads(heads[:17], heads) == []
    assert ablate.matched_heads((), heads) == []


def test_errors_name_what_was_not_kept(trace):
    terms = ablate.terms_of(trace, layers=[4, 5])
    with pytest.raises(ValueError, match=r"layer in \[4, 5\].*got \(1, 0\)"):
        ablate.embedding_after(terms, Ablation(heads={(1, 0)}))
    with pytest.raises(ValueError, match=r"kept none; trace the images and take terms_of"):
        ablate.embedding_after(terms, Ablation(tokens={0}))
    with pytest.raises(ValueError, match=r"within 0..6 .*got \[9\]"):
        ablate.embedding_after(terms, Ablation(mlps={9}))
    with pytest.raises(ValueError, match="kept heads only"):
        ablate.embedding_after(ablate.Terms(terms.codes, terms.basis), Ablation(mlps={1}))
    without = Trace(**{**trace.__dict__, "tokens": None, "paths": None})
    with pytest.raises(ValueError, match="tokens=False"):
        ablate.terms_of(without, tokens=[0])
    with pytest.raises(ValueError, match=r"within 0..144"):
        ablate.token_codes(trace, [999])
    with pytest.raises(ValueError, match="not on this desk"):
        subsets.subset_logits(terms, 0, torch.eye(128)[:2]).after(Ablation(heads={(0, 0)}))
    with pytest.raises(ValueError, match=r"n_chosen within 0..2"):
        ablate.random_heads(3, [(0, 0), (0, 1)])
