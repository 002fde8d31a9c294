"""Where a dictionary reads, how its features are activated and how its inputs are normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

Point = Literal["residual", "mlp output", "mlp hidden", "attention output"]
"""Where a dictionary reads: the residual stream after a block, what its MLP or its attention adds to it, or the MLP's
hidden units (the numbers that its output matrix reads)."""
POINTS: tuple[Point, ...] = get_args(Point)
Activation = Literal["relu", "topk", "jumprelu", "gated", "tanh-relu"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
Norm = Literal["none", "layer norm", "unit norm"]
NORMS: tuple[Norm, ...] = get_args(Norm)


@dataclass(frozen=True, eq=False)
class Gate:
    """A gated autoencoder's second half: which features are on, and how much those are worth.

    The gate is on where pre + bias > 0; the magnitude is relu(pre * exp(r_mag) + mag_bias), pre the encoder's products
    without a bias.
    """

    bias: Float[Tensor, " unit"]
    r_mag: Float[Tensor, " unit"]
    mag_bias: Float[Tensor, " unit"]
