"""The explainability methods of Table 2.4, each written from its paper, as pure functions of tensors.

raw_attention, rollout, grad_cam and chefer_generic read attention (and its gradients) alone; lrp, partial_lrp
and chefer propagate relevance and read a whole `Record`. clipviz.models.attribution makes the record.
"""

from __future__ import annotations

from clipviz.lens.baselines.attention import chefer_generic, grad_cam, raw_attention, rollout, traced_back
from clipviz.lens.baselines.record import LayerRecord, Record
from clipviz.lens.baselines.relevance import (
    Relevance,
    chefer,
    conserving_lrp,
    conserving_partial_lrp,
    lrp,
    partial_lrp,
    propagate,
)
from clipviz.lens.baselines.table import METHODS, VARIANTS, all_maps

__all__ = [
    "METHODS",
    "VARIANTS",
    "LayerRecord",
    "Record",
    "Relevance",
    "all_maps",
    "chefer",
    "chefer_generic",
    "conserving_lrp",
    "conserving_partial_lrp",
    "grad_cam",
    "lrp",
    "partial_lrp",
    "propagate",
    "raw_attention",
    "rollout",
    "traced_back",
]
