"""What a family's adapter provides for a tower: its weights as values, and the modules at which a forward pass is
read.

The recorder and the lenses use only these values. Everything specific to an architecture stays in its adapter.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipviz.values import Readout, TowerWeights

SUPPORTED = (
    "transformer towers of open_clip, timm and Hugging Face (class token, mean of tokens or attention pooling: "
    "CLIP, CLIPA, EVA, SigLIP, PE, CoCa)"
)


class UnsupportedTower(ValueError):
    """Raised for a tower whose embedding clipviz cannot write as a sum; the message names the tower."""


def unsupported(what: str, hint: str = "") -> UnsupportedTower:
    """Return an error that says what was found, what is supported, and what can be done."""
    hint = (
        hint
        or "use it as a Rosetta partner instead: clipviz.models.zoo.Partner(name, module, preprocess, layers)"
    )
    return UnsupportedTower(
        f"expected a tower whose embedding is a sum of its heads', MLPs' and tokens' effects, got {what}; "
        f"supported: {SUPPORTED}. {hint[0].upper()}{hint[1:]}"
    )


@dataclass(frozen=True, eq=False)
class Block:
    """The modules of one layer at which a pass is read.

    norm: the module whose output the attention reads; None if the attention reads the residual stream (post-norm).
    attention: the module in which queries and keys can be observed. hidden: the MLP's second matrix, whose input
    is the neurons' activations. mlp_write: the module whose output the MLP adds to the residual stream. inner_norm:
    a LayerNorm over the heads' outputs. write_norm, mlp_norm: LayerNorms of the outputs that the attention and the
    MLP add. reads: "weights" if queries and keys are the input times the matrices; "calls" if the tower rotates or
    normalises them, so that its call of scaled dot-product attention must be intercepted; "either" if both work.
    """

    module: nn.Module
    norm: nn.Module | None
    attention: nn.Module
    hidden: nn.Module
    mlp_write: nn.Module
    inner_norm: nn.Module | None = None
    write_norm: nn.Module | None = None
    mlp_norm: nn.Module | None = None
    reads: Literal["weights", "calls", "either"] = "weights"

    @property
    def scaling_norm(self) -> nn.Module | None:
        """The LayerNorm, if any, that the heads' output passes before it is added to the residual stream."""
        return self.inner_norm or self.write_norm


class Reading(NamedTuple):
    """The image-dependent half of the readout (values.Readout). If weights is None, the readout is a class token."""

    weights: Float[Tensor, "image readout_head token"] | None
    mean: Float[Tensor, " image"]
    std: Float[Tensor, " image"]
    tail: Float[Tensor, "image d_embed"] | None = None


class ReadoutReader(Protocol):
    """Reads one kind of readout off a pass.

    early: whether the weights over tokens are known before the pass ends (see `weights_before`).
    """

    @property
    def early(self) -> bool: ...

    def modules(self) -> dict[str, nn.Module]:
        """Return modules, by the name under which their first input is kept."""
        ...

    def weights_before(self, tokens: Tensor) -> Tensor | None:
        """Return weights [image, 1, token] that are known before the pass, or None for a class token."""
        ...

    def reading(self, seen: dict[str, Tensor]) -> Reading:
        """Return the reading, from the inputs of `modules`."""
        ...


@dataclass(frozen=True, eq=False)
class Tower:
    """A decomposed vision tower: the module, its weights as values, and where a forward pass is read.

    activation: the MLPs' activation function, e.g. "QuickGELU"; family: the adapter's name for such towers.
    """

    visual: nn.Module
    weights: TowerWeights
    blocks: tuple[Block, ...]
    readout: ReadoutReader
    activation: str
    family: str
    image_size: tuple[int, int]


def full(tensor: Tensor) -> Tensor:
    """Return the detached tensor in float32, or in float64 if it has that precision."""
    tensor = tensor.detach()
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def unmixed(device: torch.device) -> AbstractContextManager[Any]:
    """Disable autocast inside the block, so that what is recorded is float32, whatever the pass itself uses."""
    return (
        torch.autocast(device.type, enabled=False) if device.type in ("cpu", "cuda", "xpu") else nullcontext()
    )


