"""What training minimises: CLIP's contrast of images and captions, and the same contrast for single facts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clipviz.demo.world.captions import FACTS
from clipviz.demo.world.truth import TRUE, UNKNOWN

FACT_WEIGHTS = {
    "object": 2.0,
    "glyph": 2.0,
    "shape": 1.5,
    "count": 2.0,
    "category": 0.3,
    "bird": 0.2,
    "colour": 0.4,
    "background": 0.8,
    "background colour": 0.3,
    "treatment": 0.8,
    "size": 0.3,
    "position": 0.4,
    "style": 0.3,
    "fill": 0.2,
}


def caption_contrast(image_units: Tensor, text_units: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """CLIP's symmetric loss [image, d_embed] x [image, d_embed]; images with the same sentence share the target."""
    logits = scale * image_units @ text_units.T
    targets = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def fact_contrast(
    image_units: Tensor,
    prompt_units: Tensor,
    scale: Tensor,
    images: dict[str, Tensor],
    values: dict[str, Tensor],
) -> tuple[Tensor, dict[str, float]]:
    """Return each image against every short sentence of a family, of which the world knows the true one.

    This is the image-to-text half of the contrast in label space of Yang et al. (2022, Unified Contrastive
    Learning): other true captions of a batch can no longer count as negatives. Families are weighted by
    FACT_WEIGHTS. Also returns the accuracy of each family in the batch.
    """
    total, weights, accuracy, start = image_units.new_zeros(()), 0.0, {}, 0
    for family, sentences in FACTS.items():
        prompts = prompt_units[start : start + len(sentences)]
        start += len(sentences)
        if family not in images:
            continue
        logits = scale * image_units[images[family]] @ prompts.T
        total = total + FACT_WEIGHTS[family] * F.cross_entropy(logits, values[family])
        weights += FACT_WEIGHTS[family]
        accuracy[family] = (logits.argmax(1) == values[family]).float().mean().item()
    return total / weights, accuracy


def truth_contrast(
    image_units: Tensor,
    text_units: Tensor,
    scale: Tensor,
    truth: Tensor,
    frequency: Tensor,
    rarity: float = 1.0,
) -> tuple[Tensor, float]:
    """Return each image against sentences of all families at once, corrected by how common each sentence is.

    One softmax of scaled cosines plus `rarity` times the logarithm of a sentence's frequency, whose target is spread
    evenly over the sentences that are true of the image; what is unknown is left out. At the optimum a scaled cosine
    is log p(sentence | image) - rarity * log p(sentence) up to a constant of the image. With a rarity of 1 this is
    the pointwise mutual information: what is special about a picture comes before what is true of most. Below 1, what
    is certain comes before what would be more special, but is less certain.
    truth: [image, text] of FALSE, UNKNOWN, TRUE. Returns the divergence from the target, 0 at best, and the share of
    images whose nearest sentence is true.
    """
    true = truth == TRUE
    cosines = scale * image_units @ text_units.T
    logits = (cosines + rarity * frequency.log()).masked_fill(truth == UNKNOWN, -torch.inf)
    logp = F.log_softmax(logits, 1).masked_fill(~true, 0.0)
    n_true = true.sum(1)
    some = n_true > 0
    divergence = -(logp.sum(1)[some] / n_true[some]) - n_true[some].log()
    nearest = cosines.masked_fill(truth == UNKNOWN, -torch.inf).argmax(1, keepdim=True)
    return divergence.mean(), true.gather(1, nearest).float().mean().item()


def self_attention(
    module: torch.nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    need_weights: bool = False,
    attn_mask: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Return a MultiheadAttention's output, [image, token, d_model], for queries that are the keys and the values.

    It is softmax(q k^T / sqrt(d)) v written out: on a CPU its forward and backward pass take three quarters of the
    time of open_clip's, whose gradient fills and adds three copies of all projections.
    """
    joint = F.linear(query, module.in_proj_weight, module.in_proj_bias)
    heads = joint.unflatten(-1, (3, module.num_heads, -1)).permute(2, 0, 3, 1, 4)
    queries, keys, values = heads.unbind(0)
    scores = queries * queries.shape[-1] ** -0.5 @ keys.transpose(-2, -1)
    if attn_mask is not None:
        scores = scores + attn_mask.to(scores.dtype)
    read = torch.softmax(scores, -1) @ values
    found: Tensor = module.out_proj(read.transpose(1, 2).flatten(2))
    return found, None
