"""Open the demo model: its embedded weights, or those of your own training run."""

from __future__ import annotations

import torch

from clipviz.data.paths import path_of
from clipviz.demo.model.network import WEIGHTS_FILE, build, load_weights, read_config
from clipviz.demo.model.preprocessing import preprocessing
from clipviz.models.bundle import Bundle
from clipviz.models.byte_pairs import BytePairs
from clipviz.models.clip import ClipModel

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
    network = load_weights(build(config, drawn=False), path)
    network.to(device, PRECISIONS[precision])
    tokenizer, prepare = (
        BytePairs(config["text_cfg"]["context_length"]),
        preprocessing(**config["preprocess"]),
    )
    return ClipModel(network, tokenizer, prepare, name="demo", pretrained=checkpoint or "", bundle=bundle)
