"""The embedded generator: what clipviz.load_generator gives, its latents, hooks, gradients, errors and training."""

from __future__ import annotations

import copy

import pytest
import torch

import clipviz
from clipviz.analysis.rosetta.matching import match
from clipviz.demo.generator.demo_generator import WEIGHTS
from clipviz.demo.generator.network import LAYERS
from clipviz.demo.generator.teacher import render
from clipviz.models.generator import Generator
from clipviz.values import Latents
from tools.demo import generator as train


@pytest.fixture(scope="module")
def generator():
    return clipviz.load_generator("demo")


@pytest.fixture(scope="module")
def latents(generator):
    return generator.sample(24, seed=3)


def test_it_is_small_and_honours_the_contract(generator):
    assert isinstance(generator, Generator)
    assert generator.n_latent <= 128
    assert len(generator.classes) >= 16
    assert generator.side >= 64
    assert sum(p.numel() for p in generator.module.parameters()) <= 2_000_000
    assert WEIGHTS.stat().st_size < 4_000_000
    assert not any(p.requires_grad for p in generator.module.parameters())


def test_samples_follow_the_seed_and_the_label(generator):
    first, again, other = (generator.sample(5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.z, again.z)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.z, other.z)
    ducks = generator.sample(5, seed=1, label="duck")
    assert torch.equal(ducks.z, first.z)
    assert {generator.classes[i] for i in ducks.label.tolist()} == {"duck"}
    assert torch.equal(ducks.label, generator.sample(5, label=generator.classes.index("duck")).label)


def test_pictures_do_not_depend_on_their_company(generator, latents):
    images = generator.images(latents)
    assert images.shape == (24, 3, generator.side, generator.side)
    assert 0 <= images.min() <= images.max() <= 1
    torch.testing.assert_close(generator.images(latents.take([7, 2])), images[[7, 2]], atol=1e-5, rtol=0)
    torch.testing.assert_close(generator.images(latents[3]), images[3:4], atol=1e-5, rtol=0)


def test_pictures_resemble_the_truth(generator, latents):
    truth = render(latents.z, latents.label).images
    apart = (generator.images(latents) - truth).abs().mean((1, 2, 3))
    others = (generator.images(latents) - truth.roll(1, 0)).abs().mean((1, 2, 3))
    assert apart.median() < 0.08
    assert (apart < others).float().mean() > 0.9


def test_pictures_are_differentiable_in_the_latent(generator):
    latents = generator.sample(2, seed=5)
    z = latents.z.clone().requires_grad_(True)
    images, maps = generator.generate(latents.moved(z))
    assert set(maps) == set(LAYERS)
    (gradient,) = torch.autograd.grad(images.sum(), z, retain_graph=True)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum(1) > 0).all()
    for values in maps.values():
        (gradient,) = torch.autograd.grad(values.sum(), z, retain_graph=True)
        assert (gradient.abs().sum(1) > 0).all()
    (gradient,) = torch.autograd.grad(generator.images(latents.moved(z)).sum(), z)
    network, exact = copy.deepcopy(generator.module).double(), latents.z.double().requires_grad_(True)
    (slope,) = torch.autograd.grad(network(exact, latents.label).sum(), exact)
    torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=1e-3 * float(slope.abs().max()))
    with torch.no_grad():
        step = 1e-7 * torch.nn.functional.normalize(torch.ones_like(exact), dim=1)
        difference = network(exact + step, latents.label).sum() - network(exact - step, latents.label).sum()
    assert (2 * slope * step).sum().item() == pytest.approx(difference.item(), rel=1e-3)


def test_maps_are_those_of_one_forward_pass(generator, latents):
    maps = generator.maps(latents)
    _, live = generator.generate(latents)
    for layer in LAYERS:
        torch.testing.assert_close(maps[layer], live[layer])
        assert maps[layer].min() >= 0
        assert not maps[layer].requires_grad
    assert list(generator.maps(latents[:2], ["coarse*"])) == ["coarse1", "coarse2"]


def test_its_units_match_those_of_a_partner(generator):
    matches = match(generator, clipviz.load_partner("cnn"), generator.sample(48, seed=2), k=3, above=0.5)
    assert len(matches.pairs) >= 10
    assert [layer for layer, _ in matches.layers_a] == list(LAYERS)


def test_bad_latents_are_clear_errors(generator, latents):
    z, label = latents.z, latents.label
    with pytest.raises(ValueError, match="expected latents of 24 numbers, got 7"):
        generator.images(Latents(z[:, :7], label))
    with pytest.raises(ValueError, match="NaN"):
        generator.images(latents.moved(z.clone().fill_(float("nan"))))
    with pytest.raises(ValueError, match=r"labels in 0\.\."):
        generator.images(Latents(z, label + 100))
    with pytest.raises(ValueError, match="one label"):
        Latents(z, label[:3])
    with pytest.raises(ValueError, match="floating point"):
        Latents(z.long(), label)
    with pytest.raises(TypeError, match=r"expected Latents, got Tensor; take generator\.sample"):
        generator.images(z)
    with pytest.raises(ValueError, match=r"expected a label among .*got 'unicorn'"):
        generator.sample(2, label="unicorn")
    with pytest.raises(ValueError, match="got 0"):
        generator.sample(0)
    with pytest.raises(ValueError, match="does not exist"):
        clipviz.load_generator("demo", checkpoint="nowhere.safetensors")
    assert generator.images(latents).shape[0] == len(latents)


def test_a_killed_run_ends_as_if_it_had_never_stopped(tmp_path, monkeypatch):
    short = ["--pictures", "16", "--batch-size", "4", "--reader-steps", "3", "--checkpoint-steps", "1"]
    short += ["--threads", "1", "--feature-every", "2"]
    train.main([str(tmp_path / "whole"), *short])
    step = train.Trainer.train_step

    def killed(self, batch):
        if self.step == 2:
            raise KeyboardInterrupt
        step(self, batch)

    monkeypatch.setattr(train.Trainer, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train.main([str(tmp_path / "parts"), *short])
    monkeypatch.setattr(train.Trainer, "train_step", step)
    train.main([str(tmp_path / "parts"), *short])
    whole, parts = (
        clipviz.load_generator(
            "demo", checkpoint=tmp_path / run / "generator.safetensors"
        ).module.state_dict()
        for run in ("whole", "parts")
    )
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name
