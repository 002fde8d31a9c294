"""Generators: the adapters' surface, checked on stand-ins with the signatures of the real modules."""

from __future__ import annotations

import json
import pickle
from types import SimpleNamespace

import pytest
import torch
from random_stylegan2 import random_state
from safetensors.torch import save_file
from torch import nn

import clipviz
from clipviz.lens import invert
from clipviz.models.generator import AtLatents, Generator, biggan, stylegan2, stylegan_xl


class Synthesis(nn.Module):
    def __init__(self, prefix):
        super().__init__()
        self.first = f"{prefix}4"
        self.add_module(self.first, nn.ModuleDict({"conv1": nn.ConvTranspose2d(5, 3, 4)}))

    def forward(self, latents, noise_mode="random"):
        assert noise_mode == "const"
        return torch.tanh(self.get_submodule(self.first)["conv1"](latents[:, :, None, None]))


class StyleGan(nn.Module):
    def __init__(self, n_classes=0):
        super().__init__()
        self.z_dim, self.c_dim = 5, n_classes
        self.mapping, self.synthesis = Mapping(n_classes), Synthesis("b")


class Mapping(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.n_classes = n_classes

    def forward(self, latents, labels, truncation_psi=1.0):
        assert (labels is None) == (self.n_classes == 0)
        return latents * truncation_psi * self.scale


class BigGanBlock(nn.Module):
    def __init__(self, n_in, size):
        super().__init__()
        self.conv, self.relu = nn.ConvTranspose2d(n_in, 3, size), nn.ReLU()

    def forward(self, maps):
        return self.relu(self.conv(maps)) - 0.5


class BigGan(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(z_dim=6, num_classes=4)
        self.generator = nn.Module()
        self.generator.layers = nn.ModuleList([BigGanBlock(10, 2), BigGanBlock(3, 1)])
        self.generator.relu = nn.ReLU()

    def forward(self, latents, class_label, truncation):
        maps = torch.cat([latents, class_label], 1)[:, :, None, None]
        for layer in self.generator.layers:
            maps = layer(maps)
        return torch.tanh(self.generator.relu(maps))


def check_contract(generator, n_layers):
    assert isinstance(generator, Generator)
    latents = generator.sample(3, seed=1)
    torch.testing.assert_close(latents, generator.sample(3, seed=1))
    assert not torch.equal(latents, generator.sample(3, seed=2))
    images, maps = generator.images(latents), generator.maps(latents)
    assert images.shape[:2] == (3, 3)
    assert 0 <= images.min() <= images.max() <= 1
    assert len(maps) == n_layers
    assert not any(m.requires_grad for m in maps.values())
    live = latents.clone().requires_grad_(True)
    painted, live_maps = generator.generate(live)
    torch.testing.assert_close(painted.clamp(0, 1).detach(), images)
    (gradient,) = torch.autograd.grad(sum(m.sum() for m in live_maps.values()), live)
    assert gradient.abs().sum() > 0


def test_stylegan2_paints_from_w():
    check_contract(stylegan2(StyleGan()), 1)


def test_biggan_paints_one_class():
    torch.manual_seed(0)
    generator = biggan(BigGan(), class_index=2)
    check_contract(generator, 3)
    assert all(maps.min() >= 0 for maps in generator.maps(generator.sample(4)).values())
    with pytest.raises(ValueError, match=r"class in 0\.\.3, got 4"):
        biggan(BigGan(), class_index=4)


def test_stylegan_xl_reads_its_numbered_layers():
    module = StyleGan(n_classes=7)
    module.synthesis = nn.Sequential()
    module.synthesis.add_module("L0_4", nn.Conv2d(3, 3, 1))
    module.synthesis.forward = lambda latents, noise_mode: torch.tanh(
        module.synthesis.get_submodule("L0_4")(latents[:, :3, None, None])
    )
    check_contract(stylegan_xl(module, class_index=6), 1)


def test_the_real_biggan_opens_from_its_weights(tmp_path):
    package = pytest.importorskip(
        "pytorch_pretrained_biggan", reason="the extra clipviz[biggan] is not installed"
    )
    torch.manual_seed(0)
    described = {
        **{"z_dim": 8, "class_embed_dim": 8, "channel_width": 8, "num_classes": 5, "output_dim": 16},
        **{
            "layers": [[False, 16, 8], [True, 8, 4], [True, 4, 2], [False, 2, 1]],
            "attention_layer_position": 2,
        },
    }
    network = package.BigGAN(package.BigGANConfig.from_dict(described)).eval()
    for module in network.modules():
        if isinstance(module, package.model.BigGANBatchNorm) and not module.conditional:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    save_file(network.state_dict(), tmp_path / "biggan.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(described))
    generator = clipviz.load_generator(tmp_path / "biggan.safetensors", kind="biggan", class_index=3)
    check_contract(generator, 4 * 4 + 1)  # four ReLUs in each block, one at the end
    latents = generator.sample(2, seed=4)
    label = torch.eye(5)[[3, 3]]
    wanted = (network(latents, label, 0.4) + 1) / 2
    torch.testing.assert_close(generator.images(latents), wanted.detach(), atol=1e-5, rtol=1e-4)
    maps = generator.maps(latents)
    assert all(values.min() >= 0 for values in maps.values())


def test_a_module_takes_its_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    taught, blank = StyleGan(), StyleGan()
    nn.init.zeros_(blank.synthesis.b4["conv1"].weight)
    save_file(taught.state_dict(), tmp_path / "g.safetensors")
    generator = clipviz.load_generator(blank, kind="stylegan2", checkpoint=tmp_path / "g.safetensors")
    latents = generator.sample(3)
    torch.testing.assert_close(generator.images(latents), stylegan2(taught).images(latents))
    torch.save({"w": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not fit stylegan2"):
        clipviz.load_generator(blank, kind="stylegan2", checkpoint=tmp_path / "other.pth")


def test_files_that_cannot_be_opened_say_what_to_do(tmp_path):
    pickled = tmp_path / "ffhq.pkl"
    pickled.write_bytes(pickle.dumps({"G_ema": print}))
    for arguments in (
        {"source": pickled, "kind": "stylegan2"},
        {"source": StyleGan(), "checkpoint": pickled},
    ):
        with pytest.raises(ValueError, match=r"is a pickle.*save_file\(network\.state_dict"):
            clipviz.load_generator(**{"kind": "stylegan3", **arguments})
    renamed = tmp_path / "ffhq.pth"
    renamed.write_bytes(pickled.read_bytes())
    with pytest.raises(ValueError, match=r"cannot be read as weights alone"):
        clipviz.load_generator(StyleGan(), kind="stylegan2", checkpoint=renamed)
    with pytest.raises(ValueError, match=r"pass the stylegan_xl network that they belong to"):
        clipviz.load_generator(tmp_path / "g.safetensors", kind="stylegan_xl")
    with pytest.raises(ValueError, match=r"expected the kind of generator \(biggan, .*got None"):
        clipviz.load_generator("dreams")


def test_another_module_is_refused_by_what_it_lacks():
    with pytest.raises(ValueError, match=r"expected a stylegan2 module .* got Linear without \.mapping"):
        stylegan2(nn.Linear(2, 2))


def test_a_generator_from_a_file_can_be_inverted(tmp_path):
    save_file(random_state(), tmp_path / "g.safetensors")
    generator = clipviz.load_generator(tmp_path / "g.safetensors")
    check_contract(generator, 5)
    latents, layer = generator.sample(1), "b8.conv1"
    target, maps = generator.images(latents), generator.maps(latents)
    variance, mean = torch.var_mean(generator.maps(generator.sample(8, seed=2))[layer], dim=(0, 2, 3))
    std = variance.sqrt()
    units = (std > 0).nonzero()[:, 0]
    pairs = [invert.UnitPairs(layer, layer, units, units, *[mean[units], std[units]] * 2)]
    found = invert.invert(
        generator.generate,
        generator.sample(1, seed=9),
        target_images=target,
        target_maps=maps,
        pairs=pairs,
        alpha=0.0,
        beta=10.0,  # random weights paint far beyond 0..1, so that pixels would drown the maps
        schedule=invert.Schedule(60, 0.1),
    )
    assert found.losses[-1] < 0.1 * found.losses[0]
    assert found.objectives[-1] < 0.1 * found.objectives[0]


def test_two_generators_are_matched_at_latents_that_they_share_and_not_otherwise():
    torch.manual_seed(0)
    one, other = stylegan2(StyleGan()), stylegan2(StyleGan())
    latents = one.sample(40, seed=3)
    with pytest.raises(ValueError, match="at most one generator, got 'stylegan2' and 'stylegan2'"):
        clipviz.match(one, other, latents)
    table = clipviz.match(AtLatents(one), AtLatents(other), latents).correlation
    maps = [
        next(iter(each.maps(latents).values())).double().transpose(0, 1).flatten(1) for each in (one, other)
    ]
    expected = torch.corrcoef(torch.cat(maps))[: len(maps[0]), len(maps[0]) :]
    torch.testing.assert_close(table.double(), expected, atol=1e-5, rtol=0)
    same = clipviz.match(one, one, latents)  # a generator with itself shares its latents
    torch.testing.assert_close(same.correlation.diagonal(), torch.ones(len(maps[0])))
