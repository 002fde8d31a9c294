"""A cosine beside others, by hand."""

from __future__ import annotations

import pytest
import torch

from clipviz.lens import percentiles


def test_ranks_and_shares_by_hand():
    others = torch.tensor([0.1, 0.3, 0.2, 0.2])
    assert percentiles.rank_among(0.2, others) == 2
    assert percentiles.share_below(0.25, others) == 0.75
    assert percentiles.share_below(0.25, others[:0]) == 0.0


def test_the_best_cosines_are_those_of_the_literal_loop():
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (7, 3))
    pool = texts / texts.norm(dim=1, keepdim=True)
    expected = [max(float(image @ text / image.norm()) for text in pool) for image in images]
    assert percentiles.best_cosines(images, pool).tolist() == pytest.approx(expected, abs=1e-12)


def test_an_image_below_the_first_percentile_is_far():
    best = torch.linspace(0.2, 0.5, 200)
    far = percentiles.among_images(0.1, best)
    assert not far.known
    assert (far.cosine, far.share, far.n_images) == (0.1, 0.0, 200)
    assert "0.100" in far.why
    near = percentiles.among_images(0.3, best)
    assert (near.known, near.why) == (True, "")
    assert percentiles.among_images(0.1, best[:99]).known  # too few to say


def test_a_text_names_every_thing_that_a_mask_outlines():
    columns = {"class": ["owl", "", "fox"], "second class": ["lamp", "", ""]}
    assert percentiles.names_object("two Owls beside a lamp", columns, 0)
    assert percentiles.names_object("an owl", columns, 0) is False
    assert percentiles.names_object("a box", columns, 2) is False
    assert percentiles.names_object("foxes", columns, 2)
    assert percentiles.names_object("a fox", columns, 1) is None
    assert percentiles.names_object("a fox", {}, 0) is None
