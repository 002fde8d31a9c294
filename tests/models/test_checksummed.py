"""Weights on disk: a file with one changed bit is refused, and the fingerprint sees every number."""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import clipviz
from clipviz.demo.generator import demo_generator, locator
from clipviz.demo.model import network
from clipviz.demo.partners import ASSETS, NETS, load_net
from clipviz.models.checksummed import STEP, digest_of, narrowed, open_network, read_weights, write_weights

SHIPPED = {
    "model": (network.WEIGHTS_FILE, partial(network.load_weights, None)),
    **{name: (ASSETS / f"{name}.safetensors", lambda path, name=name: load_net(name, path)) for name in NETS},
    "the generator": (demo_generator.WEIGHTS, demo_generator.open_demo_generator),
    "the locator": (locator.WEIGHTS, locator.open_locator),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_no_changed_bit_of_shipped_weights_is_loaded(name, tmp_path):
    path, load = SHIPPED[name]
    content, draw = bytearray(path.read_bytes()), random.Random(0)
    header = 8 + int.from_bytes(content[:8], "little")
    copy = tmp_path / "changed.safetensors"
    for at in [
        draw.randrange(8),
        *(draw.randrange(8, header) for _ in range(4)),
        *draw.sample(range(header, len(content)), 4),
    ]:
        changed = bytearray(content)
        changed[at] ^= 1 << draw.randrange(8)
        copy.write_bytes(changed)
        with pytest.raises(ValueError, match=r"expected .*(damaged|cannot be read)"):
            load(copy)
    copy.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        load(copy)
    with pytest.raises(ValueError, match=r"does not exist; .*(train|reinstall)"):
        load(tmp_path / "nothing.safetensors")


def test_weights_of_another_network_are_refused_and_those_without_a_checksum_read(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.eye(2), "bias": torch.zeros(2)}, path)
    assert read_weights(path, "weights", "do")[0]["weight"].equal(torch.eye(2))
    assert open_network(lambda: nn.Linear(2, 2), path, "weights", "do").weight.equal(torch.eye(2))
    with pytest.raises(ValueError, match="weights of another network"):
        open_network(lambda: nn.Linear(3, 2), path, "weights", "do")
    with pytest.raises(ValueError, match="weights of another network"):
        open_network(lambda size: nn.Linear(size, 2), path, "weights", "do")
    write_weights(path, {"a": torch.ones(2), "none": torch.zeros(0)}, {"b": "c"})
    tensors, texts = read_weights(path, "weights", "do")
    assert (tensors["a"].tolist(), texts) == ([1.0, 1.0], {"b": "c"})


def test_eight_bits_are_off_by_half_a_step_of_their_row_at_most(tmp_path):
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(90, 6, 10, generator=draw) * torch.logspace(-7, 3, 90).view(-1, 1, 1)
    rows[3] = 0
    whole = {"large": rows, "vector": rows.flatten()[:5000], "small": rows[:2], "ids": torch.arange(5000)}
    stored = narrowed(whole)
    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        "large": torch.int8,
        "large" + STEP: torch.half,
        "vector": torch.half,
        "small": torch.half,
        "ids": torch.int64,
    }
    path = tmp_path / "w.safetensors"
    write_weights(path, stored, {})
    read, _ = read_weights(path, "weights", "do")
    assert set(read) == set(whole)
    largest = rows.abs().amax((1, 2))
    step = largest / 127
    off = (read["large"] - rows).abs().amax((1, 2))
    assert bool((off <= 0.5 * (step * (1 + 2**-9) + 2**-24) + 1e-9).all())
    assert bool(
        (off[largest > 1e-3] > 0.3 * step[largest > 1e-3]).all()
    )  # and no better: these are eight bits
    assert read["large"][3].eq(0).all()
    assert read["ids"].equal(whole["ids"])
    assert narrowed(read)["large"].equal(stored["large"])  # what is read is written as it was


def test_a_digest_sees_every_bit_and_no_precision_that_holds_the_numbers():
    draw = torch.Generator().manual_seed(0)
    weights = {"a": torch.randn(40, 30, generator=draw).half(), "b": torch.randn(7, generator=draw).half()}
    whole = digest_of(weights)
    assert whole == digest_of({name: w.float() for name, w in weights.items()})
    assert whole == digest_of({name: w.double() for name, w in weights.items()})
    for at in range(0, 1200, 97):
        bits = weights["a"].clone().view(torch.int16)
        bits.view(-1)[at] ^= 1
        assert digest_of({**weights, "a": bits.view(torch.float16)}) != whole
    assert digest_of({"a": weights["a"].double() + 1e-12, "b": weights["b"]}) != whole


def test_a_models_fingerprint_sees_every_weight(model):
    before = model.fingerprint
    weight = model.network.visual.transformer.resblocks[3].mlp.c_fc.weight.detach()
    at, kept = divmod(54_321, weight.shape[1]), None
    try:
        kept = weight[at].clone()
        weight[at] = torch.nextafter(kept, torch.tensor(9.0))
        assert clipviz.wrap(model.network, model.tokenizer, model.preprocess).fingerprint != before
    finally:
        weight[at] = kept
    assert clipviz.wrap(model.network, model.tokenizer, model.preprocess).fingerprint == before
