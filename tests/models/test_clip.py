"""A CLIP tower opened up: effects equal the literal equations and sum to the output; what is refused, and how."""

from __future__ import annotations

import naive
import pytest
import torch
from PIL import Image

import clipviz
from clipviz.models.towers import read_tower
from clipviz.models.towers.matrices import attention_weights
from tests.models.families import convolutional

VARIANTS = {
    "plain": {},
    "layer scale": {"ls_init_value": 0.5},
    "no ln_pre": {"no_ln_pre": True},
    "ln after pool": {"final_ln_after_pool": True},
    "patch dropout": {"patch_dropout": 0.5},
    "own attention": {"block_type": "custom"},
    "not square": {"image_size": (32, 48)},
}


def wrapped(network):
    return clipviz.wrap(network, name="small")


@pytest.fixture(scope="module")
def demo():
    return clipviz.load("demo", device="cpu")


@pytest.mark.parametrize("thesis", [False, True], ids=["all terms", "as in the thesis"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_effects_equal_the_literal_equations(variant, thesis):
    network = naive.small_clip(3, **VARIANTS[variant])
    model = wrapped(network).with_thesis_shares() if thesis else wrapped(network)
    images = torch.randn(2, 3, *model.image_size)
    expected = naive.reference(network, images, attention_only=thesis)
    trace = model.trace(images)
    scale = expected["embedding"].norm(dim=-1).max()
    heads = trace.head_effects().double()
    assert (heads - expected["tokens"].sum(3)).abs().max() / scale < 1e-5
    assert (trace.mlp_effects().double() - expected["mlps"]).abs().max() / scale < 1e-5
    directions = torch.nn.functional.normalize(torch.randn(4, 20), dim=-1)
    scores = trace.token_scores(directions).double()
    literal = torch.einsum("ilhtd,xd->xilht", expected["tokens"], directions.double())
    assert (scores - literal).abs().max() / scale < 1e-5
    assert trace.sum_check() < 1e-5
    assert not wrapped(network).weights.thesis_shares


@pytest.mark.parametrize("variant", VARIANTS)
def test_effects_sum_to_the_embedding(variant):
    network = naive.small_clip(5, **VARIANTS[variant])
    model = wrapped(network)
    images = torch.randn(2, 3, *model.image_size)
    trace = model.trace(images)
    assert model.sum_check < 1e-5
    assert trace.sum_check() < 1e-5
    with torch.no_grad():
        assert torch.allclose(trace.embedding, network.encode_image(images), atol=1e-5)


def test_an_embedding_is_the_projection_of_the_class_token():
    """Eq. 2.2 and A.1: P LN(ViT(I)), from the last layer's class token, number by number in float64."""
    network = naive.small_clip(5)
    model, images, last = wrapped(network), torch.randn(2, 3, 32, 32), []
    handle = network.visual.transformer.register_forward_hook(lambda m, i, o: last.append(o.double()))
    found = model.encode_images(images)
    handle.remove()
    norm, projection = network.visual.ln_post, network.visual.proj.double()
    for token, embedding, traced in zip(last[0][:, 0], found, model.trace(images).embedding, strict=True):
        mean = sum(token) / len(token)
        variance = sum((x - mean) ** 2 for x in token) / len(token)
        normed = norm.weight.double() * (token - mean) / (variance + norm.eps) ** 0.5 + norm.bias.double()
        expected = sum(x * row for x, row in zip(normed, projection, strict=True)).float()
        torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(traced, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "ViT-B-16", "ViT-L-14"])
@pytest.mark.slow
def test_sum_check_on_the_published_architectures_with_perturbed_weights(name):
    import open_clip

    config = open_clip.get_model_config(name)
    torch.manual_seed(0)
    text = {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config.pop("text_cfg")
    network = open_clip.CLIP(text_cfg=text, **config)
    naive.perturb(network)
    assert wrapped(network).sum_check <= 1e-5


def test_the_model_is_left_untouched(demo):
    before = {k: v.clone() for k, v in demo.network.state_dict().items()}
    demo.trace(torch.randn(1, 3, 96, 96))
    assert all(torch.equal(v, before[k]) for k, v in demo.network.state_dict().items())
    hooks = [m for m in demo.network.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks


def test_hooks_go_away_when_the_forward_fails(demo, monkeypatch):
    monkeypatch.setattr(demo.visual.ln_post, "forward", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.trace(torch.randn(1, 3, 96, 96))
    assert not [m for m in demo.network.modules() if m._forward_hooks or m._forward_pre_hooks]


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 2e-2), ("bf16", 8e-2)])
def test_half_precision_keeps_statistics_in_float32(precision, limit):
    model = clipviz.load("demo", device="cpu", precision=precision)
    trace = model.trace(torch.randn(1, 3, 96, 96))
    assert trace.mean.dtype == trace.std.dtype == trace.codes.dtype == torch.float32
    assert trace.sum_check() < limit


def test_fingerprint_tells_models_apart():
    prints = [wrapped(naive.small_clip(seed)).fingerprint for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


def test_demo_reads_its_own_collection(demo):
    images = clipviz.demo.images()
    best = demo.encode_texts(["in the forest", "in the sea", "on a striped background"])
    assert best.shape == (3, demo.weights.d_embed)
    assert torch.allclose(best.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert demo.encode_images(images[0]).shape == (1, demo.weights.d_embed)


def test_shown_is_what_the_network_sees(demo):
    image = Image.new("RGB", (96, 96), (10, 200, 90))
    shown = demo.shown(demo.prepare(image))
    assert shown.shape == (1, 96, 96, 3)
    assert abs(shown[0, 5, 5].astype(int) - [10, 200, 90]).max() <= 1
    assert demo.shown_sharp(Image.new("RGB", (500, 300))).shape == (192, 192, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m.trace(torch.randn(1, 3, 50, 96)),
            r"expected images \[image, 3, 96, 96\].*\[1, 3, 50, 96\]",
        ),
        (lambda m: m.trace(torch.randn(0, 3, 96, 96)), "empty batch"),
        (lambda m: m.trace([]), "got an empty list"),
        (lambda m: m.trace(["a.jpg"]), "got str"),
        (lambda m: m.encode_texts([]), "one or more texts"),
        (lambda m: m.encode_texts([3]), "got 3"),
        (
            lambda m: m.trace(torch.randn(1, 3, 96, 96), tokens=False).heatmap(torch.randn(1, 128)),
            "tokens=False",
        ),
        (
            lambda m: m.trace(torch.randn(1, 3, 96, 96)).heatmap(torch.randn(1, 77)),
            r"\[1, 77\].*encode_texts",
        ),
        (lambda m: m.trace(torch.randn(1, 3, 96, 96)).head_effects([9]), r"layers within 0\.\.5"),
        (
            lambda m: m.trace(torch.randn(1, 3, 96, 96)).heatmap(torch.randn(1, 128), heads=[(5, 8)]),
            r"heads as \(layer, head\).*\(5, 8\)",
        ),
    ],
)
def test_wrong_input_is_told_what_was_expected(demo, call, message):
    with pytest.raises(ValueError, match=message):
        call(demo)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ViT-B-23"}, "no model is called 'ViT-B-23'.*similar names.*ViT-B-32"),
        ({"name": "ViT-B-32"}, "needs pretrained=.*laion2b_s34b_b79k"),
        ({"name": "ViT-B-32", "pretrained": "nothing"}, "no pretrained tag 'nothing'"),
        ({"name": 7}, "expected a model name"),
        ({"name": "demo", "device": "cuda:99"}, "CUDA|device"),
        ({"name": "demo", "device": "toaster"}, "expected a device"),
        ({"name": "demo", "precision": "int3"}, "expected precision"),
    ],
)
def test_loading_says_what_can_be_loaded(arguments, message):
    with pytest.raises(ValueError, match=message):
        clipviz.load(**arguments)


