"""Random rotations: orthogonal, uniform, and the same for the same seed."""

import torch

from clipviz.lens.rotations import random_rotations


def drawn(seed, n=3000, size=6):
    return random_rotations(n, size, torch.Generator().manual_seed(seed))


def test_rotations_keep_lengths_and_angles():
    found = drawn(0, 40, 9)
    torch.testing.assert_close(found @ found.mT, torch.eye(9).expand(40, -1, -1), atol=1e-5, rtol=0)
    assert torch.equal(found, drawn(0, 40, 9))


def test_rotations_are_uniform():
    """Uniform ones, and their products with any other, have a trace of 0 on average and its square of 1."""
    for turned in (drawn(5), drawn(5) @ drawn(7, 1)):
        traces = turned.diagonal(dim1=1, dim2=2).sum(1)
        assert abs(float(traces.mean())) < 4 / 3000**0.5
        assert abs(float(traces.square().mean()) - 1) < 0.15
