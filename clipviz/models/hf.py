"""Hugging Face models (CLIP, MetaCLIP 2, SigLIP, AltCLIP, Chinese CLIP) and their processors, from the hub or a
folder.

Needs the extra `clipviz[hf]`. Preprocessing and tokenizer come from the processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from clipviz.data.paths import path_of
from clipviz.models.towers.anatomy import UnsupportedTower

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODEL_TYPES = {
    "clip": "CLIPModel",
    "siglip": "SiglipModel",
    "metaclip_2": "MetaClip2Model",
    "altclip": "AltCLIPModel",
    "chinese_clip": "ChineseCLIPModel",
}
CAUSAL = ("clip", "metaclip_2")  # causal text towers, which read the end-of-text token's row
MASKED = ("altclip", "chinese_clip")  # text towers that read all tokens and need an attention mask
MOST_TOKENS = 77  # texts are padded to this length even if a text tower accepts more
_SHOWN = 5
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NEEDED = 'Hugging Face models need the package transformers: pip install "clipviz[hf]"'


class HfTower(nn.Module):
    """A vision model and its projection as one module that takes pixels; its parts belong to the model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        self.visual_projection = getattr(model, "visual_projection", None)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return unnormalised embeddings [image, d_embed] of pixels [image, 3, rows, cols]."""
        pooled = self.vision_model(pixel_values=pixels).pooler_output
        found: Tensor = pooled if self.visual_projection is None else self.visual_projection(pooled)
        return found


class HfNetwork(nn.Module):
    """A Hugging Face image-text model under the names that clipviz uses: visual, encode_text, logit_scale and so on."""

    model: Any

    def __init__(self, model: PreTrainedModel, pad: int = 0) -> None:
        super().__init__()
        self.model = model
        self.pad = pad
        self.__dict__["visual"] = HfTower(model)  # not registered: its tensors are the model's own

    @property
    def logit_scale(self) -> Tensor:
        found: Tensor = self.model.logit_scale
        return found

    @property
    def logit_bias(self) -> Tensor | None:
        return getattr(self.model, "logit_bias", None)

    @property
    def shortens(self) -> bool:
        """Whether encode_text skips the tokens after the end of every text."""
        return self.model.config.model_type in CAUSAL

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return unnormalised embeddings [text, d_embed] of token ids [text, token]."""
        if self.shortens:  # nothing depends on tokens after the end of a text
            end = self.model.config.text_config.eos_token_id
            ends = tokens.argmax(-1) if end == 2 else (tokens == end).int().argmax(-1)
            tokens = tokens[:, : int(ends.max()) + 1]
        return self.encode_whole(tokens)

    def encode_whole(self, tokens: Tensor) -> Tensor:
        """Return the same embeddings by the model's own method, over all tokens."""
        masked = self.model.config.model_type in MASKED
        mask = {"attention_mask": torch.ne(tokens, self.pad).long()} if masked else {}
        return _features(self.model.get_text_features(input_ids=tokens, **mask))

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return unnormalised image embeddings by the model's own method, for comparison with those of its tower."""
        return _features(self.model.get_image_features(pixel_values=pixels))


