"""What is measured of a dictionary on images, and files that were changed: refused, or seen in what is measured."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import math
import random
import warnings

import naive
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from clipviz.models import wrap
from clipviz.models.dictionaries import Dictionary, fit
from tests.models import families
from tests.models.families import images

LAYER, K = 1, 8


@pytest.fixture(scope="module")
def model():
    return wrap(naive.small_clip(2), name="measured")


@pytest.fixture(scope="module")
def streams(model):
    """What is in the residual stream after each layer for some images, [image, token, d_model]."""
    kept, pixels = [], images(model, 12)
    hooks = [
        block.module.register_forward_hook(lambda _, __, output: kept.append(output.detach()))
        for block in model.tower.blocks
    ]
    model.encode_images(pixels)
    for hook in hooks:
        hook.remove()
    return kept


@pytest.fixture(scope="module")
def principal(streams):
    """The mean and some principal directions of layer LAYER, as features that are on one side of them each."""
    flat = streams[LAYER].flatten(0, 1)
    directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:K]
    both = torch.cat([directions, -directions])
    return {"W_enc": both.T.clone(), "b_enc": torch.zeros(2 * K), "W_dec": both, "b_dec": flat.mean(0)}


def as_dictionary(parts, **how):
    names = {"encoder": parts["W_enc"].T, "decoder": parts["W_dec"], "bias": parts["b_dec"]}
    return Dictionary(LAYER, "residual", encoder_bias=parts["b_enc"], **names, **how)


def test_what_is_measured_equals_sums_over_tokens(model, principal):
    """Explained variance, active and dead features by loops in float64; the embedding with the blocks run by hand."""
    network = copy.deepcopy(model.network).double()
    exact, pixels = wrap(network, name="exact"), images(model, 3).double()
    parts = {name: part.double() for name, part in principal.items()}
    parts["b_enc"] = torch.where(torch.arange(2 * K) == 3, -1e3, -0.1)  # one feature is dead
    dictionary = as_dictionary(parts)
    found = exact.measure_dictionary(pixels, dictionary)
    blocks, visual = network.visual.transformer.resblocks, network.visual
    with torch.no_grad():
        stream = visual._embeds(pixels)
        for block in blocks[: LAYER + 1]:
            stream = block(stream)
        tokens = stream.flatten(0, 1)
        error = spread = active = 0.0
        rebuilt, used = [], set()
        for token in tokens:
            whole = parts["b_dec"].clone()
            for unit in range(2 * K):
                a = float((token - parts["b_dec"]) @ parts["W_enc"][:, unit] + parts["b_enc"][unit])
                if a > 0:
                    active += 1
                    used.add(unit)
                    whole += a * parts["W_dec"][unit]
            error += float((token - whole) @ (token - whole))
            spread += float((token - tokens.mean(0)) @ (token - tokens.mean(0)))
            rebuilt.append(whole)

        def finished(there):
            for block in blocks[LAYER + 1 :]:
                there = block(there)
            return visual.ln_post(there[:, 0]) @ visual.proj

        whole = visual(pixels)
        cosines = [
            torch.cosine_similarity(finished(there), whole).mean()
            for there in (torch.stack(rebuilt).view_as(stream), tokens.mean(0).expand_as(stream))
        ]
    assert found.explained == pytest.approx(1 - error / spread, rel=1e-9)
    assert found.n_active == pytest.approx(active / len(tokens))
    assert (found.n_dead, found.n_units) == (2 * K - len(used), 2 * K)
    assert found.n_dead >= 1
    assert [found.cosine, found.cosine_of_mean] == pytest.approx([float(c) for c in cosines], rel=1e-9)
    assert found.cosine > found.cosine_of_mean
    assert f"explains {found.explained:.1%} of the variance" in str(found)
    assert exact.dictionary_effects(pixels, dictionary).explained == pytest.approx(found.explained)


def test_a_bias_handled_the_wrong_way_is_exposed(model, principal):
    """b_dec subtracted where the format does not, not subtracted where it does, or left out of what is rebuilt."""
    pixels = images(model, 12)
    shift = 3 * principal["W_dec"][:K].sum(0)  # a bias that is not small beside the stream
    far = {**principal, "b_dec": principal["b_dec"] + shift}
    along = far["W_enc"].T @ far["b_dec"]
    right = {
        "subtracted": as_dictionary(far),
        "not subtracted": as_dictionary({**far, "b_enc": -along}, subtracts_bias=False),
    }
    for name, dictionary in right.items():
        good = model.measure_dictionary(pixels, dictionary)
        wrong = dataclasses.replace(dictionary, subtracts_bias=not dictionary.subtracts_bias)
        bad = model.measure_dictionary(pixels, wrong)
        assert good.explained > bad.explained + 0.1, name
        assert good.cosine > bad.cosine, name
    without = dataclasses.replace(right["subtracted"], bias=torch.zeros_like(far["b_dec"]))
    assert model.measure_dictionary(pixels, without).explained < good.explained


def test_a_dictionary_of_the_class_token_is_put_in_place_there_alone(model, principal):
    pixels = images(model, 12)
    everywhere = as_dictionary(principal)
    there = dataclasses.replace(everywhere, cls_token_only=True)
    found = model.measure_dictionary(pixels, there)
    assert found.n_tokens == 12
    assert model.measure_dictionary(pixels, everywhere).n_tokens == 12 * model.weights.n_tokens
    assert found.cosine != model.measure_dictionary(pixels, everywhere).cosine


@pytest.mark.parametrize("family", ["class token", "SigLIP", "Hugging Face CLIP", "PE-Core"])
@pytest.mark.parametrize("point", ["residual", "mlp output", "mlp hidden", "attention output"])
def test_a_dictionary_that_explains_everything_leaves_the_embedding(family, point):
    model = wrap(families.FAMILIES[family](), name=family)
    width = model.weights.layers[0].mlp_output.shape[1 if point == "mlp hidden" else 0]
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    whole = Dictionary(0, point, both, torch.zeros(2 * width), both, torch.ones(width))
    found = model.measure_dictionary(images(model, 3), whole)
    assert found.explained == pytest.approx(1, abs=1e-4)
    assert found.cosine == pytest.approx(1, abs=1e-4)
    assert found.cosine_of_mean < found.cosine


# changed files


class Mark:
    """An object whose unpickling leaves a mark."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def pickled(stored):
    stream = io.BytesIO()
    torch.save(stored, stream)
    return stream.getvalue()


