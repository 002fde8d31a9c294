"""What is refused when a network is opened, because its weights do not say what it does, and what is noticed later."""

from __future__ import annotations

import naive
import pytest
import torch
from PIL import Image
from torch import nn

import clipviz
from tests.models import hf_models


class Lora(nn.Module):
    """A linear layer and something of low rank beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.weight, self.bias = base, base.weight, base.bias
        self.lora_A = nn.Parameter(torch.randn(4, base.in_features) * 0.2)
        self.lora_B = nn.Parameter(torch.randn(base.out_features, 4) * 0.2)

    def forward(self, x):
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T


def test_an_adapter_on_an_mlps_output_is_refused_by_name():
    network = naive.small_clip(3)
    block = network.visual.transformer.resblocks[1]
    block.mlp.c_proj = Lora(block.mlp.c_proj)
    with pytest.raises(
        ValueError,
        match=r"got layer 1 whose MLP ends in Lora, whose output is not its input times.*merge_and_unload",
    ):
        clipviz.wrap(network)
    model, processor = hf_models.clip()
    layer = model.vision_model.encoder.layers[2]
    layer.mlp.fc2 = Lora(layer.mlp.fc2)
    with pytest.raises(ValueError, match="got layer 2 whose MLP ends in Lora"):
        clipviz.wrap(model, processor)


def test_an_adapter_that_has_learnt_nothing_is_no_adapter():
    network = naive.small_clip(3)
    block = network.visual.transformer.resblocks[1]
    block.mlp.c_proj = Lora(block.mlp.c_proj)
    nn.init.zeros_(block.mlp.c_proj.lora_B)
    assert clipviz.wrap(network).sum_check < 1e-5


class OtherImages:
    def encode_image(self, image, normalize=False):
        return super().encode_image(image) + 1


class OtherTexts:
    def encode_text(self, text, normalize=False):
        return super().encode_text(text) + 1


class Scaled:
    def encode_image(self, image, normalize=False):
        return nn.functional.normalize(super().encode_image(image), dim=-1)


def turned(network, other):
    """The network with the methods of another class before its own."""
    network.__class__ = type(other.__name__, (other, type(network)), {})
    return network


def test_an_image_encoder_that_adds_to_its_tower_is_refused():
    with pytest.raises(
        ValueError, match=r"OtherImages\.encode_image gives another embedding than its vision tower"
    ):
        clipviz.wrap(turned(naive.small_clip(3), OtherImages))
    clipviz.wrap(turned(naive.small_clip(3), Scaled))  # the direction is the same


def test_texts_are_encoded_as_the_network_itself_does_it():
    network = turned(naive.small_clip(3), OtherTexts)
    model = clipviz.wrap(network)
    texts = ["a dog", "a photo of a cat"]
    with torch.no_grad():
        expected = network.encode_text(model.tokenizer(texts))
    torch.testing.assert_close(model.encode_texts(texts, normalize=False), expected)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        (lambda n: torch.compile(n), r"the network compiled \(OptimizedModule\).*network\._orig_mod"),
        (lambda n: _with_visual(n, torch.compile), r"visual compiled.*network\.visual\._orig_mod"),
        (lambda n: _with_visual(n, _compiled_in_place), r"visual compiled.*before \.compile\(\)"),
        (nn.DataParallel, r"the network inside DataParallel; pass what it wraps: network\.module"),
        (lambda n: _with_visual(n, nn.DataParallel), r"visual inside DataParallel.*network\.visual\.module"),
    ],
)
def test_wrappers_that_hide_the_tower_are_named(wrapper, message):
    with pytest.raises(ValueError, match=message):
        clipviz.wrap(wrapper(naive.small_clip(3)))


def _with_visual(network, wrapper):
    network.visual = wrapper(network.visual)
    return network


def _compiled_in_place(module):
    module.compile()
    return module


def test_adapters_of_peft_are_merged_on_a_copy():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    adapted = peft.get_peft_model(
        naive.small_clip(3), peft.LoraConfig(target_modules=["c_proj", "c_fc"], init_lora_weights=False, r=4)
    ).eval()
    pixels = torch.randn(2, 3, 32, 32)
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    model = clipviz.wrap(adapted)
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode_images(pixels), adapted.encode_image(pixels), rtol=1e-4, atol=1e-5
        )
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.state_dict().items())
    assert model.trace(pixels).sum_check() < 1e-5
    network, processor = hf_models.clip()
    peft.inject_adapter_in_model(
        peft.LoraConfig(target_modules=["fc2", "k_proj"], init_lora_weights=False, r=4), network
    )
    with torch.no_grad():
        expected = network.get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(
        clipviz.wrap(network, processor).encode_images(pixels), expected, rtol=1e-4, atol=1e-5
    )
    passed_by = peft.get_peft_model(
        naive.small_clip(3), peft.LoraConfig(target_modules=["out_proj"], init_lora_weights=False, r=4)
    )
    with pytest.raises(ValueError, match=r"difference of .* in encode_image; adapters at .*out_proj"):
        clipviz.wrap(passed_by)


@pytest.mark.parametrize("how", ["in place", "behind torch's back", "another tensor", "another module"])
def test_changed_weights_are_noticed(how):
    network = naive.small_clip(3)
    model = clipviz.wrap(network)
    pixels = torch.randn(2, 3, 32, 32)
    expected = model.trace(pixels).embedding
    mlp = network.visual.transformer.resblocks[1].mlp
    linear, weight = mlp.c_proj, mlp.c_proj.weight.detach().clone()
    with torch.no_grad():
        if how == "in place":
            linear.weight[2, 3] += 0.5
        elif how == "behind torch's back":
            linear.weight.data.mul_(1.01)
        elif how == "another tensor":
            linear.weight = nn.Parameter(weight * 1.01)
        else:
            mlp.c_proj = nn.Linear(weight.shape[1], weight.shape[0])
    for ask in (
        lambda: model.trace(pixels),
        lambda: model.encode_texts("a dog"),
        model.identity,
        model.cache_key,
    ):
        with pytest.raises(ValueError, match=r"weights of model 'custom' have changed since it was opened"):
            ask()
    mlp.c_proj = linear
    linear.weight = nn.Parameter(weight)
    assert torch.equal(model.trace(pixels).embedding, expected), "restored, it is the same model"


def test_a_session_shows_nothing_of_weights_that_were_changed():
    model = clipviz.wrap(naive.small_clip(3))
    pictures = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    session = clipviz.Session(model, images=pictures, texts=["a dog", "a cat"], background=False)
    before = session.texts.direction("a dog")
    assert torch.equal(session.texts.direction("a dog"), before)
    model.network.visual.transformer.resblocks[0].mlp.c_proj.weight.data.mul_(2)
    with pytest.raises(ValueError, match="have changed since it was opened"):
        session.texts.direction("a dog")
    panel = clipviz.panels.TextSpan(session)
    session.select(layer=1, head=0)
    session.wait()
    assert "have changed since" in panel.error["message"]
    session.close()


def test_dropout_left_on_is_off_in_every_pass():
    network = naive.small_clip(3)
    network.visual.transformer.resblocks[0].mlp.append(nn.Dropout(0.5))
    network.transformer.resblocks[0].mlp.append(nn.Dropout(0.5))
    model = clipviz.wrap(network)
    pixels = torch.randn(2, 3, 32, 32)

    def answers():
        return model.trace(pixels).embedding, model.encode_images(pixels), model.encode_texts("a dog")

    expected = answers()
    network.train()
    assert all(torch.equal(one, other) for one, other in zip(answers(), expected, strict=True))
    assert all(module.training for module in network.modules()), "the network is left in the mode it was in"


def test_a_preprocessing_with_random_steps_is_refused():
    import torchvision.transforms as steps

    crop = steps.Compose([steps.RandomResizedCrop(32), steps.ToTensor()])
    with pytest.raises(ValueError, match=r"gives the same pixels each time.*transform for evaluation"):
        clipviz.wrap(naive.small_clip(3), preprocess=crop)