def test_without_a_hub_the_error_offers_the_demo(monkeypatch):
    import open_clip

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", offline)
    with pytest.raises(ValueError, match=r'no route to host.*clipviz\.load\("demo"\)'):
        clipviz.load("ViT-B-32", pretrained="laion2b_s34b_b79k")


def test_a_local_checkpoint_loads(tmp_path):
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = open_clip.create_model("ViT-S-32-alt")
    path = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    model = clipviz.load("ViT-S-32-alt", pretrained=str(path), device="cpu")
    assert model.sum_check < 1e-5
    assert model.fingerprint == clipviz.wrap(network).fingerprint


@pytest.mark.parametrize(
    ("vision", "named"),
    [
        ({"pool_type": "none"}, "pooling 'none'"),
        ({"attentional_pool": "parallel", "attn_pooler_heads": 2}, "pooling 'parallel'"),
        ({"block_type": "custom", "scale_heads": True}, "scale_heads"),
        ({"block_type": "custom", "scaled_cosine_attn": True}, "scaled_cosine"),
        ({"block_type": "custom", "scale_attn": True}, "scale_attn"),
    ],
)
def test_towers_that_do_not_sum_are_refused_by_name(vision, named):
    network = naive.small_clip(0, **vision)
    with pytest.raises(ValueError, match=f"{named}.*supported: transformer towers of open_clip"):
        clipviz.wrap(network)


def test_other_families_are_refused_by_name():
    with pytest.raises(ValueError, match=r"tower ModifiedResNet.*supported"):
        clipviz.wrap(convolutional("ModifiedResNet")[0])
    with pytest.raises(ValueError, match="expected an open_clip model"):
        clipviz.wrap(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="tower Linear"):
        read_tower(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="attention module Linear"):
        attention_weights(torch.nn.Linear(2, 2))


def test_separate_projections_are_read_like_packed_ones():
    packed = torch.nn.MultiheadAttention(24, 3, batch_first=True)
    separate = torch.nn.Module()
    rows, biases = packed.in_proj_weight.chunk(3), packed.in_proj_bias.chunk(3)
    for name, weight, bias in zip(("q_proj", "k_proj", "v_proj"), rows, biases, strict=True):
        linear = torch.nn.Linear(24, 24)
        linear.weight.data, linear.bias.data = weight.data, bias.data
        setattr(separate, name, linear)
    separate.out_proj, separate.num_heads = packed.out_proj, 3
    for a, b in zip(attention_weights(packed), attention_weights(separate), strict=True):
        assert a == b if isinstance(a, int) else torch.equal(a, b)


def test_a_residual_mean_far_above_its_deviation_is_named():
    """Float32 cannot hold it, float64 can: not the architecture's fault."""
    network = naive.small_clip(seed=3)
    with torch.no_grad():
        network.visual.transformer.resblocks[-1].mlp.c_proj.bias.add_(3e6)
    with pytest.raises(ValueError, match=r"with a mean not far above.*open the model in float64"):
        clipviz.wrap(network)
    assert clipviz.wrap(network.double()).sum_check < 1e-6
