"""Texts are encoded without the tokens that nothing reads, exactly; a foreign vocabulary is refused by name."""

from __future__ import annotations

import naive
import pytest
import torch

import clipviz
from clipviz.models.text_towers import encode_tokens
from tests.models.families import FAMILIES

TEXTS = ["a dog", "a photo of a red circle on the left", "x"]


def clip(**text):
    """A small network of open_clip with a text tower of this kind."""
    from open_clip.model import CLIP

    vision = {"layers": 1, "width": 24, "head_width": 12, "patch_size": 8, "image_size": 16}
    shape = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    return CLIP(20, vision, shape | text).eval()


@pytest.mark.parametrize("pool", ["argmax", "eos", "last"])
def test_encoding_equals_the_models_own(pool):
    torch.manual_seed(0)
    network = clip(layers=2, pool_type=pool, eos_id=49407)
    model = clipviz.wrap(network)
    tokens = model.tokenizer(TEXTS)
    seen = []
    network.ln_final.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    with torch.no_grad():
        found, expected = encode_tokens(network, tokens), network.encode_text(tokens)
    assert torch.allclose(found, expected, atol=1e-6)
    longest = int(tokens.argmax(-1).max()) + 1
    assert seen == [24 if pool == "last" else longest, 24]
    assert longest < 24


def test_a_tower_without_a_causal_mask_runs_whole():
    network = clip(context_length=16, no_causal_mask=True)
    tokens = clipviz.wrap(network).tokenizer(TEXTS)
    with torch.no_grad():
        assert torch.equal(encode_tokens(network, tokens), network.encode_text(tokens))


def test_a_foreign_vocabulary_without_its_tokenizer_is_refused():
    network = clip(context_length=8, vocab_size=32000)
    with pytest.raises(ValueError, match=r"text tower CLIP, whose vocabulary of 32000.*tokenizer="):
        clipviz.wrap(network)
    assert clipviz.wrap(network, tokenizer=lambda texts: torch.zeros(len(texts), 8).long()).sum_check < 1e-5
    assert clipviz.wrap(naive.small_clip()).encode_texts("a dog").shape == (1, 20)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("RN50", "ModifiedResNet"),
        ("convnext_base", "ConvNeXt"),
        ("MobileCLIP-S1", "FastVit"),
        ("swin_base_patch4_window7_224", "SwinTransformer"),
    ],
)
def test_convolutional_towers_are_refused_before_any_download(name, named, monkeypatch):
    import open_clip

    monkeypatch.setattr(open_clip, "create_model_and_transforms", lambda *_, **__: pytest.fail("downloaded"))
    tags = open_clip.list_pretrained_tags_by_model(name) or ["nothing"]
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda _: tags)
    with pytest.raises(ValueError, match=f"architecture '{name}'.*{named}.*Rosetta partner"):
        clipviz.load(name, pretrained=tags[0], device="cpu")


@pytest.mark.parametrize("family", ["class token", "GAP", "SigLIP"])
@pytest.mark.parametrize("wrong", [10**6, -1])
def test_ids_of_another_vocabulary_are_refused_before_they_reach_the_tower(family, wrong):
    network = FAMILIES[family]()
    own = clipviz.wrap(network).tokenizer
    size = network.token_embedding if hasattr(network, "token_embedding") else network.text.token_embedding

    def other(texts):
        return own(texts).index_fill(1, torch.tensor([1]), wrong)

    model = clipviz.wrap(network, tokenizer=other)
    with pytest.raises(
        ValueError,
        match=rf"token ids within 0\.\.{size.num_embeddings - 1}, .* got {wrong}; pass the tokenizer",
    ):
        model.encode_texts(["a dog"])
