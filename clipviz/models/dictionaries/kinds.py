"""The points that a dictionary can read, its activation functions, and the normalisations of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

Point = Literal["residual", "mlp output", "mlp hidden", "attention output"]
"""Points that a dictionary can read: the residual stream after a block, the output of its MLP or of its attention,
or the MLP's hidden units (the input of its output matrix).
"""
POINTS: tuple[Point, ...] = get_args(Point)
Activation = Literal["relu", "topk", "jumprelu", "gated", "tanh-relu"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
Norm = Literal["none", "layer norm", "unit norm"]
NORMS: tuple[Norm, ...] = get_args(Norm)


@dataclass(frozen=True, eq=False)
class Gate:
    """The second half of a gated autoencoder: which features are on, and their magnitudes.

    The gate is on where pre + bias > 0; the magnitude is relu(pre * exp(r_mag) + mag_bias), pre the encoder's products
    without a bias.
    """

    bias: Float[Tensor, " unit"]
    r_mag: Float[Tensor, " unit"]
    mag_bias: Float[Tensor, " unit"]
