"""The shipped partners learned what they say they learned, on scenes that no training drew."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from clipviz.demo.partners import load_net, save_net
from tools.demo.partners import world_scenes


@pytest.fixture(scope="module")
def scenes():
    images, answers = world_scenes(160, seed=909)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, answers


@torch.no_grad()
def test_the_cnn_tells_backgrounds_and_colours_apart(scenes):
    images, answers = scenes
    logits = load_net("cnn")((images - 0.5) / 0.25)
    for question, least in (("background", 0.7), ("colour", 0.5)):
        truth = torch.from_numpy(answers[question])
        known = truth >= 0
        right = (logits[question].argmax(1)[known] == truth[known]).float().mean()
        assert right > least > 2 * truth[known].bincount().max() / known.sum()


@torch.no_grad()
def test_the_masked_autoencoder_paints_hidden_patches_better_than_their_mean(scenes):
    images = (scenes[0] - 0.5) / 0.25
    patches = F.unfold(images, 8, stride=8).transpose(1, 2)
    patches = (patches - patches.mean(2, keepdim=True)) / (patches.var(2, keepdim=True) + 1e-2).sqrt()
    loss = load_net("vit").loss(images, torch.Generator().manual_seed(0))
    assert loss < 0.6 * patches.square().mean()


@torch.no_grad()
def test_weights_in_eight_bits_take_half_the_space_and_answer_alike(scenes, tmp_path):
    net, images = load_net("cnn"), (scenes[0][:60] - 0.5) / 0.25
    for matrix in net.parameters():
        matrix.mul_(
            1 + 0.01 * torch.randn_like(matrix)
        )  # the embedded ones lie on steps of eight bits already
    half, eight = tmp_path / "half.safetensors", tmp_path / "eight.safetensors"
    save_net(net, half)
    save_net(net, eight, eight_bits=True)
    assert eight.stat().st_size < 0.55 * half.stat().st_size
    whole, narrow = net(images), load_net("cnn", eight)(images)
    for question, logits in whole.items():
        same = (logits.argmax(1) == narrow[question].argmax(1)).float().mean()
        assert same > 0.95, question
        assert not torch.equal(logits, narrow[question])
