"""Batch orthogonal matching pursuit against scikit-learn, an identity, a case by hand, and its messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp_gram

from clipviz.lens import sparse
from clipviz.lens.sparse import (
    dense_weights,
    prepare_dictionary,
    reconstruct,
    sparse_code,
    sparse_codes,
)
from clipviz.values import SparseCode


def random_problem(n_neurons=40, n_texts=300, d_embed=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pool = torch.randn(n_texts, d_embed, generator=generator, dtype=torch.float64) + 1.5
    return torch.randn(n_neurons, d_embed, generator=generator, dtype=torch.float64), pool


@pytest.mark.parametrize("scale", ["rows", "columns", "none"])
def test_atoms_and_weights_equal_scikit_learns_in_float64(scale):
    directions, pool = random_problem()
    dictionary = prepare_dictionary(pool, scale=scale)
    codes = sparse_code(directions, dictionary, 16)
    expected = orthogonal_mp_gram(
        (dictionary @ dictionary.T).numpy(), (dictionary @ directions.T).numpy(), n_nonzero_coefs=16
    ).T
    for atoms, row in zip(codes.atoms, expected, strict=True):
        assert set(atoms.tolist()) == set(np.flatnonzero(row).tolist())
    assert np.allclose(dense_weights(codes, 300).numpy(), expected, atol=1e-8)


def test_chunks_do_not_change_the_result(monkeypatch):
    directions, pool = random_problem()
    whole = sparse_code(directions, pool, 8)
    monkeypatch.setattr("clipviz.lens.sparse.CHUNK_ENTRIES", 7 * len(pool))
    parts = sparse_code(directions, pool, 8)
    assert torch.equal(whole.atoms, parts.atoms)
    assert torch.allclose(whole.weights, parts.weights)


def test_weights_are_the_least_squares_fit_and_the_error_falls():
    directions, pool = random_problem()
    dictionary = prepare_dictionary(pool)
    codes = sparse_code(directions, dictionary, 12)
    for neuron in range(3):
        columns = dictionary[codes.atoms[neuron]].T
        fit = torch.linalg.lstsq(columns, directions[neuron, :, None]).solution[:, 0]
        assert torch.allclose(codes.weights[neuron], fit, atol=1e-9)
        assert torch.allclose(reconstruct(codes, dictionary)[neuron], columns @ fit, atol=1e-9)
    errors = [
        (directions - reconstruct(sparse_code(directions, dictionary, m), dictionary)).norm()
        for m in (2, 6, 12)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_two_texts_by_hand():
    # r = 3 e1 - 1 e2 over {e1, (e1 + e2)/sqrt 2, e2}: e1 first (3 > sqrt 2 > 1), then e2 (weight -1, exact)
    dictionary = torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5], [0.0, 1.0]])
    codes = sparse_code(torch.tensor([[3.0, -1.0]]), dictionary, 3)
    assert codes.atoms.tolist() == [[0, 2, -1]]
    assert torch.allclose(codes.weights, torch.tensor([[3.0, -1.0, 0.0]]))
    assert torch.allclose(reconstruct(codes, dictionary), torch.tensor([[3.0, -1.0]]))
    assert torch.allclose(reconstruct(codes, dictionary, 1), torch.tensor([[3.0, 0.0]]))


def test_an_exhausted_dictionary_stops_with_minus_one():
    directions, pool = random_problem(5, 30, 6)
    codes = sparse_code(directions, pool, 10)
    assert (codes.atoms[:, :6] >= 0).all()
    assert (codes.atoms[:, 6:] == -1).all()
    assert (codes.weights[:, 6:] == 0).all()
    assert torch.allclose(reconstruct(codes, pool), directions, atol=1e-9)


def test_a_zero_direction_has_an_empty_code():
    codes = sparse_code(torch.zeros(1, 4), torch.eye(4), 2)
    assert codes.atoms.tolist() == [[-1, -1]]
    assert dense_weights(codes, 4).tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_prepared_dictionaries_are_what_they_say():
    _, pool = random_problem()
    rows = prepare_dictionary(pool)
    assert torch.allclose(rows.norm(dim=1), torch.ones(300, dtype=torch.float64))
    columns = prepare_dictionary(pool, scale="columns")
    assert torch.allclose(columns.norm(dim=0), torch.ones(64, dtype=torch.float64))
    assert torch.allclose(columns.mean(0), torch.zeros(64, dtype=torch.float64))
    assert torch.equal(prepare_dictionary(pool, centre=False, scale="none"), pool)


def test_messages_say_expected_got_and_next_step():
    with pytest.raises(ValueError, match=r"of one width, got .*encode the texts with the same model"):
        sparse_code(torch.zeros(2, 3), torch.zeros(4, 5), 1)
    with pytest.raises(ValueError, match=r"within 1\.\.4 .* got 9; ask for fewer"):
        sparse_code(torch.zeros(2, 3), torch.zeros(4, 3), 9)
    with pytest.raises(ValueError, match="got 'rwos'; choose one of the three"):
        prepare_dictionary(torch.eye(3), scale="rwos")
    with pytest.raises(ValueError, match="at least two texts"):
        prepare_dictionary(torch.ones(1, 3))


def test_code_of_dense_weights_round_trips():
    codes = SparseCode(torch.tensor([[2, 0], [1, -1]]), torch.tensor([[0.5, -1.0], [2.0, 7.0]]))
    assert dense_weights(codes, 3).tolist() == [[-1.0, 0.0, 0.5], [0.0, 2.0, 0.0]]


def test_codes_of_several_sizes_are_those_made_one_by_one():
    generator = torch.Generator().manual_seed(3)
    directions, pool = torch.randn(7, 12, generator=generator), torch.randn(20, 12, generator=generator)
    directions[2] = pool[4]  # reproduced by one text
    dictionary = prepare_dictionary(pool, centre=False)
    together = sparse_codes(directions, dictionary, [2, 9, 5])
    assert list(together) == [2, 9, 5]
    for size, code in together.items():
        alone = sparse_code(directions, dictionary, size)
        assert torch.equal(code.atoms, alone.atoms)
        assert torch.allclose(code.weights, alone.weights, atol=1e-5)
    with pytest.raises(ValueError, match=r"expected n_nonzero within 1\.\.20"):
        sparse_codes(directions, dictionary, [2, 21])


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_codes_are_as_long_as_their_directions(size):
    """Where a pursuit stops is a matter of rounding, and so of a direction's own length."""
    directions, pool = random_problem(6)
    dictionary = prepare_dictionary(pool)
    plain, scaled = sparse_code(directions, dictionary, 10), sparse_code(size * directions, dictionary, 10)
    assert torch.equal(scaled.atoms, plain.atoms)
    assert torch.allclose(scaled.weights / size, plain.weights)


@pytest.mark.parametrize("wrong", [np.zeros((4, 3), np.float32), torch.zeros(4, 3, dtype=torch.long)])
def test_what_is_no_tensor_of_floats_is_named(wrong):
    check = sparse._check.__wrapped__  # as it is without the checks of shapes, which the tests alone have
    with pytest.raises(ValueError, match="directions as a tensor of floating-point numbers"):
        check(wrong, torch.zeros(4, 3), 2)
    with pytest.raises(ValueError, match="a dictionary as a tensor of floating-point numbers"):
        check(torch.zeros(4, 3), wrong, 2)
