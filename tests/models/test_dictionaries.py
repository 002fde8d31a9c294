"""Dictionaries of directions: every format read by its own convention, and exact effects of features."""

from __future__ import annotations

import dataclasses
import json
import pickle

import naive
import pytest
import torch
from safetensors.torch import save_file

import clipviz
from clipviz.models import wrap
from clipviz.models.dictionaries import Dictionary, Gate, point_effects
from tests.models import families
from tests.models.families import images

D_IN, UNITS = 6, 10


def parts(seed=0):
    """W_enc [d_in, d_sae], W_dec [d_sae, d_in] and biases, as most projects store them."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=rng)

    return {"W_enc": draw(D_IN, UNITS), "b_enc": draw(UNITS), "W_dec": draw(UNITS, D_IN), "b_dec": draw(D_IN)}


INPUTS = torch.randn(7, D_IN, generator=torch.Generator().manual_seed(3))


def prisma(folder):
    torch.save(parts(), folder / "weights.pt")
    config = {"hook_point_layer": 2, "layer_subtype": "hook_resid_post", "activation_fn_str": "relu"}
    (folder / "config.json").write_text(json.dumps(config))
    return (
        folder,
        {"layer": 2, "point": "residual"},
        lambda x, p: torch.relu((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]),
    )


def prisma_topk_normed(folder):
    torch.save(parts(), folder / "weights.pt")
    config = {"hook_point_layer": 1, "layer_subtype": "hook_mlp_out", "activation_fn_str": "topk"}
    config |= {
        "activation_fn_kwargs": {"k": 3},
        "normalize_activations": "layer_norm",
        "cls_token_only": True,
    }
    (folder / "config.json").write_text(json.dumps(config))

    def encode(x, p):
        scale = x.std(-1, keepdim=True) + 1e-5
        pre = torch.relu(((x - x.mean(-1, keepdim=True)) / scale - p["b_dec"]) @ p["W_enc"] + p["b_enc"])
        least = pre.sort(-1, descending=True).values[:, 2:3]
        return torch.where(pre >= least, pre, 0.0) * scale

    return folder, {"layer": 1, "point": "mlp output", "cls_token_only": True}, encode


def prisma_gated_in_one_file(folder):
    gate = {
        "b_gate": torch.ones(UNITS) / 4,
        "r_mag": torch.linspace(-1, 1, UNITS),
        "b_mag": torch.ones(UNITS) / 3,
    }
    config = {"hook_point_layer": 0, "layer_subtype": "hook_resid_post", "architecture": "gated"}
    torch.save({"cfg": config, "state_dict": parts() | gate}, folder / "old.pt")

    def encode(x, p):
        pre = (x - p["b_dec"]) @ p["W_enc"]
        on = pre + gate["b_gate"] > 0
        return torch.where(on, torch.relu(pre * gate["r_mag"].exp() + gate["b_mag"]), 0.0)

    return folder / "old.pt", {"layer": 0, "activation": "gated"}, encode


def saev(folder):
    header = json.dumps({"schema": 2, "cfg": {"activation": {"cls": "Relu"}}}).encode() + b"\n"
    torch.save(parts(), folder / "body")
    (folder / "sae.pt").write_bytes(header + (folder / "body").read_bytes())
    (folder / "body").unlink()
    return folder, {"layer": 4, "point": "residual"}, lambda x, p: torch.relu(x @ p["W_enc"] + p["b_enc"])


def saev_batch_topk(folder):
    header = (
        json.dumps({"schema": 3, "cfg": {"activation": {"cls": "BatchTopK", "params": {"top_k": 3}}}}) + "\n"
    )
    torch.save(parts() | {"activation.threshold": torch.tensor(0.8)}, folder / "body")
    (folder / "sae.pt").write_bytes(header.encode() + (folder / "body").read_bytes())
    (folder / "body").unlink()

    def encode(x, p):
        pre = x @ p["W_enc"] + p["b_enc"]
        return torch.where(pre > 0.8, pre, 0.0)

    return folder / "sae.pt", {"layer": 4, "activation": "jumprelu"}, encode


def patchsae(folder):
    torch.save(
        {"cfg": {"block_layer": 3, "module_name": "resid"}, "state_dict": parts()}, folder / "patch.pt"
    )
    return (
        folder / "patch.pt",
        {"layer": 3},
        lambda x, p: torch.relu((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]),
    )


def saelens(folder):
    config = {
        "architecture": "jumprelu",
        "hook_name": "blocks.5.hook_resid_post",
        "apply_b_dec_to_input": False,
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    threshold = torch.linspace(0, 1, UNITS)
    save_file(parts() | {"threshold": threshold}, folder / "sae_weights.safetensors")

    def encode(x, p):
        pre = x @ p["W_enc"] + p["b_enc"]
        return torch.where(pre > threshold, torch.relu(pre), 0.0)

    return folder, {"layer": 5, "point": "residual", "activation": "jumprelu"}, encode


def saelens_of_metadata(folder):
    config = {"architecture": "topk", "k": 2, "apply_b_dec_to_input": True}
    config["metadata"] = {"hook_name": "blocks.1.mlp.hook_post"}
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file(parts(), folder / "sae_weights.safetensors")

    def encode(x, p):
        pre = torch.relu((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"])
        return torch.where(pre >= pre.sort(-1, descending=True).values[:, 1:2], pre, 0.0)

    return folder / "cfg.json", {"layer": 1, "point": "mlp hidden", "k": 2}, encode


def dictionary_learning(folder):
    p = parts()
    state = {"encoder.weight": p["W_enc"].T.contiguous(), "encoder.bias": p["b_enc"]}
    state |= {"decoder.weight": p["W_dec"].T.contiguous(), "bias": p["b_dec"]}
    torch.save(state, folder / "ae.pt")
    config = {"trainer": {"dict_class": "AutoEncoder", "layer": 6, "submodule_name": "attn_out_layer_6"}}
    (folder / "config.json").write_text(json.dumps(config))
    return (
        folder,
        {"layer": 6, "point": "attention output"},
        lambda x, p: torch.relu((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]),
    )


def dictionary_learning_batch_topk(folder):
    p = parts()
    state = {"encoder.weight": p["W_enc"].T.contiguous(), "encoder.bias": p["b_enc"], "k": torch.tensor(2)}
    state |= {
        "decoder.weight": p["W_dec"].T.contiguous(),
        "b_dec": p["b_dec"],
        "threshold": torch.tensor(0.5),
    }
    torch.save(state, folder / "ae.pt")
    (folder / "config.json").write_text(
        json.dumps({"trainer": {"layer": 2, "submodule_name": "resid_post_layer_2"}})
    )

    def encode(x, p):
        pre = torch.relu((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"])
        return torch.where(pre > 0.5, pre, 0.0)

    return folder / "ae.pt", {"layer": 2, "point": "residual"}, encode


LAYOUTS = [
    *(prisma, prisma_topk_normed, prisma_gated_in_one_file, saev, saev_batch_topk, patchsae),
    *(saelens, saelens_of_metadata, dictionary_learning, dictionary_learning_batch_topk),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_each_format_is_read_by_its_own_convention(layout, tmp_path):
    """Activations by the formula of the format, written out here; the decoder and what is beside it follow."""
    path, expected, encode = layout(tmp_path)
    asked = {"layer": 4} if layout.__name__.startswith("saev") else {}
    found = clipviz.Dictionary.load(path, **asked)
    assert {name: getattr(found, name) for name in expected} == expected
    p = parts()
    activations = encode(INPUTS, p)
    torch.testing.assert_close(found.encode(INPUTS).activations, activations)
    if found.norm == "none":
        torch.testing.assert_close(found.reconstruct(INPUTS), activations @ p["W_dec"] + p["b_dec"])


def test_the_layer_is_asked_for_where_the_file_does_not_say_it(tmp_path):
    path, *_ = saev(tmp_path)
    with pytest.raises(ValueError, match="pass layer=, counted from 0"):
        Dictionary.load(path)


def test_normalised_inputs_come_back_in_their_own_units():
    """A dictionary that explains everything gives the inputs back, whatever norm it applies to them."""
    identity = torch.eye(D_IN)
    for norm in ("none", "layer norm", "unit norm"):
        whole = Dictionary(
            0,
            "residual",
            torch.cat([identity, -identity]),
            torch.zeros(2 * D_IN),
            torch.cat([identity, -identity]),
            torch.linspace(-1, 1, D_IN),
            norm=norm,
        )
        torch.testing.assert_close(whole.reconstruct(INPUTS), INPUTS)


class Planted:
    """An object whose unpickling leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def test_no_code_of_a_file_is_run(tmp_path):
    mark = tmp_path / "mark"
    for name, stored in {
        "old.pt": {"cfg": Planted(mark), "state_dict": parts()},
        "module.pt": torch.nn.Linear(3, 3),
        "sae.pt": {"W_enc": Planted(mark)},
    }.items():
        torch.save(stored, tmp_path / name)
        with pytest.raises(ValueError, match="does not load; in an environment where you trust"):
            Dictionary.load(tmp_path / name, layer=0)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Planted(mark)))
    with pytest.raises(ValueError):
        Dictionary.load(tmp_path / "plain.pkl", layer=0)
    assert not mark.exists()


