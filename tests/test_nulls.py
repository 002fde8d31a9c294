"""docs/nulls.md says what was measured, of every number, and what is measured again is the same kind of number."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from few_texts import COMMON

from clipviz.analysis.heads import labels
from clipviz.data.texts import Texts

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def nulls():
    spec = importlib.util.spec_from_file_location("nulls", ROOT / "tools" / "nulls.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def numbers():
    return json.loads((ROOT / "docs" / "nulls.json").read_text(encoding="utf-8"))


def test_the_page_is_written_from_the_numbers(nulls, numbers):
    assert (ROOT / "docs" / "nulls.md").read_text(encoding="utf-8") == nulls.page(numbers)
    assert set(numbers) == set(nulls.ROWS)
    models = {row["model"] for row in numbers.values()}
    assert all(f"`{model}`" in nulls.page(numbers) for model in models)


def test_random_networks_stay_within_what_is_promised(numbers):
    cues = numbers["cues"]
    assert cues["random_beyond"] <= 0.05 * cues["random_words"]
    assert cues["trained_beyond"] > 0.5 * cues["trained_words"]
    for pool in ("demo", "general"):
        assert float(numbers["heads"][f"{pool}_clear"].rstrip("%")) <= 5
        assert numbers["heads"][f"{pool}_ks_p"] > 0.01
    assert numbers["heads"]["n"] == 1600


def test_a_head_of_noise_has_the_spectrum_of_a_head_and_another_direction_each_time(nulls):
    variances = torch.tensor([5.0, 2.0, 1.0])
    covariance, span = torch.diag(variances)[None], torch.linalg.qr(torch.randn(8, 3))[0][None]
    drawn = [nulls.noise_head(covariance, span, seed)[0] for seed in range(40)]
    spectrum = torch.stack([torch.linalg.eigvalsh(one) for one in drawn]).mean(0)
    torch.testing.assert_close(spectrum.flip(0), variances, rtol=0.1, atol=0)
    torch.testing.assert_close(torch.stack(drawn).mean(0), torch.eye(3) * 8 / 3, atol=0.9, rtol=0)
    pool, texts = torch.randn(12, 8), Texts([f"text {i}" for i in range(12)], ["a", "b", "c"] * 4, "texts")
    turned, axes = nulls.noise_head(covariance, span, 1)
    assert labels.label_head(turned, axes, pool, texts, n_draws=20).n_draws == 20


@pytest.mark.parametrize("name", ["textspan", "accuracy", "search", "atlas"])
def test_a_row_measured_again_fills_its_words(nulls, numbers, monkeypatch, name):
    few = functools.lru_cache(maxsize=4)(
        lambda seed: nulls.clipviz.Session(
            nulls.trained_model() if seed is None else nulls.random_model(seed),
            nulls.demo.images().subset(range(24)),
            COMMON,
            background=False,
        )
    )
    monkeypatch.setattr(nulls, "session_of", few)
    found = nulls.ROWS[name].measure()
    assert set(found) == set(numbers[name]) - {"model"}
    assert "{" not in nulls.ROWS[name].said.format(**found)