def prisma(parts):
    config = {"hook_point_layer": LAYER, "layer_subtype": "hook_resid_post", "activation_fn_str": "topk"}
    config |= {"activation_fn_kwargs": {"k": K // 2}, "normalize_activations": None, "cls_token_only": False}
    return {"weights.pt": parts, "config.json": config}


def saev(parts):
    settings = {"activation": {"cls": "BatchTopK", "params": {"top_k": K}}}
    shifted = parts | {"b_enc": -parts["b_dec"] @ parts["W_enc"], "activation.threshold": torch.tensor(0.2)}
    return {"sae.pt": shifted, "header": {"schema": 3, "cfg": settings}}


def patchsae(parts):
    return {"patch.pt": parts, "cfg": {"block_layer": LAYER, "module_name": "resid"}}


def saelens(parts):
    config = {"architecture": "jumprelu", "hook_name": f"blocks.{LAYER}.hook_resid_post"}
    config |= {"apply_b_dec_to_input": True, "normalize_activations": "none"}
    threshold = {"threshold": torch.linspace(0, 0.5, 2 * K)}
    return {"sae_weights.safetensors": parts | threshold, "cfg.json": config}


def dictionary_learning(parts):
    state = {"encoder.weight": parts["W_enc"].T, "encoder.bias": parts["b_enc"]}
    state |= {"decoder.weight": parts["W_dec"].T, "bias": parts["b_dec"]}
    trainer = {"dict_class": "AutoEncoder", "layer": LAYER, "submodule_name": f"resid_post_layer_{LAYER}"}
    return {"ae.pt": state, "config.json": {"trainer": trainer}}


def overcomplete(parts):
    module = nn.Linear(*parts["W_enc"].shape)
    module.weight.data = parts["W_enc"].T.contiguous()
    return {"sae.pt": module}


LAYOUTS = [prisma, saev, patchsae, saelens, dictionary_learning, overcomplete]


def written(files, folder):
    """Writes a layout's parts as the project stores them."""
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        if name.endswith(".json"):
            (folder / name).write_text(json.dumps(content))
        elif name.endswith(".safetensors"):
            (folder / name).write_bytes(save({key: t.contiguous() for key, t in content.items()}))
        elif name == "sae.pt" and "header" in files:
            (folder / name).write_bytes(json.dumps(files["header"]).encode() + b"\n" + pickled(content))
        elif name == "patch.pt":
            (folder / name).write_bytes(pickled({"cfg": files["cfg"], "state_dict": content}))
        elif name not in ("header", "cfg"):
            (folder / name).write_bytes(pickled(content))


def change_bytes(folder, rng):
    """A byte, a run of bytes, or the end of one of the files."""
    path = rng.choice(sorted(folder.iterdir()))
    whole = bytearray(path.read_bytes())
    at = rng.randrange(len(whole))
    kind = rng.choice(["byte", "byte", "run", "cut", "twice"])
    if kind == "byte":
        whole[at] ^= 1 << rng.randrange(8)
    elif kind == "run":
        whole[at : at + 16] = rng.randbytes(16)
    elif kind == "cut":
        del whole[at:]
    else:
        whole[at:at] = whole[max(0, at - 16) : at]
    path.write_bytes(whole)
    return path.name, at, kind


def change_settings(settings, rng):
    """One value, or one name, of a configuration, at any depth."""
    holders = [settings]
    for holder in holders:
        holders += [value for value in holder.values() if isinstance(value, dict)]
    holder = rng.choice([one for one in holders if one])
    name = rng.choice(sorted(holder))
    kind = rng.choice(["value", "value", "name", "gone"])
    before = copy.deepcopy(settings)
    if kind == "gone":
        del holder[name]
    elif kind == "name":
        holder[name.upper() if rng.random() < 0.3 else name[:-1] + "x"] = holder.pop(name)
    else:
        values = [None, "", "relu", "topk", "gated", "layer_norm", "hook_mlp_out", -1, 0, 2, 3, 10**9, 0.5]
        values += [
            math.nan,
            True,
            False,
            [],
            [1],
            {},
            {"k": 3},
            "resid",
            "blocks.0.hook_mlp_out",
            "1",
            "constant",
        ]
        holder[name] = rng.choice(values)
    return kind, name, before, settings


def change_tensors(state, rng, mark, plain):
    """One tensor of a state dict; plain: as safetensors can hold it."""
    name = rng.choice(sorted(state))
    tensor = state[name]
    changes = [
        lambda: state.pop(name),
        lambda: state.update({name + "x": state.pop(name)}),
        lambda: state.update({name: tensor.t().contiguous()}),
        lambda: state.update({name: -tensor}),
        lambda: state.update({name: tensor * 3}),
        lambda: state.update({name: torch.zeros_like(tensor)}),
        lambda: state.update({name: torch.full_like(tensor, math.nan)}),
        lambda: state.update({name: torch.full_like(tensor, -math.inf)}),
        lambda: state.update({name: tensor.half()}),
        lambda: state.update({name: tensor.long()}),
        lambda: state.update({name: tensor[:0].clone()}),
        lambda: state.update({name: tensor[None].clone()}),
        lambda: state.update({name: tensor.flatten().clone()}),
        lambda: state.update({name: tensor.flip(0).clone()}),
    ]
    if not plain:
        changes += [
            lambda: state.update({name: Mark(mark)}),
            lambda: state.update({name: None}),
            lambda: state.update({name: tensor.tolist()}),
            lambda: state.update({name: torch.complex(tensor, tensor)}),
            lambda: state.update({name: tensor.to_sparse()}),
            lambda: state.update({name: tensor.to("meta")}),
            lambda: state.update({"more": Mark(mark)}),
        ]
    place = rng.randrange(len(changes))
    changes[place]()
    return name, place


def changed(files, folder, rng, mark):
    files, how = copy.deepcopy(files), None
    kind = rng.choice(["bytes", "bytes", "settings", "tensors"])
    settings = [name for name in files if name in ("header", "cfg") or name.endswith(".json")]
    states = [name for name, content in files.items() if name not in settings and isinstance(content, dict)]
    if kind == "settings" and settings:
        how = change_settings(files[settings[0]], rng)
    elif kind == "tensors" and states:
        how = change_tensors(files[states[0]], rng, mark, states[0].endswith(".safetensors"))
    elif kind == "tensors":
        files = {"sae.pt": [files["sae.pt"], Mark(mark)]}
    written(files, folder)
    if kind == "bytes" or not (settings or states):
        how = change_bytes(folder, rng)
    return kind, how


def seen(dictionary, streams):
    """What is measured of a dictionary at the layer that it names, or None where a model refuses it."""
    if dictionary.point != "residual" or dictionary.layer >= len(streams) - 1:
        return None
    stream = streams[dictionary.layer]
    return None if dictionary.d_in != stream.shape[-1] else fit(dictionary, stream)


def as_the_file_says(found, right, folder):
    """Whether the conventions are the right ones and the numbers those of a safetensors file, which has no checksum."""
    path = folder / "sae_weights.safetensors"
    if not path.exists():
        return False
    said = load(path.read_bytes())
    names = {
        "encoder": "W_enc",
        "encoder_bias": "b_enc",
        "decoder": "W_dec",
        "bias": "b_dec",
        "threshold": "threshold",
    }
    for field in dataclasses.fields(Dictionary):
        if field.name in names:
            told = said.get(names[field.name])
            held = found.encoder.T if field.name == "encoder" else getattr(found, field.name)
            if told is None or not torch.equal(told, held):
                return False
        elif getattr(found, field.name) != getattr(right, field.name):
            return False
    return True


def is_silent(found, right, streams):
    """Whether a dictionary means something else than the right one, and what is measured is the same."""
    now, before = seen(found, streams), seen(right, streams)
    if now is None:
        return False
    inputs = streams[LAYER]
    one, other = found.encode(inputs), right.encode(inputs)
    same = (found.layer, found.point, found.cls_token_only) == (
        right.layer,
        right.point,
        right.cls_token_only,
    )
    for a, b in (
        (one.activations, other.activations),
        (found.reconstruct(inputs), right.reconstruct(inputs)),
    ):
        same &= a.shape == b.shape and bool((a - b).norm() <= 0.01 * b.norm())
    measured_alike = (
        abs(now.explained - before.explained) <= 0.01
        and abs(now.n_active - before.n_active) <= 0.01 * before.n_active
        and now.n_dead == before.n_dead
        and now.n_tokens == before.n_tokens
    )
    return not same and measured_alike


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_changed_files_run_nothing_and_mislead_nobody(layout, principal, streams, tmp_path):
    """200 changed files of each layout: refused, as before, or seen in what is measured; no code is run."""
    rng, mark = random.Random(layout.__name__), tmp_path / "mark"
    folder = tmp_path / "files"
    folder.mkdir()
    files = layout(principal)
    written(files, folder)
    asked = {"layer": LAYER} if layout in (saev, overcomplete) else {}
    if layout is overcomplete:
        with pytest.raises(ValueError, match="a pickled object, which clipviz does not load"):
            Dictionary.load(folder, **asked)
        right = as_dictionary(principal)
    else:
        right = Dictionary.load(folder, **asked)
        assert fit(right, streams[LAYER]).explained > 0.5
    counts = {"refused": 0, "read": 0, "silent": []}
    for n in range(200):
        how = changed(files, folder, rng, mark)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = Dictionary.load(folder, **asked)
        except ValueError:
            counts["refused"] += 1
            continue
        counts["read"] += 1
        if is_silent(found, right, streams) and not as_the_file_says(found, right, folder):
            counts["silent"].append((n, how, found))
    print(layout.__name__, counts)
    assert not mark.exists()
    assert not counts["silent"]
    assert counts["refused"] >= 60


def test_other_settings_are_no_damage(principal, streams, tmp_path):
    """Names that resemble a setting and mean something else are left alone; a changed letter or case is damage."""
    files = saelens(principal)
    files["cfg.json"] |= {
        "model_name": "some model",
        "hook_names": 3,
        "layers": [1],
        "d_in": 48,
        "context_size": 50,
    }
    written(files, tmp_path)
    assert fit(Dictionary.load(tmp_path), streams[LAYER]).explained > 0.5
    for changed_name in ("normalize_activationz", "NORMALIZE_ACTIVATIONS"):
        config = dict(files["cfg.json"])
        config[changed_name] = config.pop("normalize_activations")
        written(files | {"cfg.json": config}, tmp_path)
        with pytest.raises(
            ValueError, match=f"expected the setting 'normalize_activations' in .*{changed_name}"
        ):
            Dictionary.load(tmp_path)


def test_an_archives_checksums_are_compared(principal, tmp_path):
    path = tmp_path / "patch.pt"
    written(patchsae(principal), tmp_path)
    whole = bytearray(path.read_bytes())
    at = whole.index(principal["W_dec"].numpy().tobytes()) + 9
    whole[at] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="a damaged archive"):
        Dictionary.load(path)
    torch.serialization.set_crc32_options(False)
    try:
        written(patchsae(principal), tmp_path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert Dictionary.load(path).n_units == 2 * K
