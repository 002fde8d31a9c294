"""A model as files that run without Python: its towers as ONNX, and the weights that the page's own lenses need.

The image tower's network gives the taps of one forward pass (lens.trace): the page's script computes every effect
from them, so that one export serves every text. The taps are taken by the same recorder as a trace in Python.
"""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clipviz import extras
from clipviz.models.clip import ClipModel
from clipviz.models.forward_lock import turn
from clipviz.models.towers.recording import Recorder, listening
from clipviz.page.packing import halves
from clipviz.values import TowerWeights

Precision = Literal["float32", "float16"]
PRECISIONS = ("float32", "float16")
MEMORY = 3.5e9
"""Bytes that WebAssembly can be expected to have: its memory is limited to 4 GB."""
COPIES = 2.2  # copies of the weights while the network is opened: the file, and the runtime's own
TAP = "tap:"
LARGE = 1024  # arrays of at least this many numbers are stored in half precision if that is lossless


class CannotExport(ValueError):
    """Raised for a model that a page cannot carry; the message says why."""


class Exported(NamedTuple):
    """The exported model. image, text: the towers as ONNX files; text is None if the page cannot encode texts. taps:
    names of the image network's outputs in order. lens: the arrays that the script reads; facts: their sizes.
    """

    image: bytes
    text: bytes | None
    taps: tuple[str, ...]
    lens: dict[str, np.ndarray]
    facts: dict[str, Any]


def export(model: ClipModel, texts: bool = True) -> Exported:
    """Export both towers of a model on the CPU in float32 (see `in_precision`). texts=False omits the text tower.

    Raises CannotExport for a model that is too large for a browser, and if the exporter fails.
    """
    check_exporter()
    check_carried(model)
    tapped = Tapped(model)
    pixels = torch.zeros(1, 3, *model.image_size)
    names = tapped.names
    return Exported(
        image=_onnx(tapped, pixels, "pixels", names, f"image tower of {model.name!r}"),
        text=_text_tower(model) if texts else None,
        taps=names,
        lens=lens_arrays(model.weights),
        facts=facts(model),
    )


def in_precision(model: ClipModel, precision: Precision) -> ClipModel:
    """Return the model on the CPU in float32: unchanged, or a copy whose weights are rounded to half precision.

    The page computes in float32 with the same weights, so this model gives the page's results in Python.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"expected precision {' or '.join(map(repr, PRECISIONS))}, got {precision!r}")
    if precision == "float32" and model.device.type == "cpu" and model.dtype == torch.float32:
        return model
    with turn(model.visual):  # a session that still reads its images hooks the network at every pass
        network = copy.deepcopy(model.network)
    network = network.to("cpu").float()
    if precision == "float16":
        with torch.no_grad():
            for number in (*network.parameters(), *network.buffers()):
                if number.is_floating_point() and number.ndim:
                    number.copy_(number.half().float())
    return ClipModel(network, model.tokenizer, model.preprocess, model.name, model.pretrained, model.bundle)


def memory_needed(model: ClipModel) -> int:
    """Return the bytes that the page needs for the network, and for the taps of one picture."""
    weights, numbers = model.weights, sum(p.numel() for p in model.network.parameters())
    taps = weights.n_layers * weights.n_tokens * (weights.d_model + weights.n_heads * weights.readout.n_heads)
    return int(4 * (COPIES * numbers + 3 * taps))


def check_carried(model: ClipModel) -> None:
    """Raise CannotExport, before the export, for a model with registers or one that needs too much memory."""
    if model.registers:
        raise CannotExport(
            f"expected a model without registers, got {model.name!r} with {len(model.registers)} "
            "moved register neurons, which a page does not support; publish the model without "
            "registers, or the saved page without a model: model=False"
        )
    needed = memory_needed(model)
    if needed > MEMORY:
        raise CannotExport(
            f"expected a model that fits a browser's memory ({MEMORY / 1e9:.1f} GB), got {model.name!r}, which needs "
            f"about {needed / 1e9:.1f} GB there; publish a smaller one, or the saved page without a model: model=False"
        )


def check_exporter() -> None:
    """Raise ImportError, naming the extra, if the exporter's packages are missing."""
    if lacking := extras.lacking("web"):
        raise ImportError(f"publishing a model needs an exporter, and {lacking}")


