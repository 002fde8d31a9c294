"""Hooks: what is recorded, under which names, and that nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clipviz.models.hooks import activation_maps, as_maps, matching_modules


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.conv1(x))) + x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layer1, self.layer2 = nn.Sequential(Block(), Block()), nn.Sequential(Block())
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


def n_hooks(network):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_patterns_stop_at_dots_and_keep_the_networks_order():
    network = Net()
    assert matching_modules(network, ["layer2.*", "layer1.*"]) == ["layer1.0", "layer1.1", "layer2.0"]
    assert matching_modules(network, "layer[12].0.relu") == ["layer1.0.relu", "layer2.0.relu"]
    assert matching_modules(network, "**.conv1") == ["layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1"]
    with pytest.raises(ValueError, match=r"no module of Net is called 'layer3\.\*'; it has stem, layer1"):
        matching_modules(network, "layer3.*")


def test_maps_are_the_modules_outputs_and_a_shared_relu_gives_each_call():
    network, images = Net(), torch.rand(2, 3, 5, 6)
    with activation_maps(network, ["stem", "layer1.0.relu", "layer1.0"]) as maps:
        network(images)
    assert list(maps) == ["stem", "layer1.0.relu", "layer1.0.relu#1", "layer1.0"]
    torch.testing.assert_close(maps["stem"], network.stem(images).detach())
    torch.testing.assert_close(maps["layer1.0.relu#1"], maps["layer1.0"])
    assert maps["layer1.0.relu"].shape == (2, 4, 5, 6)


def test_a_second_pass_replaces_the_first():
    network = Net()
    with activation_maps(network, "layer*.*") as maps:
        network(torch.rand(2, 3, 4, 4))
        network(torch.rand(3, 3, 4, 4))
        assert len(maps) == 3
        assert {len(m) for m in maps.values()} == {3}


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was_even_by_an_error(training):
    network = Net().train(training)
    weights = {k: v.clone() for k, v in network.state_dict().items()}

    def failing_pass():
        with activation_maps(network, "**.conv1"):
            assert n_hooks(network) == 4
            network(torch.rand(1, 2, 4, 4))

    with pytest.raises(RuntimeError, match="expected input"):
        failing_pass()
    assert n_hooks(network) == 0
    assert network.training is training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(v, weights[k]) for k, v in network.state_dict().items())


def test_detach_false_carries_gradients_to_the_input():
    network, images = Net(), torch.rand(1, 3, 4, 4, requires_grad=True)
    with activation_maps(network, "layer1.1", detach=False) as maps:
        network(images)
    maps["layer1.1"].sum().backward()
    assert images.grad is not None
    with activation_maps(network, "layer1.1") as maps:
        network(images)
    assert not maps["layer1.1"].requires_grad


def test_tokens_become_maps_without_the_class_token():
    tokens = torch.arange(2 * 7 * 3.0).reshape(2, 7, 3)
    maps = as_maps(tokens, grid=(2, 3))
    assert maps.shape == (2, 3, 2, 3)
    assert maps[1, 2, 1, 0] == tokens[1, 1 + 3, 2], "row 1, column 0 is image token 3, behind the class token"
    assert as_maps(torch.rand(1, 5, 8)).shape == (1, 8, 2, 2)
    assert as_maps(torch.rand(1, 4, 8)).shape == (1, 8, 2, 2)
    assert as_maps(torch.rand(1, 9 + 5, 8)).shape == (1, 8, 3, 3)


def test_an_output_that_is_no_map_is_refused_by_name():
    with (
        pytest.raises(ValueError, match=r"expected head to give .* got \[1, 2\]"),
        activation_maps(network := Net(), "head"),
    ):
        network(torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match="7 tokens, which are no square grid"):
        as_maps(torch.rand(1, 7, 2), prefix_tokens=0)
    with pytest.raises(ValueError, match="7 tokens, which are not 2 and a grid of 2 x 3"):
        as_maps(torch.rand(1, 7, 2), grid=(2, 3), prefix_tokens=2)


def test_activation_and_token_first_order():
    network = nn.Sequential(nn.Identity())
    tokens = torch.randn(5, 2, 3)
    with activation_maps(network, "0", activation=torch.relu, batch_first=False) as maps:
        network(tokens)
    torch.testing.assert_close(maps["0"], as_maps(tokens.relu().transpose(0, 1)))
