"""The demo model: its architecture in open_clip's names, its tokenizer and its weight files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipviz.demo.model.architecture import CLIP
from clipviz.models.byte_pairs import BytePairs
from clipviz.models.checksummed import narrowed, read_weights, write_weights

ASSETS = Path(__file__).resolve().parent / "assets"
CONFIG_FILE = ASSETS / "config.json"
WEIGHTS_FILE = ASSETS / "model.safetensors"
CONTEXT_LENGTH = 24
TOKENS, TRAINED_ROWS = "token_embedding.weight", "token_embedding.rows"
REMEDY = "train the model with python -m tools.demo.train FOLDER in a checkout, or omit pretrained"
MEAN, STD = 0.5, 0.25


def read_config(path: Path = CONFIG_FILE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return found


def build(config: dict[str, Any], drawn: bool = True) -> CLIP:
    """Return a CLIP of the given shape with newly drawn weights; without them where others are loaded at once."""
    return CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"], drawn)


def load_weights(model: CLIP, path: Path) -> CLIP:
    """Load a file of any float precision into the model, in place. Raises ValueError for other files."""
    tensors, _ = read_weights(path, "weights of the demo model", REMEDY)
    rows = tensors.pop(TRAINED_ROWS, None)
    try:
        if rows is not None:
            table = torch.zeros(model.token_embedding.weight.shape)
            table[rows.long()] = tensors[TOKENS].float()
            tensors[TOKENS] = table
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (RuntimeError, IndexError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"expected weights of the demo model at {path}, got others ({reason}); {REMEDY}"
        ) from error
    return model


def save_weights(model: CLIP, path: Path, keep_tokens: Sequence[int] | None = None) -> None:
    """Write the weights, with matrices in eight bits. Token rows outside `keep_tokens`, which were never trained,
    are omitted and read as 0.
    """
    state = dict(model.state_dict())
    if keep_tokens is not None:
        state[TRAINED_ROWS] = torch.as_tensor(sorted(keep_tokens), dtype=torch.int32)
        state[TOKENS] = state[TOKENS][state[TRAINED_ROWS].long()]
    write_weights(path, narrowed(state), {})


tokenize = BytePairs(CONTEXT_LENGTH)
"""Texts to token ids, [text, 24] int64."""


def preprocess(images: Tensor) -> Tensor:
    """Convert [image, row, column, 3] uint8 to the model's input [image, 3, row, column]."""
    return (images.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


class BackgroundDropout(torch.nn.Module):
    """Patch dropout (Li et al. 2023, FLIP) that drops patches without objects first, and others only afterwards.

    prob: share of the patches that a training pass drops. things: [image, row, column] bool, where the objects of
    the next batch are; None drops patches uniformly. The class token is always kept.
    """

    def __init__(self, patch_size: int, prob: float = 0.0) -> None:
        super().__init__()
        self.patch_size, self.prob = patch_size, prob
        self.things: Tensor | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [image, 1 + patch, d_model] with fewer patches."""
        n_images, n_patches = tokens.shape[0], tokens.shape[1] - 1
        if not self.training or self.prob == 0:
            return tokens
        rank = torch.rand(n_images, n_patches, device=tokens.device)
        if self.things is not None:
            covered = F.max_pool2d(self.things[:, None].float(), self.patch_size).flatten(1)
            rank = rank + covered.to(rank)
        kept = 1 + rank.topk(max(1, int(n_patches * (1 - self.prob))), dim=1).indices
        chosen = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
        return torch.cat([tokens[:, :1], chosen], 1)


def encode_short_texts(model: CLIP, *batches: Tensor) -> list[Tensor]:
    """Return open_clip's encode_text without the padding that no text of a batch reaches; [text, d_embed] for each
    batch.

    The tokens of all batches are looked up at once, since the gradient of a look-up is as large as the whole
    token table.
    """
    short = [ids[:, : int((ids != 0).sum(-1).max())] for ids in batches]
    tokens = model.token_embedding(torch.cat([ids.flatten() for ids in short]))
    embedded = tokens.split([ids.numel() for ids in short])
    return [
        _read(model, ids, found.unflatten(0, ids.shape)) for ids, found in zip(short, embedded, strict=True)
    ]


def _read(model: CLIP, ids: Tensor, tokens: Tensor) -> Tensor:
    length = ids.shape[1]
    hidden = tokens + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length].to(hidden.dtype))
    hidden = model.ln_final(hidden)[torch.arange(len(ids)), ids.argmax(-1)]
    found: Tensor = hidden @ model.text_projection
    return found
