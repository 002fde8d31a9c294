"""StyleGAN2 reconstructed from its state dict (Karras et al. 2020), so that a file of weights suffices to paint.

A latent z and a class become a style w (`mapping`); modulated convolutions paint from a learned constant, and
each resolution adds to the picture (`synthesis`). Modules are named as in the state dicts of
stylegan2-ada-pytorch with the skip architecture. The noise is constant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE, GAIN = 0.2, 2**0.5
"""Gain of the leaky ReLUs, which preserves the second moment."""
SLOW = 0.01
"""The mapping's weights and biases are stored divided by this rate."""
FIRST = 4


def unit_moment(rows: Float[Tensor, "row number"]) -> Float[Tensor, "row number"]:
    """Return rows scaled to a mean square of 1."""
    return rows * (rows.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Linear(nn.Module):
    """A linear map: stored weights times rate / sqrt(inputs), and biases times rate."""

    def __init__(self, n_in: int, n_out: int, rate: float = 1.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(n_out, n_in)), nn.Parameter(torch.zeros(n_out))
        self.rate = rate

    def forward(self, rows: Float[Tensor, "row input"]) -> Float[Tensor, "row output"]:
        return F.linear(rows, self.weight * (self.rate / self.weight.shape[1] ** 0.5), self.bias * self.rate)


class MappingNetwork(nn.Module):
    """Maps z and, if there are classes, a one-hot label to one style per layer."""

    w_avg: Tensor

    def __init__(self, n_z: int, n_classes: int, widths: list[int], n_styles: int) -> None:
        super().__init__()
        self.n_styles, self.n_layers = n_styles, len(widths)
        n_label = widths[-1] if n_classes else 0
        if n_classes:
            self.embed = Linear(n_classes, n_label)
        for place, (n_in, n_out) in enumerate(zip([n_z + n_label, *widths[:-1]], widths, strict=True)):
            self.add_module(f"fc{place}", Linear(n_in, n_out, SLOW))
        self.register_buffer("w_avg", torch.zeros(widths[-1]))

    def forward(
        self, z: Tensor, label: Tensor | None, truncation_psi: float = 1.0
    ) -> Float[Tensor, "image style width"]:
        """Return styles. truncation_psi: how far to move from the mean style, 1 for no truncation."""
        rows = unit_moment(z)
        if label is not None:
            rows = torch.cat([rows, unit_moment(self.embed(label))], 1)
        for place in range(self.n_layers):
            rows = F.leaky_relu(self.get_submodule(f"fc{place}")(rows), SLOPE) * GAIN
        rows = self.w_avg + truncation_psi * (rows - self.w_avg)
        return rows[:, None].repeat(1, self.n_styles, 1)


def modulated(
    maps: Float[Tensor, "image input rows cols"],
    weight: Float[Tensor, "output input height width"],
    scales: Float[Tensor, "image input"],
    demodulate: bool = True,
    up: bool = False,
) -> Float[Tensor, "image output rows_out cols_out"]:
    """Return a convolution whose inputs are scaled per image and whose outputs are rescaled to unit deviation.

    up: the transposed convolution by a stride of 2, whose output is twice the maps plus one on each side.
    """
    kernels = weight * scales[:, None, :, None, None]
    if demodulate:
        kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    n, side = len(maps), weight.shape[2]
    together = maps.reshape(1, -1, *maps.shape[2:])
    if up:
        found = F.conv_transpose2d(together, kernels.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
    else:
        found = F.conv2d(together, kernels.flatten(0, 1), padding=side // 2, groups=n)
    return found.reshape(n, -1, *found.shape[2:])


def blurred(maps: Tensor, kernel: Tensor, before: int, after: int) -> Tensor:
    """Return zero-padded maps after a low-pass kernel, scaled to compensate for the inserted zeros."""
    padded = F.pad(maps, (before, after, before, after))
    kernels = 4 * kernel.flip(0, 1).expand(maps.shape[1], 1, *kernel.shape)
    return F.conv2d(padded, kernels, groups=maps.shape[1])


def doubled(maps: Tensor, kernel: Tensor) -> Tensor:
    """Return maps with twice the rows and columns: zeros are put between the values, then the kernel is applied."""
    spread = maps.new_zeros(*maps.shape[:2], 2 * maps.shape[2], 2 * maps.shape[3])
    spread[..., ::2, ::2] = maps
    return blurred(spread, kernel, 2, 1)


class SynthesisLayer(nn.Module):
    """A modulated convolution with constant noise and a leaky ReLU, whose outputs are units."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(self, n_in: int, n_out: int, width: int, side: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.affine = Linear(width, n_in)
        self.weight, self.bias = (
            nn.Parameter(torch.zeros(n_out, n_in, 3, 3)),
            nn.Parameter(torch.zeros(n_out)),
        )
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.zeros(side, side))
        self.register_buffer("resample_filter", torch.zeros(4, 4))

    def forward(self, maps: Tensor, style: Tensor) -> Tensor:
        found = modulated(maps, self.weight, self.affine(style), up=self.up)
        if self.up:
            found = blurred(found, self.resample_filter, 1, 1)
        found = found + self.noise_const * self.noise_strength + self.bias[:, None, None]
        return F.leaky_relu(found, SLOPE) * GAIN


class ToRgb(nn.Module):
    """The picture that a resolution adds."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.affine = Linear(width, n_in)
        self.weight, self.bias = nn.Parameter(torch.zeros(3, n_in, 1, 1)), nn.Parameter(torch.zeros(3))

    def forward(self, maps: Tensor, style: Tensor) -> Tensor:
        scales = self.affine(style) / self.weight.shape[1] ** 0.5
        return modulated(maps, self.weight, scales, demodulate=False) + self.bias[:, None, None]


class SynthesisBlock(nn.Module):
    """One resolution: two layers, or a learned constant and one layer at the first resolution."""

    resample_filter: Tensor

    def __init__(self, n_in: int, n_out: int, width: int, side: int) -> None:
        super().__init__()
        self.first = side == FIRST
        if self.first:
            self.const = nn.Parameter(torch.zeros(n_out, side, side))
        else:
            self.conv0 = SynthesisLayer(n_in, n_out, width, side, up=True)
        self.conv1 = SynthesisLayer(n_out, n_out, width, side, up=False)
        self.torgb = ToRgb(n_out, width)
        self.register_buffer("resample_filter", torch.zeros(4, 4))

    def forward(self, maps: Tensor, picture: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps and picture. The given ones have half the side; styles: the layers', then the picture's."""
        if self.first:
            maps = self.conv1(self.const.expand(len(styles), -1, -1, -1), styles[:, 0])
            return maps, self.torgb(maps, styles[:, 1])
        maps = self.conv1(self.conv0(maps, styles[:, 0]), styles[:, 1])
        return maps, doubled(picture, self.resample_filter) + self.torgb(maps, styles[:, 2])


class SynthesisNetwork(nn.Module):
    """Turns styles into pictures in -1..1, through every resolution."""

    def __init__(self, channels: Mapping[int, int], width: int) -> None:
        super().__init__()
        self.sides = tuple(channels)
        before = 0
        for side, n_out in channels.items():
            self.add_module(f"b{side}", SynthesisBlock(before, n_out, width, side))
            before = n_out

    def forward(
        self, styles: Float[Tensor, "image style width"], noise_mode: str = "const"
    ) -> Float[Tensor, "image 3 rows cols"]:
        """Return pictures. noise_mode: only "const" is supported, the noise stored with the weights."""
        if noise_mode != "const":
            raise ValueError(f"expected the constant noise, got noise_mode={noise_mode!r}; leave it out")
        maps = picture = styles.new_zeros(len(styles), 0, 0, 0)
        first = 0
        for side in self.sides:
            maps, picture = self.get_submodule(f"b{side}")(maps, picture, styles[:, first:])
            first += 1 if side == FIRST else 2
        return picture


class StyleGan2(nn.Module):
    """A StyleGAN2 with the sizes found in a state dict.

    z_dim: numbers of z; c_dim: classes, 0 for none; widths: outputs of the mapping's layers; channels: side ->
    channels of the synthesis.
    """

    def __init__(self, z_dim: int, c_dim: int, widths: list[int], channels: Mapping[int, int]) -> None:
        super().__init__()
        self.z_dim, self.c_dim = z_dim, c_dim
        self.mapping = MappingNetwork(z_dim, c_dim, widths, 2 * len(channels))
        self.synthesis = SynthesisNetwork(channels, widths[-1])

    def forward(self, z: Tensor, label: Tensor | None = None, truncation_psi: float = 1.0) -> Tensor:
        found: Tensor = self.synthesis(self.mapping(z, label, truncation_psi))
        return found

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> StyleGan2:
        """Return the network that a state dict belongs to, with its weights. Raises ValueError for other networks."""
        try:
            network = cls._blank(weights)
        except KeyError as error:
            raise ValueError(
                "expected the state dict of a StyleGAN2 (mapping.fc0.weight, synthesis.b4.const, ...), got one "
                f"without {error.args[0]}; save network.state_dict() of stylegan2-ada-pytorch's generator, or pass "
                "the network itself"
            ) from error
        own = network.state_dict()
        missing = sorted(set(own) - set(weights))
        misfit = [key for key in own if key in weights and own[key].shape != weights[key].shape]
        if missing or misfit:
            raise ValueError(
                f"expected the state dict of a StyleGAN2 with skips, got one that "
                f"{f'lacks {missing[0]}' if missing else f'has another shape of {misfit[0]}'} ({len(missing)} missing, "
                f"{len(misfit)} misfit of {len(own)} tensors); pass the network itself, built by its own library"
            )
        network.load_state_dict({key: weights[key] for key in own})
        return network

    @classmethod
    def _blank(cls, weights: Mapping[str, Tensor]) -> StyleGan2:
        n_layers = len([key for key in weights if re.fullmatch(r"mapping\.fc\d+\.weight", key)])
        widths = [len(weights[f"mapping.fc{place}.weight"]) for place in range(max(1, n_layers))]
        n_classes = weights["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in weights else 0
        n_label = len(weights["mapping.embed.weight"]) if n_classes else 0
        sides = sorted(
            int(found[1])
            for key in weights
            if (found := re.fullmatch(r"synthesis\.b(\d+)\.conv1\.weight", key))
        )
        if sides != [FIRST << place for place in range(len(sides))]:
            raise KeyError(f"a block for each side {FIRST}, {2 * FIRST}, ... (the file has sides {sides})")
        channels = {side: len(weights[f"synthesis.b{side}.conv1.weight"]) for side in sides}
        if not channels:
            raise KeyError("synthesis.b4.conv1.weight")
        return cls(weights["mapping.fc0.weight"].shape[1] - n_label, n_classes, widths, channels)
