"""Sparse text codes of a layer: one batched pursuit against scikit-learn's orthogonal_mp_gram, in one run.

3,072 directions, 10,000 texts, 64 atoms, 512 dimensions. scikit-learn works one direction at a time, so it is timed
on a few and scaled; both get float64 for the comparison of atoms, float32 is what the product uses. Times are
processor time on one thread, so that other work on the machine does not count.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.linear_model import orthogonal_mp_gram

from benchmarks._timing import best, one_thread, row
from clipviz.lens.sparse import dense_weights, prepare_dictionary, sparse_code

N_NEURONS, N_TEXTS, D_EMBED, N_NONZERO = 3072, 10_000, 512, 64
FEW = 6  # directions given to scikit-learn
MANY = 512  # directions timed in the batched form, scaled to the layer


def run() -> list[dict[str, Any]]:
    """Return ratios of this run, a row each: what, measured, budget, ok."""
    with one_thread():
        return compare()


def compare() -> list[dict[str, Any]]:
    """Return the rows, on the threads that are set."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(N_TEXTS, D_EMBED, generator=generator, dtype=torch.float64) + 1
    directions = torch.randn(MANY, D_EMBED, generator=generator, dtype=torch.float64)
    dictionary = prepare_dictionary(pool)

    gram = (dictionary @ dictionary.T).numpy()
    products = (dictionary @ directions[:FEW].T).numpy()
    reference, double, single = best(
        [
            lambda: orthogonal_mp_gram(gram, products, n_nonzero_coefs=N_NONZERO),
            lambda: sparse_code(directions, dictionary, N_NONZERO),
            lambda: sparse_code(directions.float(), dictionary.float(), N_NONZERO),
        ],
        repeats=1,
    )
    reference, double, single = reference / FEW, double / MANY, single / MANY
    expected = torch.from_numpy(orthogonal_mp_gram(gram, products, n_nonzero_coefs=N_NONZERO).T.copy())
    found = dense_weights(sparse_code(directions[:FEW], dictionary, N_NONZERO), N_TEXTS)
    same = float(((found != 0) == (expected != 0)).all(1).double().mean())
    return [
        row(
            "scikit-learn against the batched form, both float64, x faster",
            reference / double,
            5,
            at_least=True,
        ),
        row(
            "scikit-learn against the batched form in float32, x faster", reference / single, 5, at_least=True
        ),
        row("directions with the same atoms as scikit-learn, share", same, 1, at_least=True),
    ]
