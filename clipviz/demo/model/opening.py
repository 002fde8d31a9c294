"""Open the demo model: its embedded weights, or those of your own training run."""

from __future__ import annotations

import open_clip
import torch

from clipviz.data.paths import path_of
from clipviz.demo.model.network import WEIGHTS_FILE, build, load_weights, read_config
from clipviz.models.bundle import Bundle
from clipviz.models.clip import ClipModel
from clipviz.models.text_towers import byte_pairs

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def open_model(
    device: torch.device, precision: str = "fp32", checkpoint: str | None = None, bundle: Bundle | None = None
) -> ClipModel:
    """Return the demo model on a device.

    precision: "fp32", "fp16" or "bf16"; checkpoint: a file that tools.demo.train wrote, default the embedded one.
    Raises ValueError for another precision or a file that does not hold this model's weights.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"expected precision one of {', '.join(PRECISIONS)}, got {precision!r}")
    config = read_config()
    path = path_of(checkpoint, "a file of weights") if checkpoint else WEIGHTS_FILE
    network = load_weights(build(config), path)
    network.to(device, PRECISIONS[precision])
    pre = config["preprocess"]
    preprocess = open_clip.image_transform(
        pre["size"], is_train=False, mean=pre["mean"], std=pre["std"], interpolation=pre["interpolation"]
    )
    tokenizer = byte_pairs(config["text_cfg"]["context_length"])
    return ClipModel(network, tokenizer, preprocess, name="demo", pretrained=checkpoint or "", bundle=bundle)
