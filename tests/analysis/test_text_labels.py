"""Names of units in words: chosen on some images, and kept only where they hold on others."""

from __future__ import annotations

import math

import pytest
import torch

from clipviz.analysis.rosetta import text_labels
from clipviz.analysis.rosetta.text_labels import fitting, names, shares

N, TEXTS = 200, [f"text {i}" for i in range(8)]


def planted(seed, of=3, noise=0.1):
    """Peaks of five units and which texts are true: the first is strong where text `of` is, the others anywhere."""
    draw = torch.Generator().manual_seed(seed)
    fits = torch.rand(N, len(TEXTS), generator=draw) < 0.15
    peaks = torch.rand(N, 5, generator=draw)
    peaks[:, 0] = fits[:, of] + noise * torch.rand(N, generator=draw)
    return peaks, fits


def test_shares_and_their_chance_are_those_counted_one_by_one():
    peaks, fits = planted(0)
    share, chance = shares(peaks, fits)
    k = text_labels.n_strongest(N)
    for unit in range(5):
        top = sorted(range(N), key=lambda i: -float(peaks[i, unit]))[:k]
        for text in range(len(TEXTS)):
            found, base = sum(bool(fits[i, text]) for i in top), float(fits[:, text].double().mean())
            assert float(share[text, unit]) == pytest.approx(found / k)
            expected = sum(math.comb(k, j) * base**j * (1 - base) ** (k - j) for j in range(found, k + 1))
            assert float(chance[text, unit]) == pytest.approx(expected, rel=1e-6)


def test_a_name_holds_on_images_that_it_was_not_chosen_on():
    found = names(planted(1), planted(2), TEXTS)
    assert found[0] == ("text 3", 1.0)
    assert [text for text, _ in found[1:]] == [""] * 4


def test_a_name_that_does_not_hold_is_none():
    """On the second images the unit follows another text, or nothing."""
    assert names(planted(1), planted(2, of=5), TEXTS)[0][0] == ""
    peaks, fits = planted(2)
    shuffled = peaks[torch.randperm(N, generator=torch.Generator().manual_seed(0))]
    assert names(planted(1), (shuffled, fits), TEXTS)[0][0] == ""


def test_units_of_noise_have_no_name():
    draw = torch.Generator().manual_seed(5)
    first, second = (torch.rand(N, 400, generator=draw) for _ in range(2))
    fits, others = (torch.rand(N, len(TEXTS), generator=draw) < 0.15 for _ in range(2))
    assert not any(text for text, _ in names((first, fits), (second, others), TEXTS))


def test_a_text_fits_the_tenth_of_the_images_with_the_highest_cosines():
    cosines = torch.rand(N, 3, generator=torch.Generator().manual_seed(1))
    fits = fitting(cosines)
    assert fits.sum(0).tolist() == [20, 20, 20]
    for text in range(3):
        assert cosines[fits[:, text], text].min() > cosines[~fits[:, text], text].max()
