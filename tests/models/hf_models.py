"""Tiny random Hugging Face models with processors of their own, made without a network."""

from __future__ import annotations

import naive
import torch

WORDS = ["<pad>", "<unk>", "<start>", "<end>", "a", "photo", "of", "dog", "cat", "red", "circle", "the"]
VISION = {
    "hidden_size": 36,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "vocab_size": len(WORDS),
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 12,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", bos_token="<start>", eos_token="<end>"
    )


def clip_processor(images):
    """A CLIPProcessor with the tokenizer above, which transformers 4.53 takes and opens only if its class is named."""
    import transformers

    if hasattr(transformers.CLIPProcessor, "tokenizer_class"):
        transformers.CLIPProcessor.tokenizer_class = "PreTrainedTokenizerFast"
    return transformers.CLIPProcessor(image_processor=images, tokenizer=tokenizer())


def clip():
    """A CLIPModel and its processor."""
    import transformers

    config = transformers.CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=20)
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    size = {"height": 32, "width": 32}
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    return perturbed(model), clip_processor(images)


def siglip():
    """A SiglipModel and its processor."""
    import transformers

    config = transformers.SiglipConfig(vision_config=VISION, text_config={**TEXT, "hidden_size": 36})
    torch.manual_seed(1)
    model = transformers.SiglipModel(config).eval()
    images = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    return perturbed(model), transformers.SiglipProcessor(image_processor=images, tokenizer=tokenizer())


def chinese_clip():
    """A ChineseCLIPModel and its processor: a text tower that reads all tokens."""
    import transformers

    text = {**TEXT, "type_vocab_size": 2}
    config = transformers.ChineseCLIPConfig(vision_config=VISION, text_config=text, projection_dim=20)
    torch.manual_seed(2)
    model = transformers.ChineseCLIPModel(config).eval()
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return perturbed(model), clip_processor(images)


def altclip():
    """An AltCLIPModel and its processor."""
    import transformers

    text = {**TEXT, "type_vocab_size": 2, "project_dim": 28, "max_position_embeddings": 16}
    config = transformers.AltCLIPConfig(vision_config=VISION, text_config=text, projection_dim=20)
    torch.manual_seed(3)
    model = transformers.AltCLIPModel(config).eval()
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return perturbed(model), clip_processor(images)


def perturbed(model):
    network = torch.nn.Module()
    network.visual = model.vision_model
    naive.perturb(network, 11)
    return model