def test_what_is_no_dictionary_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        Dictionary.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="known formats: ViT-Prisma"):
        Dictionary.load(tmp_path)
    torch.save({"cfg": {"hook_point_layer": 1}, "state_dict": {"weight": torch.ones(2)}}, tmp_path / "one.pt")
    with pytest.raises(ValueError, match=r"expected W_enc, W_dec, b_dec in ViT-Prisma, one\.pt, got weight"):
        Dictionary.load(tmp_path / "one.pt")
    normalized = {"hook_point_layer": 1, "layer_subtype": "ln2.hook_normalized"}
    torch.save({"cfg": normalized, "state_dict": parts()}, tmp_path / "two.pt")
    with pytest.raises(ValueError, match="not written to the residual stream"):
        Dictionary.load(tmp_path / "two.pt")
    damaged = parts() | {"W_dec": torch.full((UNITS, D_IN), torch.nan)}
    torch.save({"cfg": {"block_layer": 1}, "state_dict": damaged}, tmp_path / "three.pt")
    with pytest.raises(ValueError, match="NaN or infinity in decoder of patchsae"):
        Dictionary.load(tmp_path / "three.pt")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_damaged_files_are_refused_or_read_whole(layout, tmp_path):
    """Bytes changed or cut at random: a ValueError, or a dictionary with finite numbers of the right shapes."""
    path, *_ = layout(tmp_path)
    rng = torch.Generator().manual_seed(len(layout.__name__))
    files = [one for one in tmp_path.iterdir() if one.is_file()]
    for _ in range(20):
        file = files[int(torch.randint(len(files), (), generator=rng))]
        whole = file.read_bytes()
        at = int(torch.randint(len(whole), (), generator=rng))
        cut = bool(torch.rand((), generator=rng) < 0.3)
        file.write_bytes(whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            found = Dictionary.load(path, layer=4)
        except ValueError:
            pass
        else:
            assert found.encode(INPUTS).activations.shape == (7, UNITS)
        file.write_bytes(whole)


# effects


def random_dictionary(model, point="residual", layer=0, n_units=17, seed=5, **how):
    rng = torch.Generator().manual_seed(seed)
    width = model.weights.layers[layer].mlp_output.shape[1 if point == "mlp hidden" else 0]

    def draw(*shape):
        return torch.randn(*shape, generator=rng)

    return Dictionary(
        layer, point, draw(n_units, width), draw(n_units), draw(n_units, width), draw(width), **how
    )


@pytest.mark.parametrize("family", families.FAMILIES)
def test_features_offset_and_error_sum_to_what_the_point_contributes(family):
    model = wrap(families.FAMILIES[family](), name=family)
    exact = wrap(families.FAMILIES[family]().double(), name=family)
    for one, dtype, bound in ((model, torch.float32, 1e-5), (exact, torch.float64, 1e-12)):
        pixels = images(one).to(dtype)
        for how in ({}, {"activation": "topk", "k": 3, "norm": "layer norm"}):
            found = point_effects(one, pixels, random_dictionary(one, **how))
            whole = found.features().sum(1) + found.offset + found.error
            largest = max(part.abs().max() for part in (found.total, found.offset, found.error))
            assert (whole - found.total).abs().max() <= bound * largest
            assert found.residual <= bound


@pytest.mark.parametrize(
    "family", ["class token", "CLIPA", "CoCa", "SigLIP", "EVA-02", "inner norms", "Hugging Face CLIP"]
)
def test_a_dictionary_of_the_neurons_themselves_has_their_effects(family):
    """Features +p and -p of every neuron: together they are the neuron, whose effects have a literal reference."""
    model = wrap(families.FAMILIES[family]().double(), name=family)
    n_neurons = model.weights.layers[0].mlp_output.shape[1]
    identity = torch.eye(n_neurons, dtype=torch.float64)
    both, nothing = torch.cat([identity, -identity]), torch.zeros(2 * n_neurons, dtype=torch.float64)
    neurons = Dictionary(0, "mlp hidden", both, nothing, both, nothing[:n_neurons])
    pixels = images(model).double()
    found, second = point_effects(model, pixels, neurons), model.second_order(pixels, 0)
    for direct, later, expected in (
        (False, True, second.effects(shared=False, normalize=False)),
        (True, False, second.first_order(shared=False, normalize=False)),
    ):
        features = found.features(direct=direct, later=later).unflatten(1, (2, n_neurons)).sum(1)
        torch.testing.assert_close(features, expected, rtol=1e-9, atol=1e-12)
    assert found.explained == pytest.approx(1)
    assert found.error.abs().max() < 1e-9


def literal(network, pixels, layer, vectors):
    """What vectors [image, token, d_model] in the stream after a layer contribute: a head and a token at a time."""
    visual, residuals, final = network.visual.double(), [], []
    hooks = [
        block.register_forward_pre_hook(lambda _, inputs: residuals.append(inputs[0]))
        for block in visual.transformer.resblocks
    ]
    hooks.append(visual.ln_post.register_forward_pre_hook(lambda _, inputs: final.append(inputs[0])))
    with torch.no_grad():
        visual(pixels.double())
    for hook in hooks:
        hook.remove()
    blocks, total = visual.transformer.resblocks, torch.zeros(len(pixels), visual.proj.shape[1]).double()
    for image in range(len(pixels)):
        ended = final[0][image] if final[0].ndim == 2 else final[0][image, 0]
        std = (ended.var(unbiased=False) + visual.ln_post.eps).sqrt()
        writes = vectors[image, 0].clone()
        for later in range(layer + 1, len(blocks)):
            block, tokens = blocks[later], residuals[later][image]
            stds = (tokens.var(-1, unbiased=False) + block.ln_1.eps).sqrt()
            z, d_head = block.ln_1(tokens), tokens.shape[1] // block.attn.num_heads
            w_q, w_k, w_v = block.attn.in_proj_weight.chunk(3)
            b_q, b_k, _ = block.attn.in_proj_bias.chunk(3)
            for head in range(block.attn.num_heads):
                rows = slice(head * d_head, (head + 1) * d_head)
                scores = (z[0] @ w_q[rows].T + b_q[rows]) @ (z @ w_k[rows].T + b_k[rows]).T
                attention = torch.softmax(scores / d_head**0.5, -1)
                for token in range(len(tokens)):
                    normed = block.ln_1.weight * vectors[image, token] / stds[token]
                    value = normed @ w_v[rows].T
                    writes = writes + attention[token] * value @ block.attn.out_proj.weight[:, rows].T
        total[image] = (visual.ln_post.weight * writes / std) @ visual.proj
    return total.detach()


@pytest.mark.parametrize("layer", [0, 1])
def test_effects_equal_the_literal_sum_over_later_layers_heads_and_tokens(layer):
    network = naive.small_clip(11).double()
    model = wrap(network, name="literal")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4)).double()
    dictionary = random_dictionary(model, layer=layer, n_units=4)
    found = point_effects(model, pixels, dictionary)
    streams = []
    hook = network.visual.transformer.resblocks[layer].register_forward_hook(
        lambda *args: streams.append(args[2])
    )
    with torch.no_grad():
        network.visual(pixels)
    hook.remove()
    exact = dictionary.to(dtype=torch.float64)
    encoded = exact.encode(streams[0])
    with torch.no_grad():
        torch.testing.assert_close(found.total, literal(network, pixels, layer, streams[0]))
        for unit in range(4):
            written = encoded.activations[..., unit : unit + 1] * exact.decoder[unit]
            torch.testing.assert_close(found.features([unit])[:, 0], literal(network, pixels, layer, written))
        torch.testing.assert_close(found.offset, literal(network, pixels, layer, encoded.offset))


