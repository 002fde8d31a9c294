"""Lenses: pure functions from tensors to values. Each module has one topic and is loaded on first use."""

from clipviz import lazily

__all__ = [
    "ablate",
    "baselines",
    "concepts",
    "covariance",
    "cues",
    "decompose",
    "edits",
    "headset",
    "heatmap",
    "intervals",
    "invert",
    "joint",
    "neurons",
    "projection",
    "retrieve",
    "roles",
    "rosetta",
    "segment",
    "sparse",
    "spurious",
    "subsets",
    "textspan",
    "trace",
    "zeroshot",
]

__getattr__ = lazily.modules_of(__name__)
