"""A dictionary of directions: a sparse autoencoder's features as units of a model.

A feature has an activation for every token and a direction that it writes, like a neuron of an MLP. With the
input x of a token at the dictionary's point, normalised as the format prescribes,
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz import hub
from clipviz.models.dictionaries import layouts
from clipviz.models.dictionaries.kinds import ACTIVATIONS, NORMS, POINTS, Activation, Gate, Norm, Point
from clipviz.values.training import TrainingLog

if TYPE_CHECKING:
    from clipviz.models.opened import Opened

NORM_EPS = 1e-5


class Encoded(NamedTuple):
    """A dictionary's encoding of inputs, in the units of its point: input = activations @ decoder + offset + error.

    activations: [..., unit], multiplied by the token's deviation if the dictionary normalises its inputs. offset:
    [..., d_in], the bias plus the mean that was subtracted.
    """

    activations: Tensor
    offset: Tensor


@dataclass(frozen=True, eq=False)
class Dictionary:
    """The features of a dictionary at one point of one layer. All tensors are float32 or float64.

    layer: counted from 0. k: active features of a token, for "topk". threshold: [unit] or [], for "jumprelu".
    subtracts_bias: whether the decoder's bias is taken from the input. cls_token_only: trained on the class token
    alone. source: the format and the file, for messages. model: the fingerprint of the weights that it was
    trained on, "" if unknown. log: the log of its training, if it was trained with clipviz.
    """

    layer: int
    point: Point
    encoder: Float[Tensor, "unit d_in"]
    encoder_bias: Float[Tensor, " unit"]
    decoder: Float[Tensor, "unit d_in"]
    bias: Float[Tensor, " d_in"]
    activation: Activation = "relu"
    k: int | None = None
    threshold: Tensor | None = None
    gate: Gate | None = None
    norm: Norm = "none"
    subtracts_bias: bool = True
    cls_token_only: bool = False
    source: str = "a dictionary"
    model: str = ""
    log: TrainingLog | None = None

    def __post_init__(self) -> None:
        n_units, d_in = self.encoder.shape if self.encoder.ndim == 2 else (0, 0)
        wanted = {"decoder": (n_units, d_in), "encoder_bias": (n_units,), "bias": (d_in,)}
        for name, shape in wanted.items():
            found = tuple(getattr(self, name).shape)
            if found != shape or not n_units:
                raise ValueError(
                    f"expected {name} of shape {list(shape)} beside an encoder of {list(self.encoder.shape)} "
                    f"[feature, input], got {list(found)} in {self.source}; check the format"
                )
        for name in ("encoder", "decoder", "encoder_bias", "bias"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise ValueError(f"expected finite numbers, got NaN or infinity in {name} of {self.source}")
        if isinstance(self.layer, bool) or not isinstance(self.layer, int) or self.layer < 0:
            raise ValueError(f"expected a layer counted from 0, got {self.layer!r}; pass layer=")
        for name, choices in (("point", POINTS), ("activation", ACTIVATIONS), ("norm", NORMS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"expected {name} among {', '.join(choices)}, got {getattr(self, name)!r} in {self.source}"
                )
        if self.activation == "topk" and not (self.k and 0 < self.k <= n_units):
            raise ValueError(f"expected k within 1..{n_units} for TopK, got {self.k!r} in {self.source}")
        if self.activation == "jumprelu" and (
            self.threshold is None or tuple(self.threshold.shape) not in ((), (n_units,))
        ):
            raise ValueError(f"expected a threshold, or one per feature, in {self.source}")
        if self.activation == "gated" and self.gate is None:
            raise ValueError(f"expected the biases and the scale of the gate in {self.source}")

    def __repr__(self) -> str:
        return (
            f"Dictionary({self.n_units} features of {self.activation}, {self.point} of layer {self.layer}, "
            f"d_in={self.d_in}, {self.source})"
        )

    @property
    def n_units(self) -> int:
        return int(self.encoder.shape[0])

    @property
    def d_in(self) -> int:
        return int(self.encoder.shape[1])

    @classmethod
    def load(cls, path: str | Path, layer: int | None = None, point: Point | None = None) -> Dictionary:
        """Load a dictionary from a local file or folder; its format is detected, and no code of the file is run.

        Formats: ViT-Prisma, saev, patchsae, SAELens, dictionary_learning.

        Args:
            path: The file or folder.
            layer: For formats that do not store it; it overrides the others.
            point: The same for the point of the layer.

        Returns:
            The dictionary. A file that is none raises ValueError, with what was found and how to convert it.
        """
        return cls(**layouts.read(Path(path), layer, point))

    @classmethod
    def from_hub(cls, repo: str, revision: str | None = None, folder: str = "") -> Dictionary:
        """Load a dictionary in SAELens's layout from the Hugging Face Hub, such as one that `push_to_hub` uploaded.

        Only the configuration and the safetensors file are downloaded, and no code of the repository is run.

        Args:
            repo: "owner/name" of a repository of models.
            revision: A branch, tag or commit; by default the main branch.
            folder: The folder of the dictionary within the repository.

        Returns:
            The dictionary.

        Raises:
            ValueError: There is no such repository, or it holds no such dictionary.
        """
        inside = folder.strip("/")
        wanted = [f"{inside}/{name}" if inside else name for name in layouts.FILES]
        return cls.load(hub.fetch(repo, "model", wanted, revision, None) / inside)

    @classmethod
    def train(
        cls,
        model: Opened,
        images: Any,
        layer: int,
        n: int,
        k: int,
        point: Point = "residual",
        path: str | Path | None = None,
        progress: Callable[[TrainingLog], None] | None = None,
        **how: Any,
    ) -> Dictionary:
        """Train a TopK dictionary on all tokens of some images, on the model's device.

        Args:
            model: The model.
            images: PIL images, a folder, a tensor that `model.prepare` takes, or an Index.
            layer: Counted from 0.
            n: The number of features.
            k: Active features per token.
            point: Where in the layer.
            path: A folder that the dictionary is saved to, and on the way the run's state, from which the same call
                goes on after an interruption.
            progress: Called with the log every `noted` steps; what it raises ends the run.
            how: See models.dictionaries.training.Recipe (batch, passes, rate, dead_after, seed, noted, kept).

        Returns:
            The dictionary. Its `log` says how it went, and figures.dictionaries.training draws it.
        """
        from clipviz.models.dictionaries.training import CHECKPOINT, train

        trained = cls(**train(model, images, layer, n, k, point, path, progress, **how))
        if path is not None:
            trained.save(path)
            (Path(path) / CHECKPOINT).unlink(missing_ok=True)
        return trained

    def save(self, path: str | Path, half: bool = False) -> None:
        """Save the dictionary to a folder that `load` reads, in SAELens's layout: cfg.json and sae_weights.safetensors.

        Args:
            path: The folder.
            half: Use half precision.
        """
        layouts.write(vars(self), repr(self), Path(path), half)

    def push_to_hub(
        self, repo: str, private: bool | None = None, message: str = "Add a dictionary", half: bool = False
    ) -> str:
        """Upload the dictionary to the Hugging Face Hub, in the layout of `save`.

        Args:
            repo: "owner/name" of a repository of models, which is created if it does not exist.
            private: Whether a new repository is private; by default what its owner has set.
            message: The commit's title.
            half: Use half precision.

        Returns:
            The commit's address.

        Raises:
            ValueError: You may not write to the repository, or the dictionary cannot be saved.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder, half)
            return hub.push(Path(folder), repo, "model", layouts.FILES, private, message)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Dictionary:
        """Return the same dictionary elsewhere.

        Args:
            device: None keeps the device.
            dtype: None keeps the precision.

        Returns:
            The dictionary.
        """
        from dataclasses import replace

        parts = (self.encoder, self.encoder_bias, self.decoder, self.bias)
        if all(part.to(device=device, dtype=dtype) is part for part in parts):
            return self
        moved = {
            name: getattr(self, name).to(device=device, dtype=dtype)
            for name in ("encoder", "encoder_bias", "decoder", "bias")
        }
        if self.threshold is not None:
            moved["threshold"] = self.threshold.to(device=device, dtype=dtype)
        if self.gate is not None:
            moved["gate"] = Gate(
                *(
                    part.to(device=device, dtype=dtype)
                    for part in (self.gate.bias, self.gate.r_mag, self.gate.mag_bias)
                )
            )
        return replace(self, **moved)

    def encode(self, inputs: Float[Tensor, "*rows d_in"]) -> Encoded:
        """Return activations of every feature, and the part of each token that does not depend on them.

        Raises:
            ValueError: The inputs have another width.
        """
        if inputs.shape[-1] != self.d_in:
            raise ValueError(
                f"expected inputs of width {self.d_in} for {self!r}, got {inputs.shape[-1]}; it belongs to another "
                "model or another point"
            )
        normed, scale, mean = self._normed(inputs)
        centred = normed - self.bias if self.subtracts_bias else normed
        activations = self._activated(centred @ self.encoder.T)
        if scale is None:
            return Encoded(activations, self.bias.expand_as(inputs))
        return Encoded(activations * scale, self.bias * scale + mean)

    def on_tokens(self, stream: Float[Tensor, "image token d_in"]) -> Encoded:
        """Return the same for all tokens. A dictionary of the class token leaves every other token to its error."""
        found = self.encode(stream)
        if self.cls_token_only:
            seen = torch.zeros_like(stream[:1, :, :1])
            seen[:, 0] = 1
            return Encoded(found.activations * seen, found.offset * seen)
        return found

    def reconstruct(self, inputs: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_in"]:
        """Return the dictionary's reconstruction of the inputs: activations @ decoder + offset."""
        encoded = self.encode(inputs)
        return encoded.activations @ self.decoder + encoded.offset

    def _normed(self, inputs: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return inputs as the encoder reads them, and the scale and mean that undo the normalisation."""
        if self.norm == "none":
            return inputs, None, inputs.new_zeros(())
        if self.norm == "layer norm":
            mean = inputs.mean(-1, keepdim=True)
            scale = inputs.std(-1, keepdim=True) + NORM_EPS
            return (inputs - mean) / scale, scale, mean
        scale = inputs.norm(dim=-1, keepdim=True).clamp_min(NORM_EPS) / self.d_in**0.5
        return inputs / scale, scale, inputs.new_zeros(())

    def _activated(self, products: Tensor) -> Tensor:
        if self.gate is not None:
            on = products + self.gate.bias > 0
            return on * torch.relu(products * self.gate.r_mag.exp() + self.gate.mag_bias)
        pre = products + self.encoder_bias
        if self.activation == "topk":
            assert self.k is not None
            kept = torch.relu(pre).topk(self.k, -1)
            return torch.zeros_like(pre).scatter(-1, kept.indices, kept.values)
        if self.activation == "jumprelu":
            assert self.threshold is not None
            return torch.relu(pre) * (pre > self.threshold)
        return torch.tanh(torch.relu(pre)) if self.activation == "tanh-relu" else torch.relu(pre)