def test_a_wrong_convention_is_seen_in_the_reconstruction():
    """The same features with the bias handled the wrong way explain far less of the stream."""
    model = wrap(naive.small_clip(2), name="conventions")
    pixels, width = images(model), model.weights.d_model
    identity = torch.eye(width)
    both, shift = torch.cat([identity, -identity]), 3 * torch.ones(width)
    right = Dictionary(1, "residual", both, torch.zeros(2 * width), both, shift)
    wrong = dataclasses.replace(right, subtracts_bias=False)
    assert model.dictionary_effects(pixels, right).explained == pytest.approx(1, abs=1e-5)
    assert model.dictionary_effects(pixels, wrong).explained < 0.5


@pytest.mark.parametrize("point", ["residual", "mlp output", "mlp hidden", "attention output"])
def test_points_read_what_they_say(point):
    """Each point's width, and a sum that holds there."""
    model = wrap(naive.small_clip(2), name="points")
    pixels = images(model)
    width = model.weights.layers[1].mlp_output.shape[1 if point == "mlp hidden" else 0]
    found = point_effects(model, pixels, random_dictionary(model, point, layer=1))
    assert found.dictionary.d_in == width
    assert found.residual < 1e-5


def test_a_dictionary_of_another_model_is_refused():
    model = wrap(naive.small_clip(2), name="other")
    with pytest.raises(
        ValueError, match="expected a dictionary of width 48 for the residual of layer 0, got"
    ):
        point_effects(model, images(model), dataclasses.replace(random_dictionary(model), **parts_of(6)))
    with pytest.raises(ValueError, match="no later attention"):
        point_effects(model, images(model), dataclasses.replace(random_dictionary(model), layer=2))
    with pytest.raises(ValueError, match=r"expected k within 1\.\.17"):
        random_dictionary(model, activation="topk", k=40)
    with pytest.raises(ValueError, match="expected the biases and the scale of the gate"):
        random_dictionary(model, activation="gated")
    gate = Gate(*torch.zeros(3, 17))
    assert random_dictionary(model, activation="gated", gate=gate).n_units == 17


def parts_of(width):
    return {
        "encoder": torch.ones(3, width),
        "decoder": torch.ones(3, width),
        "encoder_bias": torch.ones(3),
        "bias": torch.ones(width),
    }
