"""A StyleGAN2 from its state dict alone, against the operations written out one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_stylegan2 import SIDES, random_state
from safetensors.torch import save_file
from scipy.signal import convolve2d, correlate2d

import clipviz
from clipviz.models.stylegan2 import StyleGan2


def painted_slowly(weights, z, label, truncation):
    """One picture in float64, one convolution at a time."""
    at = {name: value.double().numpy() for name, value in weights.items()}

    def moment(row):
        return row / np.sqrt(np.mean(row**2) + 1e-8)

    def leaky(values):
        return np.sqrt(2) * np.where(values > 0, values, 0.2 * values)

    def affine(layer):
        return at[f"{layer}.affine.weight"] @ style / np.sqrt(7) + at[f"{layer}.affine.bias"]

    def twice(plane):
        """Zeros between the values, the binomial filter at four times its height."""
        spread = np.zeros((2 * len(plane), 2 * len(plane)))
        spread[::2, ::2] = plane
        kernel = 4 * at["synthesis.b4.resample_filter"]
        return convolve2d(np.pad(spread, ((2, 1), (2, 1))), kernel, "valid")

    def layer(name, maps, up):
        kernels = at[f"{name}.weight"] * affine(name)[None, :, None, None]
        kernels = kernels / np.sqrt((kernels**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        planes = []
        for kernel in kernels:
            plane = 0
            for one, values in zip(kernel, maps, strict=True):
                if up:
                    spread = np.zeros((2 * len(values) - 1, 2 * len(values) - 1))
                    spread[::2, ::2] = values
                    wide = np.pad(convolve2d(spread, one), 1)
                    plane = plane + convolve2d(wide, 4 * at[f"{name}.resample_filter"], "valid")
                else:
                    plane = plane + correlate2d(values, one, "same")
            planes.append(plane)
        noise = at[f"{name}.noise_const"] * at[f"{name}.noise_strength"]
        return [leaky(plane + noise + bias) for plane, bias in zip(planes, at[f"{name}.bias"], strict=True)]

    row = moment(z.double().numpy())
    if label is not None:
        embedded = at["mapping.embed.weight"][:, label] / np.sqrt(at["mapping.embed.weight"].shape[1])
        row = np.concatenate([row, moment(embedded + at["mapping.embed.bias"])])
    for name in ("mapping.fc0", "mapping.fc1"):
        row = leaky(0.01 * at[f"{name}.weight"] @ row / np.sqrt(len(row)) + 0.01 * at[f"{name}.bias"])
    style = at["mapping.w_avg"] + truncation * (row - at["mapping.w_avg"])
    maps, picture, seen = None, np.zeros((3, 0, 0)), {}
    for side in SIDES:
        block = f"synthesis.b{side}"
        maps = layer(f"{block}.conv0", maps, up=True) if side > 4 else at[f"{block}.const"]
        maps = layer(f"{block}.conv1", maps, up=False)
        seen[f"b{side}.conv1"] = np.stack(maps)
        scales = affine(f"{block}.torgb") / np.sqrt(len(maps))
        kernels = at[f"{block}.torgb.weight"][:, :, 0, 0] * scales
        adds = np.einsum("ck,krs->crs", kernels, np.stack(maps)) + at[f"{block}.torgb.bias"][:, None, None]
        picture = adds if side == 4 else np.stack([twice(plane) for plane in picture]) + adds
    return picture, seen


@pytest.mark.parametrize(("n_classes", "label"), [(0, None), (3, 2)])
def test_it_paints_what_the_operations_one_by_one_do(n_classes, label, tmp_path):
    weights = random_state(n_classes)
    save_file(weights, tmp_path / "g.safetensors")
    options = {} if label is None else {"class_index": label}
    generator = clipviz.load_generator(tmp_path / "g.safetensors", truncation=0.7, **options)
    assert generator.name == "stylegan2"
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(5))
    latents = generator.sample(2, seed=5)
    assert latents.shape == (2, 6, 7)  # a style for each of five layers and the last picture
    images, maps = generator.images(latents), generator.maps(latents)
    assert list(maps) == ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"]
    for i in range(2):
        picture, seen = painted_slowly(weights, z[i], label, 0.7)
        wanted = torch.from_numpy((picture + 1) / 2).clamp(0, 1)
        torch.testing.assert_close(images[i].double(), wanted, atol=1e-4, rtol=0)
        for name, values in seen.items():
            torch.testing.assert_close(maps[name][i].double(), torch.from_numpy(values), atol=1e-3, rtol=1e-4)


def test_each_style_reaches_its_own_layer_and_no_earlier_one():
    generator = clipviz.models.generator.stylegan2(StyleGan2.of(random_state()).eval())
    latents = generator.sample(1)
    before = generator.maps(latents)
    for place, first in enumerate(["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"]):
        moved = latents.clone()
        moved[:, place] += 1
        after = generator.maps(moved)
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        assert changed[0] == first
    last = latents.clone()
    last[:, 5] += 1
    assert all(torch.equal(a, b) for a, b in zip(generator.maps(last).values(), before.values(), strict=True))
    assert not torch.equal(generator.images(last), generator.images(latents))


def test_a_state_dict_of_another_network_says_what_is_missing(tmp_path):
    weights = random_state()
    without = {name: value for name, value in weights.items() if name != "synthesis.b16.conv0.weight"}
    misshaped = weights | {"synthesis.b8.torgb.bias": torch.zeros(4)}
    holed = {name: value for name, value in weights.items() if "b8" not in name}
    for state, message in (
        (without, r"lacks synthesis\.b16\.conv0\.weight"),
        (misshaped, r"has another shape of synthesis\.b8\.torgb\.bias"),
        (holed, r"a block for each side 4, 8, \.\.\. \(the file has sides \[4, 16\]\)"),
        ({"mapping.fc0.weight": torch.zeros(2, 2)}, r"synthesis\.b4\.conv1\.weight"),
        ({"weight": torch.zeros(2)}, r"mapping\.fc0\.weight"),
    ):
        with pytest.raises(ValueError, match=message):
            StyleGan2.of(state)
    save_file(weights, tmp_path / "g.safetensors")
    with pytest.raises(ValueError, match="expected no class for a generator without classes, got 1"):
        clipviz.load_generator(tmp_path / "g.safetensors", class_index=1)
    save_file(random_state(3), tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"expected a class in 0\.\.2, got None"):
        clipviz.load_generator(tmp_path / "c.safetensors")
    torch.save({"G_ema": weights}, tmp_path / "g.pt")  # a wrapper and a torch file of weights alone
    same = [clipviz.load_generator(tmp_path / name) for name in ("g.pt", "g.safetensors")]
    torch.testing.assert_close(*(one.images(one.sample(1)) for one in same))