def _features(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else found.pooler_output


class HfTokenizer:
    """Turns texts into token ids [text, token] with the processor, padded to the text tower's context."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        texts = [texts] if isinstance(texts, str) else list(texts)
        found = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.context_length, return_tensors="pt"
        )
        result: Tensor = found["input_ids"]
        return result


class HfPreprocess:
    """Turns PIL images into pixels [3, rows, cols] with the processor; mean and std are its normalisation."""

    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor
        self.mean = [float(v) for v in image_processor.image_mean]
        self.std = [float(v) for v in image_processor.image_std]

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.as_tensor(
            np.asarray(self.image_processor(image, return_tensors="pt")["pixel_values"][0])
        )


def is_hf_model(network: object) -> bool:
    """Return whether an object is any model of the package transformers."""
    return any(kind.__module__.startswith("transformers.") for kind in type(network).__mro__)


def open_up(model: Any, processor: Any) -> tuple[HfNetwork, HfTokenizer, HfPreprocess]:
    """Return network, tokenizer and preprocessing of a Hugging Face model and its processor.

    Raises ValueError for a model of another type, a missing processor, or one whose pixels do not fit.
    """
    check_type(getattr(model.config, "model_type", "?"), type(model).__name__)
    tokenizer, images = getattr(processor, "tokenizer", None), getattr(processor, "image_processor", None)
    if tokenizer is None or images is None:
        raise ValueError(
            f"expected a processor with a tokenizer and an image processor for {type(model).__name__}, got "
            f"{type(processor).__name__}; pass AutoProcessor.from_pretrained(...) of the same checkpoint"
        )
    if not hasattr(model, "vision_model") or not hasattr(model, "text_model"):
        raise ValueError(
            f"expected an image-text model ({', '.join(MODEL_TYPES.values())}), got {type(model).__name__}; "
            "load the whole model, not one tower"
        )
    preprocess, size = HfPreprocess(images), model.config.vision_config.image_size
    got = tuple(preprocess(Image.new("RGB", (size, size))).shape)
    if got != (3, size, size):
        raise ValueError(
            f"expected a processor that gives [3, {size}, {size}] for {type(model).__name__}, got {list(got)}; "
            "pass the processor of the same checkpoint"
        )
    context = min(model.config.text_config.max_position_embeddings, MOST_TOKENS)
    return HfNetwork(model, tokenizer.pad_token_id or 0), HfTokenizer(tokenizer, context), preprocess


def check_type(model_type: str, name: str) -> None:
    """Raise ValueError, with advice, for a model type that is not supported."""
    if model_type in MODEL_TYPES:
        return
    hint = (
        "its resolution varies with the image (NaFlex), so that two images have different token "
        "grids, which one index cannot hold; load a checkpoint of fixed resolution such as "
        "google/siglip2-base-patch16-224"
        if model_type == "siglip2"
        else "use its vision tower as a Rosetta partner: clipviz.models.zoo.Partner(name, module, preprocess, layers)"
    )
    raise UnsupportedTower(
        f"expected a Hugging Face model of type {', '.join(MODEL_TYPES)}, got {model_type!r} ({name}); {hint}"
    )


def is_folder(name: str) -> bool:
    """Return whether a name is a local folder that holds a Hugging Face checkpoint."""
    return (path_of(name, "a model's name or folder") / "config.json").is_file()


def fetch(name: str, device: torch.device, precision: str) -> tuple[HfNetwork, HfTokenizer, HfPreprocess]:
    """Fetch a model of the hub ("owner/model") or of a local folder; its type is checked before weights are
    downloaded.

    Raises ImportError without transformers, ValueError for an unsupported type or unavailable weights.
    """
    if precision not in DTYPES:
        raise ValueError(f"expected precision one of {', '.join(DTYPES)}, got {precision!r}")
    transformers = require_transformers()
    source = str(Path(name).expanduser()) if is_folder(name) else name
    try:
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        check_type(config.model_type, name)
        kind = getattr(transformers, MODEL_TYPES[config.model_type])
        # mismatches are reported below
        asked = {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, report = kind.from_pretrained(source, trust_remote_code=False, **asked)
        processor = transformers.AutoProcessor.from_pretrained(source, trust_remote_code=False)
    except UnsupportedTower:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"could not download the Hugging Face model {name!r}: {reason}. Check the name and the "
            'network, pass a local folder, or start with clipviz.load("demo"), which needs no '
            "network"
        ) from error
    check_complete(report, name)
    return open_up(model.to(device, DTYPES[precision]), processor)


def check_complete(report: Mapping[str, Any], name: str) -> None:
    """Raise ValueError if a checkpoint lacks tensors, which would then be random, or has tensors that the model does
    not use.

    report: the loading info of from_pretrained.
    """
    told = []
    for kind, what in (
        ("missing", "lacks"),
        ("mismatched", "has another shape of"),
        ("unexpected", "also holds"),
    ):
        named = [key if isinstance(key, str) else key[0] for key in report.get(f"{kind}_keys") or ()]
        keys = sorted(key for key in named if not key.endswith("position_ids"))  # counters of older versions
        if keys:
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            told.append(f"{what} {', '.join(keys[:_SHOWN])}{more}")
    if told:
        raise ValueError(
            f"expected a checkpoint with every weight of the model and no others, got {name!r}, "
            f"which {'; '.join(told)}; missing weights would be random. Save the whole model with "
            "save_pretrained, or download the checkpoint again"
        )


def require_transformers() -> Any:
    """Return the package transformers; without it, ImportError says how to install it."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(NEEDED) from error
    return transformers
