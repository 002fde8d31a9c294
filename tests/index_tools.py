"""A tiny CLIP and tiny collections for the tests of the index."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clipviz.demo.model.architecture import CLIP
from clipviz.demo.model.preprocessing import preprocessing
from clipviz.models.clip import ClipModel
from clipviz.models.opening import wrap


def tiny_model(seed: int = 0, name: str = "tiny", dtype: torch.dtype = torch.float32) -> ClipModel:
    """3 layers x 2 heads on 32 x 32 pixels, with perturbed LayerNorms and biases."""
    torch.manual_seed(seed)
    vision = {"layers": 3, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    network = CLIP(24, vision, text)
    for parameter in network.visual.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    return wrap(network.to(dtype), preprocess=preprocessing(32, [0.5] * 3, [0.25] * 3, "bicubic"), name=name)


def picture(seed: int, size: int = 40) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)


def folder_of(path: Path, count: int, start: int = 0, broken: tuple[int, ...] = ()) -> Path:
    """`count` small JPEGs, those at `broken` damaged."""
    path.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        file = path / f"{start + i:05d}.jpg"
        picture(start + i).save(file)
        if i in broken:
            file.write_bytes(file.read_bytes()[:200])
    return path


def bytes_of(folder: Path) -> dict[str, str]:
    """name -> hash of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
