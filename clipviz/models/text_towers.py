"""Text towers: the vocabularies that they were trained with, and encoding that skips tokens without influence."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

CLIP_VOCABULARY = 49408  # size of the vocabulary of CLIP's own tokenizer


def check_clip_tokens(network: nn.Module) -> None:
    """Raise ValueError, naming the text tower, unless its vocabulary is that of CLIP's byte pairs."""
    text: Any = getattr(network, "text", network)
    size = getattr(text, "vocab_size", None) or getattr(network, "vocab_size", None)
    kind = type(text).__name__
    if size is None and kind == "HFTextEncoder":
        size = getattr(text.config, "vocab_size", "its own")
    if size not in (None, CLIP_VOCABULARY):
        raise ValueError(
            f"expected a tokenizer for the text tower {kind}, whose vocabulary of {size} entries is not that of CLIP's "
            f"byte pairs ({CLIP_VOCABULARY}); pass wrap(..., tokenizer=open_clip.get_tokenizer(name)) of the model"
        )


def check_ids(network: nn.Module, tokens: Int[Tensor, "text token"]) -> None:
    """Raise ValueError for token ids outside the text tower's embedding; they come from another model's tokenizer.

    On a GPU such an id would make the device unusable for the process, so ids are checked where the tokenizer
    creates them.
    """
    size = _vocabulary(network)
    if size is None or not tokens.numel():
        return
    low, high = (int(bound) for bound in tokens.aminmax())
    if low < 0 or high >= size:
        raise ValueError(
            f"expected token ids within 0..{size - 1}, the text tower's vocabulary, got {low if low < 0 else high}; "
            "pass the tokenizer of this model: wrap(..., tokenizer=open_clip.get_tokenizer(name)), or its processor"
        )


def _vocabulary(network: Any) -> int | None:
    """Return the number of rows of the text tower's token embedding, or None if it is not found."""
    tower = getattr(network, "text", None) or getattr(network, "model", None) or network
    table = getattr(network, "token_embedding", None) or getattr(tower, "token_embedding", None)
    holders: list[Any] = [tower, getattr(tower, "text_model", None), getattr(tower, "transformer", None)]
    for holder in holders:
        if table is None and hasattr(holder, "get_input_embeddings"):
            try:
                table = holder.get_input_embeddings()
            except (
                NotImplementedError,
                AttributeError,
            ):  # a model with several towers has no single vocabulary
                continue
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


def shortens(network: nn.Module) -> bool:
    """Return whether `encode_tokens` skips tokens that the network's own encode_text processes."""
    return _is_causal_clip(network) or bool(getattr(network, "shortens", False))


def encode_tokens(
    network: nn.Module, tokens: Int[Tensor, "text token"], whole: bool = False
) -> Float[Tensor, "text d_embed"]:
    """Return unnormalised text embeddings.

    A causal text tower that reads the end-of-text token's row never depends on later tokens. Only the tokens up
    to the end of the longest text are processed, which is exact. whole: process all tokens, as the network itself
    does.
    """
    model: Any = network
    found: Tensor
    if whole and hasattr(model, "encode_whole"):
        found = model.encode_whole(tokens)
        return found
    if whole or not _is_causal_clip(model):
        found = model.encode_text(tokens)
        return found
    length = int(_ends(model, tokens).max()) + 1
    kept, dtype = tokens[:, :length], model.transformer.get_cast_dtype()
    states = model.token_embedding(kept).to(dtype) + model.positional_embedding[:length].to(dtype)
    states = model.ln_final(model.transformer(states, attn_mask=model.attn_mask[:length, :length]))
    pooled = states[torch.arange(len(kept), device=kept.device), _ends(model, kept)]
    found, projection = pooled, model.text_projection
    if projection is not None:
        found = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
    return found


def _is_causal_clip(model: Any) -> bool:
    parts = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_pool_type")
    causal = all(hasattr(model, part) for part in parts) and getattr(model, "attn_mask", None) is not None
    if not causal or model.text_pool_type not in ("argmax", "eos"):
        return False
    mask = model.attn_mask
    return bool(torch.isinf(mask[torch.ones_like(mask, dtype=torch.bool).triu(1)]).all())


def _ends(model: Any, tokens: Int[Tensor, "text token"]) -> Int[Tensor, " text"]:
    """Return the positions of the end-of-text tokens."""
    if model.text_pool_type == "argmax":
        return tokens.argmax(-1)
    found: Tensor = (tokens == model.text_eos_id).int().argmax(-1)
    return found
