"""Sparse positive codes of images over texts: the optimum of the paper's problem, with both sides centred."""

from __future__ import annotations

import pytest
import torch

from clipviz.lens.concepts import concept_codes

N_TEXTS, D_EMBED = 30, 12


def pool(seed=0):
    """Images and texts in two cones, as a model with a modality gap gives them."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    texts = draw(N_TEXTS, D_EMBED) + 3 * draw(D_EMBED)
    images = draw(8, D_EMBED) + 3 * draw(D_EMBED)
    units = images / images.norm(dim=1, keepdim=True)
    return images, texts, units.mean(0)


def unit(vector):
    return vector / vector.norm()


def literal(image, texts, image_mean, penalty):
    """The paper's problem for one image: coordinate by coordinate until nothing moves."""
    rows = [unit(text) for text in texts]
    text_mean = sum(rows) / len(rows)
    atoms = [unit(row - text_mean) for row in rows]
    target = unit(unit(image) - image_mean)
    weights = [0.0] * len(atoms)
    for _ in range(2000):
        moved = 0.0
        for j, atom in enumerate(atoms):
            rest = target - sum((weights[i] * atoms[i] for i in range(len(atoms)) if i != j), 0 * target)
            new = max(0.0, float(rest @ atom) - penalty)
            moved, weights[j] = max(moved, abs(new - weights[j])), new
        if moved < 1e-12:
            break
    rebuilt = unit(unit(sum(w * atom for w, atom in zip(weights, atoms, strict=True))) + image_mean)
    return weights, rebuilt, float(rebuilt @ unit(image))


def test_codes_equal_a_literal_coordinate_descent():
    images, texts, mean = pool()
    for penalty in (0.05, 0.25):
        found = concept_codes(images, texts, mean, penalty)
        for i in (0, 3):
            weights, rebuilt, cosine = literal(images[i], texts, mean, penalty)
            torch.testing.assert_close(found.weights[i], torch.tensor(weights).double(), rtol=0, atol=1e-6)
            torch.testing.assert_close(found.reconstruction[i], rebuilt, rtol=0, atol=1e-6)
            assert float(found.cosine[i]) == pytest.approx(cosine, abs=1e-6)


def test_codes_are_optimal():
    """No weight can be changed for the better: the gradient is the penalty where a weight is positive, else below."""
    images, texts, mean = pool(1)
    found = concept_codes(images, texts, mean, 0.1)
    units = texts / texts.norm(dim=1, keepdim=True)
    atoms = units - units.mean(0)
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    targets = images / images.norm(dim=1, keepdim=True) - mean
    targets = targets / targets.norm(dim=1, keepdim=True)
    gradients = (targets - found.weights @ atoms) @ atoms.T
    positive = found.weights > 0
    assert (found.weights >= 0).all()
    assert (gradients[positive] - 0.1).abs().max() < 1e-6
    assert (gradients[~positive] < 0.1 + 1e-6).all()


def test_an_image_made_of_texts_is_read_as_these_across_the_gap():
    """A sum of two centred texts, moved into the images' cone, has these two texts and hardly another."""
    _, texts, _ = pool(2)
    units = texts / texts.norm(dim=1, keepdim=True)
    atoms = units - units.mean(0)
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    away = unit(torch.randn(D_EMBED, generator=torch.Generator().manual_seed(5)).double()) * 0.8
    target = unit(atoms[4] + 0.7 * atoms[9])
    step = 0.5 * (-(away @ target) + ((away @ target) ** 2 + 1 - away @ away).sqrt()) * 2
    image = away + step * target  # of length 1
    found = concept_codes(image[None], texts, away, 0.05)
    assert {text for text, _ in found.strongest(0, 2)} == {4, 9}
    assert float(found.cosine[0]) > 0.99
    fewer = concept_codes(image[None], texts, away, 0.3)
    assert int(fewer.n_texts[0]) <= int(found.n_texts[0])
    none = concept_codes(image[None], texts, away, 1.0)
    assert none.strongest(0) == []
    assert float(none.cosine[0]) == 0


def test_what_cannot_be_coded_is_refused(unchecked_shapes):
    images, texts, mean = pool()
    for given, message in (
        ((images, texts[:1], mean), "at least two texts"),
        ((images[:, :5], texts, mean), "of the texts' width, got"),
        ((images, texts, mean[None]), "an image mean"),
        ((images, texts, mean, 0.0), r"a positive penalty, got 0\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            concept_codes(*given)