class Tapped(nn.Module):
    """An image tower whose outputs are those of a trace, with each head's values in place of its inputs."""

    def __init__(self, model: ClipModel) -> None:
        super().__init__()
        self.visual, self.tower = model.visual, model.tower
        readout = model.weights.readout
        tail = ("tail",) if readout.has_tail else ()
        pool = ("final", "reads") if readout.pools else ()
        self.names = ("embedding", "codes", "values", "paths", "writes", "mean", "std", *tail, *pool)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        with listening(Recorder(self.tower, keep_tokens=True)) as recorder:
            output = self.visual(pixels)
        trace = recorder.trace(output[0] if isinstance(output, tuple) else output)
        assert trace.tokens is not None
        values = [
            nn.functional.linear(tokens, layer.value.flatten(0, 1), layer.value_bias.flatten())
            for tokens, layer in zip(trace.tokens, self.tower.weights.layers, strict=True)
        ]
        found = {
            "embedding": trace.embedding,
            "codes": trace.codes,
            "values": torch.stack(values, 1),
            "paths": trace.paths,
            "writes": trace.mlp_writes,
            "mean": trace.mean,
            "std": trace.std,
            "tail": trace.tail,
            "final": trace.final,
            "reads": trace.reads,
        }
        return tuple(found[name] for name in self.names)  # type: ignore[misc]


class Encoded(nn.Module):
    """A text tower on 32-bit token ids, the type that a page's script has."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.network.encode_text(ids.long())  # type: ignore[operator]
        return found


def lens_arrays(weights: TowerWeights) -> dict[str, np.ndarray]:
    """Return the arrays that the page's script multiplies with taps: output matrices [layer, head, d_head, d_model],
    their biases, and the readout (values.Readout).
    """
    layers, readout = weights.layers, weights.readout
    arrays = {
        "output": torch.stack([layer.output.transpose(1, 2) for layer in layers]),
        "output_bias": torch.stack([layer.output_bias for layer in layers]),
        "matrices": readout.matrices,
        "bias": readout.bias,
        "constant": readout.constant,
    }
    scaled = [layer.scaled_bias for layer in layers if layer.scaled_bias is not None]
    if scaled:
        arrays["scaled_bias"] = torch.stack(scaled)
    return {name: array.detach().float().cpu().contiguous().numpy() for name, array in arrays.items()}


def facts(model: ClipModel) -> dict[str, Any]:
    """Return sizes and shares of a tower under the names of the page's script."""
    weights, readout = model.weights, model.weights.readout
    return {
        "n_layers": weights.n_layers,
        "n_heads": weights.n_heads,
        "d_head": weights.d_head,
        "d_model": weights.d_model,
        "d_embed": weights.d_embed,
        "d_code": weights.d_code,
        "n_readout": readout.n_heads,
        "n_tallies": weights.n_tallies,
        "n_tokens": weights.n_tokens,
        "prefix": weights.prefix,
        "grid": list(weights.grid),
        "n_terms": weights.n_terms,
        "mlp_share": weights.mlp_share,
        "post_norm": weights.layers[0].post_norm,
        "kind": readout.kind,
        "pools": readout.pools,
        "has_tail": readout.has_tail,
        "image_size": list(model.image_size),
    }


def _text_tower(model: ClipModel) -> bytes:
    ids = model.tokenizer(["a photo"]).to(torch.int32)
    return _onnx(Encoded(model.network), ids, "ids", ("embedding",), f"text tower of {model.name!r}")


def _onnx(module: nn.Module, example: Tensor, given: str, outputs: Sequence[str], what: str) -> bytes:
    """Return a module as an ONNX file for one example at a time. Raises CannotExport if torch cannot export it."""
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(module.eval(), (example,), strict=False)
            made = torch.onnx.export(
                program,
                (),
                input_names=[given],
                # torch also names intermediate results "mean"
                output_names=[f"{TAP}{name}" for name in outputs],
                external_data=False,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CannotExport(
            f"expected a model that torch can export, but the exporter failed at the {what}: "
            f"{reason[:300]}; publish the saved page without a model: model=False"
        ) from error
    assert made is not None
    stream = io.BytesIO()
    proto = made.model_proto
    _halve(proto)
    stream.write(proto.SerializeToString())
    return stream.getvalue()


def _halve(proto: Any) -> None:
    """Store large arrays in half precision if that is lossless; a Cast gives the network its float32."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for stored in proto.graph.initializer:
        if stored.data_type != TensorProto.FLOAT or int(np.prod(stored.dims)) < LARGE:
            continue
        half = halves(numpy_helper.to_array(stored))
        if half is None:
            continue
        name = stored.name
        stored.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*casts, *nodes])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks about its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
