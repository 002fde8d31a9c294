"""The measures of generated pictures: Frechet distances, the locator and the report card's section."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

import clipviz
from clipviz.demo.generator import locator, measure
from clipviz.demo.generator.scenes import rotation
from clipviz.demo.generator.teacher import draw_latents, render
from clipviz.reproduce.report import Report, Steps
from clipviz.reproduce.world import generating
from clipviz.reproduce.world.held_out import encoder_of
from tools.demo.locator import errors


def test_frechet_distance_equals_the_slow_formula():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(300, 6, generator=generator)
    b = torch.randn(200, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 0.5
    mean = a.double().mean(0) - b.double().mean(0)
    cov_a, cov_b = (np.cov(x.double().numpy().T) for x in (a, b))
    wanted = float(mean @ mean) + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert measure.frechet(a, b) == pytest.approx(wanted, rel=1e-6)
    assert measure.frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_the_locator_is_small_and_measures_held_out_pictures():
    assert locator.WEIGHTS.stat().st_size < 300_000
    found = errors(200)
    assert found["n"] > 120
    assert found["centroid"] < 0.02
    assert found["area"] < 0.1
    assert found["count"] < 0.1


def test_the_locator_sees_that_there_is_nothing():
    """On pictures of the generator itself: empty ones, made so by the factor of the number, and others."""
    generator = clipviz.load_generator("demo")
    latents = generator.sample(120, seed=5_000_011)
    factors = latents.z @ rotation().float().T
    factors[:60, 3] = -3.5
    latents = latents.moved(factors @ rotation().float())
    truth, seen = generator.true_scenes(latents), locator.locate(measure.paint(generator, latents)).count
    empty, there = truth.opacity.max(1) < 0.1, truth.opacity.max(1) > 0.9
    assert empty.sum() >= 60
    assert (seen.numpy()[empty] == 0).mean() > 0.95
    assert (seen.numpy()[there] > 0).mean() > 0.95


def test_the_locator_measures_one_picture_as_in_company_and_at_any_size():
    images = render(*draw_latents(6, 4)).images
    found, alone = locator.locate(images), locator.locate(images[2:3])
    torch.testing.assert_close(found.centroid[2:3], alone.centroid, atol=1e-5, rtol=0)
    large = torch.nn.functional.interpolate(images, 128, mode="bilinear", align_corners=False)
    torch.testing.assert_close(locator.locate(large).centroid, found.centroid, atol=0.02, rtol=0)
    empty = locator.locate(torch.full((1, 3, 64, 64), 0.5))
    assert empty.count.item() == 0
    with pytest.raises(ValueError, match=r"expected pictures \[image, 3, rows, cols\]"):
        locator.locate(images[:, :1])


def test_the_report_card_measures_the_generator(tmp_path):
    encoder = encoder_of(clipviz.load("demo"))
    steps = Steps(tmp_path / "steps", {"model": "demo"})
    found = generating.measured(encoder, steps, 100)
    kinds, colours, grounds = (
        found.named[next(what for what in found.named if what.startswith(start))]
        for start in ("kind", "colour", "ground")
    )
    assert kinds["teacher"].n == 100
    assert kinds["teacher"].value > 0.85
    for what in (kinds, colours, grounds):
        assert what["teacher"].value > 0.85
        assert what["generator"].value > 0.8
    assert (
        found.frechet["generator to held-out renders"]
        < found.frechet["scenes of the world to held-out renders"]
    )
    again = generating.measured(encoder, steps, 100)
    assert again == found
    assert steps.resumed == ["world-generator"]
    report = Report(tmp_path, "card")
    generating.generator_section(report, found)
    text = report.write("card").read_text()
    assert "## The embedded generator" in text
    assert str(kinds["generator"]) in text