def deviation(tokens: Float[Tensor, "*rows d_model"], eps: float) -> Float[Tensor, "*rows"]:
    """Return the LayerNorm's divisor, sqrt(variance + eps)."""
    return (full(tokens).var(-1, unbiased=False) + eps).sqrt()


def check_norm(norm: nn.Module, where: str) -> nn.Module:
    """Return the module if it is a LayerNorm over its last axis with gamma and beta."""
    fits = isinstance(norm, nn.LayerNorm) and norm.weight is not None and norm.bias is not None
    if not fits:
        raise unsupported(f"{where} {type(norm).__name__}")
    return norm


def present(module: nn.Module | None) -> nn.Module | None:
    """Return the module, or None if there is none or it is an identity."""
    return None if module is None or isinstance(module, nn.Identity) else module


@dataclass(frozen=True, eq=False)
class ClassToken:
    """Reads token 0 through the final LayerNorm, whose input may be that token or all tokens."""

    norm: nn.Module
    early: bool = True

    def modules(self) -> dict[str, nn.Module]:
        return {"final": self.norm}

    def weights_before(self, tokens: Tensor) -> Tensor | None:
        return None

    def reading(self, seen: dict[str, Tensor]) -> Reading:
        final = full(seen["final"])
        final = final[:, 0] if final.ndim == 3 else final
        return Reading(None, final.mean(-1), deviation(final, self.norm.eps))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class MeanThenNorm:
    """Reads the mean of the tokens from `first` on, through the final LayerNorm (CLIPA)."""

    norm: nn.Module
    first: int
    early: bool = True

    def modules(self) -> dict[str, nn.Module]:
        return {"final": self.norm}

    def weights_before(self, tokens: Tensor) -> Tensor | None:
        n_images, n_tokens = tokens.shape[:2]
        weights = full(tokens).new_zeros(n_images, 1, n_tokens)
        weights[..., self.first :] = 1 / (n_tokens - self.first)
        return weights

    def reading(self, seen: dict[str, Tensor]) -> Reading:
        final = full(seen["final"])
        return Reading(None, final.mean(-1), deviation(final, self.norm.eps))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class NormThenMean:
    """Reads the mean over the tokens from `first` on, each through the final LayerNorm."""

    norm: nn.Module
    first: int
    early: bool = False

    def modules(self) -> dict[str, nn.Module]:
        return {"final": self.norm}

    def weights_before(self, tokens: Tensor) -> Tensor | None:
        return None

    def reading(self, seen: dict[str, Tensor]) -> Reading:
        weights = 1 / deviation(seen["final"], self.norm.eps)  # type: ignore[arg-type]
        weights[:, : self.first] = 0
        weights = weights / (weights.shape[1] - self.first)
        total = weights.sum(-1)
        return Reading((weights / total[:, None])[:, None], torch.zeros_like(total), 1 / total)


