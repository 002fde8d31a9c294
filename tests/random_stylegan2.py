"""Weights of a tiny StyleGAN2, random, named as stylegan2-ada-pytorch names them."""

from __future__ import annotations

import torch

SIDES = {4: 5, 8: 4, 16: 3}


def random_state(n_classes=0, seed=0):
    """Weights as stylegan2-ada-pytorch names them, of 5, 4 and 3 channels: z of 6, two layers of mapping, w of 7."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw)

    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    weights = {
        "mapping.fc0.weight": 100 * normal(7, 6 + (7 if n_classes else 0)),
        **{"mapping.fc0.bias": 10 * normal(7), "mapping.fc1.weight": 100 * normal(7, 7)},
        **{"mapping.fc1.bias": 10 * normal(7), "mapping.w_avg": normal(7)},
    }
    if n_classes:
        weights |= {"mapping.embed.weight": normal(7, n_classes), "mapping.embed.bias": normal(7)}
    before = 0
    for side, n in SIDES.items():
        block = f"synthesis.b{side}"
        weights[f"{block}.resample_filter"] = line[:, None] * line
        layers = {"conv1": n} if side == 4 else {"conv0": before, "conv1": n}
        if side == 4:
            weights[f"{block}.const"] = normal(n, 4, 4)
        for layer, n_in in layers.items():
            weights |= {
                f"{block}.{layer}.weight": normal(n, n_in, 3, 3),
                f"{block}.{layer}.bias": normal(n),
                f"{block}.{layer}.noise_strength": normal(1)[0],
                f"{block}.{layer}.noise_const": normal(side, side),
                f"{block}.{layer}.resample_filter": line[:, None] * line,
                f"{block}.{layer}.affine.weight": normal(n_in, 7),
                f"{block}.{layer}.affine.bias": normal(n_in) + 1,
            }
        weights |= {
            **{f"{block}.torgb.weight": normal(3, n, 1, 1), f"{block}.torgb.bias": normal(3)},
            **{f"{block}.torgb.affine.weight": normal(n, 7), f"{block}.torgb.affine.bias": normal(n) + 1},
        }
        before = n
    return weights
