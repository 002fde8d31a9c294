"""Units' maps as bytes, and the range that they are drawn in, by hand and against plain arithmetic."""

from __future__ import annotations

import pytest
import torch

from clipviz.lens.unit_thumbnails import Range, drawn


def test_bytes_run_from_the_floor_to_the_peak_of_each_unit():
    rising = torch.tensor([[0.0, 1.0], [1.5, 4.0]])
    maps = torch.stack([rising, 0.1 * rising, rising, rising])[None]
    floor, peak = torch.tensor([1.0, 0.1, 3.0, 2.0]), torch.tensor([3.0, 0.3, 3.0, 1.0])
    found = drawn(maps, floor, peak, 2)
    assert found[0, 0].tolist() == found[0, 1].tolist() == [[0, 0], [64, 255]]
    assert found[0, 2:].max() == 0  # a peak that does not exceed its floor
    assert found.dtype == torch.uint8


def test_maps_are_read_bilinearly_at_the_side_that_is_drawn():
    one = torch.tensor([[[[0.0, 1.0]] * 2]])
    grown = drawn(one, torch.zeros(1), torch.ones(1), 4)[0, 0, 0].tolist()
    assert grown == [0, 64, 191, 255]  # 0, 1/4, 3/4, 1
    checked = (torch.arange(16) % 2).float().expand(1, 1, 16, 16)
    shrunk = drawn(checked, torch.zeros(1), torch.ones(1), 4)
    assert ((shrunk > 90) & (shrunk < 165)).all()  # stripes are averaged and not left out


def test_a_range_is_the_mean_of_all_and_of_the_strongest_peaks():
    draw = torch.Generator().manual_seed(0)
    maps = torch.rand(9, 3, 4, 5, generator=draw)
    running = Range(3, 4)
    peaks = torch.cat([running.update(part) for part in maps.split([2, 4, 3])])
    for unit in range(3):
        values = maps[:, unit].double()
        assert float(running.floor()[unit]) == pytest.approx(float(values.mean()))
        highest = sorted((float(image.max()) for image in values), reverse=True)
        assert float(running.peak()[unit]) == pytest.approx(sum(highest[:4]) / 4)
        assert peaks[:, unit].tolist() == pytest.approx([float(image.max()) for image in values])
