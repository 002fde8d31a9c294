"""A head's label: found by hand, the same in any company, stable over seeds."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from clipviz.analysis.heads import labels
from clipviz.data.texts import Texts
from clipviz.lens import intervals


def planted(strength: float, seed: int = 0):
    """A head of rank 8 in 24 dimensions that varies along five texts of one family, in a pool of 60."""
    generator = torch.Generator().manual_seed(seed)
    span = torch.linalg.qr(torch.randn(24, 8, generator=generator)).Q
    pool = torch.nn.functional.normalize(torch.randn(60, 24, generator=generator), dim=1)
    pool[:5] = span[:, :5].T + 0.05 * torch.randn(5, 24, generator=generator)
    variances = torch.tensor([strength] * 5 + [1.0] * 3)
    families = ["colour" if i < 5 else f"other {i % 7}" for i in range(60)]
    return torch.diag(variances), span, pool, Texts([f"text {i}" for i in range(60)], families, "planted")


def test_a_planted_property_is_found_and_noise_is_not():
    found = labels.label_head(*planted(100.0))
    assert sorted(found.first) == [0, 1, 2, 3, 4]
    assert (found.label, found.n_texts) == ("colour", 5)
    assert found.p_value == pytest.approx(1 / (1 + labels.N_DRAWS), abs=0.02)
    assert len(found.null_counts) == labels.N_DRAWS
    nothing = labels.label_head(*planted(1e-3))
    assert nothing.label == "no clear role"
    covariance, span, pool, texts = planted(1e-3)
    everything = Texts([*texts], ["colour"] * len(texts), "of one family")  # any rotation finds as many
    usual = labels.label_head(covariance, span, pool, everything)
    assert (usual.n_texts, usual.p_value, usual.label) == (5, 1.0, "no clear role")


def test_p_of_heads_of_noise_is_uniform_and_few_get_a_label():
    """The spectrum of the planted head, turned at random, beside a pool that says nothing about it."""
    covariance, span, pool, texts = planted(3.0)
    pool = torch.nn.functional.normalize(torch.randn(60, 24), dim=1)
    found = []
    for seed in range(400):
        generator = torch.Generator().manual_seed(seed)
        turned = covariance.sqrt() @ torch.randn(8, 8, generator=generator)
        found.append(labels.label_head(turned @ turned.T, span, pool, texts, n_draws=60))
    p_values = [role.p_value for role in found]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01
    n_clear = sum(role.clear for role in found)
    assert intervals.share(n_clear, len(found)).low <= labels.LEVEL
    assert 0 < n_clear <= 0.05 * len(found)


def test_a_label_does_not_depend_on_the_heads_beside_it():
    covariance, span, pool, texts = planted(100.0)
    other = torch.linalg.qr(torch.randn(24, 12, generator=torch.Generator().manual_seed(5))).Q
    wide = torch.zeros(2, 12, 12)
    wide[0, :8, :8], wide[1] = covariance, torch.eye(12)
    spans = torch.stack([torch.cat([span, torch.zeros(24, 4)], 1), other])
    both = labels.label_heads([(3, 0), (3, 1)], wide, spans, pool, texts)
    assert both[3, 0] == labels.label_head(covariance, span, pool, texts)


def test_labels_are_stable_over_seeds(model):
    import clipviz

    session = clipviz.Session(model)
    covariance, span = session.heads.spans()
    pool, heads = session.texts.pool(), list(range(24, 48, 2))
    found = [
        [labels.label_head(covariance[i], span[i], pool, session.texts.opened, seed=seed) for i in heads]
        for seed in range(3)
    ]
    session.close()
    draws = found[0][0].n_draws
    # what the draws leave open of a p at the level
    close = 2 * (labels.LEVEL * (1 - labels.LEVEL) / draws) ** 0.5
    clear = [place for place, role in enumerate(found[0]) if abs(role.p_value - labels.LEVEL) > close]
    assert len(clear) >= len(heads) / 2
    for row in found[1:]:
        assert [row[place].label for place in clear] == [found[0][place].label for place in clear]


def test_a_constant_head_is_refused():
    covariance, span, pool, texts = planted(1.0)
    with pytest.raises(ValueError, match="a constant one; add images"):
        labels.label_head(covariance * 0, span * 0, pool, texts)
    with pytest.raises(ValueError, match="of 2 heads, got 1 and 1"):
        labels.label_heads([(0, 0), (0, 1)], covariance[None], span[None], pool, texts)