@dataclass(frozen=True, eq=False)
class AttentionPool:
    """Reads an attention pool, whose own queries attend to the LayerNormed tokens (SigLIP, PE, CoCa).

    norm: the LayerNorm before the pool; pool: its input is the normed tokens (None: norm them again, where the
    pool has the norm inside); queries [readout_head, d_head], key matrices and biases; first: index of the first
    token that the pool reads; post: a LayerNorm of the pooled vector; tail: its input, times tail_map, is the
    tail. The query does not depend on the image, so that its attention follows from the tokens alone.
    """

    norm: nn.Module
    pool: nn.Module | None
    query: Tensor  # [readout_head, d_head], scaled
    key: Tensor  # [readout_head, d_head, d_model]
    key_norm: nn.Module | None
    first: int
    post: nn.Module | None = None
    tail: nn.Module | None = None
    tail_map: Tensor | None = None  # [neuron, d_embed]
    tail_bias: Tensor | None = None  # [d_embed]
    key_bias: Tensor | None = None  # [readout_head, d_head], matters where keys are normed
    early: bool = False

    def modules(self) -> dict[str, nn.Module]:
        found: dict[str, nn.Module | None] = {
            "final": self.norm,
            "pooled": self.pool,
            "post": self.post,
            "tail": self.tail,
        }
        return {name: module for name, module in found.items() if module is not None}

    def weights_before(self, tokens: Tensor) -> Tensor | None:
        return None

    def reading(self, seen: dict[str, Tensor]) -> Reading:
        tokens = seen["pooled"] if self.pool is not None else self.norm(seen["final"])
        weights = self._attention(full(tokens))
        weights = torch.nn.functional.pad(weights, (self.first, 0))
        weights = weights / deviation(seen["final"], self.norm.eps)[:, None]  # type: ignore[arg-type]
        std = torch.ones_like(weights[:, 0, 0])
        if self.post is not None:
            post = seen["post"]
            std = deviation(post[:, 0] if post.ndim == 3 else post, self.post.eps)  # type: ignore[arg-type]
        return Reading(weights, torch.zeros_like(std), std, self._tail(seen))

    def _attention(
        self, tokens: Float[Tensor, "image token d_model"]
    ) -> Float[Tensor, "image readout_head token"]:
        if self.key_norm is None:
            return torch.softmax(
                torch.einsum("pe,ped->pd", self.query, self.key) @ tokens.transpose(1, 2), -1
            )
        keys = torch.einsum("itd,ped->ipte", tokens, self.key)
        keys = keys if self.key_bias is None else keys + self.key_bias[:, None]
        keys = full(self.key_norm(keys.to(self.key_norm.weight.dtype)))  # type: ignore[arg-type]
        return torch.softmax((keys * self.query[:, None]).sum(-1), -1)

    def _tail(self, seen: dict[str, Tensor]) -> Tensor | None:
        if self.tail_map is None:
            return None
        hidden = full(seen["tail"])
        hidden = hidden[:, 0] if hidden.ndim == 3 else hidden
        written = hidden @ self.tail_map
        return written if self.tail_bias is None else written + self.tail_bias


def pooling_readout(
    norm: nn.Module,
    value: Float[Tensor, "readout_head d_head d_model"],
    value_bias: Float[Tensor, "readout_head d_head"],
    output: Float[Tensor, "readout_head d_out d_head"],
    output_bias: Float[Tensor, " d_out"],
    after: Float[Tensor, "d_out d_embed"],
    scaled_after: bool,
    constant: Float[Tensor, " d_embed"],
    has_tail: bool,
) -> Readout:
    """Return the readout of an attention pool: M[p] = centre(gamma * W_V[p]^T W_O[p]^T H), H the map after the pool.

    scaled_after: the pool's output, including its biases, is divided by the image's std (a LayerNorm after the
    pool).
    """
    gamma, beta = full(norm.weight), full(norm.bias)  # type: ignore[arg-type]
    linear = torch.einsum("ped,poe,ok->pdk", value, output, after)
    matrices = gamma[:, None] * linear
    matrices = matrices - matrices.mean(1, keepdim=True)
    biases = beta @ linear.sum(0) + (torch.einsum("poe,pe->o", output, value_bias) + output_bias) @ after
    zero = torch.zeros_like(constant)
    return Readout(
        "attention pooling",
        matrices,
        bias=biases if scaled_after else zero,
        constant=constant if scaled_after else constant + biases,
        has_tail=has_tail,
    )


def centred_readout(norm: Any, projection: Tensor, bias: Tensor | None) -> Readout:
    """Return the readout of the projected mean of LayerNormed tokens."""
    plain = Readout.after_norm(full(norm.weight), full(norm.bias), projection, "mean of tokens", bias)
    matrices = plain.matrices - plain.matrices.mean(1, keepdim=True)
    return Readout(plain.kind, matrices, plain.bias, plain.constant)
