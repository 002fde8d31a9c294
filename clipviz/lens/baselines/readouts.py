"""Baselines for any readout, from attention and its gradients. The class token's row is replaced by the readout's
row r.

r is the weight with which the readout reads each final token: 1 at the class token, uniform where tokens are
averaged, and the pooling heads' mean attention for an attention pool. LRP and the methods based on it follow a
class token's tower step by step and do not apply.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipviz.lens.baselines.attention import FIRST_LAYER, TokenMap, on_grid

POOLED_METHODS = ("rollout", "raw attention", "Grad-CAM", "Chefer et al. (generic)")
"""The baselines that apply to every readout."""


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """The attention of one pass and its gradients, for one text per image. The score is the cosine of image and
    text.

    rows: r, or its gradient-weighted form for Chefer's method, where the readout attends.
    """

    attention: Tensor  # [image, layer, head, token, token]
    gradients: Tensor  # [image, layer, head, token, token]
    rows: Tensor  # [image, token], sums to 1
    # [image, token], mean over pooling heads of (gradient * attention)^+; r without a pool
    weighted_rows: Tensor
    pool: Tensor | None  # [image, readout_head, token], a pool's attention
    pool_gradients: Tensor | None
    score: Tensor  # [image]
    prefix: int


def rollout_row(record: AttentionRecord) -> TokenMap:
    """r A~(L) ... A~(2), A~ = 0.5 A + 0.5 I (Abnar and Zuidema 2020, with the readout's row), from the second layer
    on, as in the published run."""
    found = record.rows[:, None]
    first = min(FIRST_LAYER, record.attention.shape[1] - 1)
    for layer in reversed(record.attention[:, first:].mean(2).unbind(1)):
        found = 0.5 * (found @ layer + found)
    return found[:, 0, record.prefix :]


def raw_row(record: AttentionRecord) -> TokenMap:
    """Return r A(L), averaged over heads: the weights with which the readout reads through the last layer."""
    return (record.rows[:, None] @ record.attention[:, -1].mean(1))[:, 0, record.prefix :]


def grad_cam_row(record: AttentionRecord) -> TokenMap:
    """Return Grad-CAM (Selvaraju et al. 2017) on the pool's attention, or the last layer's as the readout reads it."""
    if record.pool is not None and record.pool_gradients is not None:
        maps, slopes = record.pool[..., record.prefix :], record.pool_gradients[..., record.prefix :]
    else:
        rows = record.rows[:, None, None]
        maps = (rows @ record.attention[:, -1])[:, :, 0, record.prefix :]
        slopes = record.gradients[:, -1].sum(2)[..., record.prefix :]
    return (slopes.mean(-1, keepdim=True) * maps).mean(1).clamp_min(0)


def chefer_row(record: AttentionRecord) -> TokenMap:
    """Chefer et al. 2021 (ICCV, Eq. 5-6): R <- R + A_bar R, A_bar = E_h (grad A * A)^+, read by the readout's row."""
    weighted = (record.gradients * record.attention).clamp_min(0).mean(2)
    found = record.weighted_rows[:, None]
    for layer in reversed(weighted.unbind(1)):
        found = found + found @ layer
    return found[:, 0, record.prefix :]


def pooled_maps(
    record: AttentionRecord, grid: tuple[int, int]
) -> dict[str, Float[Tensor, "image rows cols"]]:
    """Return the map of every baseline that applies, in the order of POOLED_METHODS."""
    maps = (rollout_row(record), raw_row(record), grad_cam_row(record), chefer_row(record))
    return {name: on_grid(tokens, grid) for name, tokens in zip(POOLED_METHODS, maps, strict=True)}


def readout_rows(
    record_pool: Tensor | None, pool_gradients: Tensor | None, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return r and Chefer's row from a pool's attention [image, readout_head, token]; uniform without a pool."""
    if record_pool is None or pool_gradients is None:
        return weights, weights
    return record_pool.mean(1), (pool_gradients * record_pool).clamp_min(0).mean(1)
