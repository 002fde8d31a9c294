"""What the documentation says of features that a partner shares, from a dictionary whose rows are known."""

from __future__ import annotations

import numpy as np

from clipviz.values import Concepts
from tools.demo.shared_features import matched


def test_the_paragraph_counts_rows_of_features_and_of_neurons():
    concepts = Concepts(
        models=("clip", "cnn"),
        layers=((("L0", 10), ("L2 features", 20)), (("conv", 5),)),
        units=np.array([[3, 1], [12, 4], [29, 0]]),  # a neuron, feature 2 and feature 19
        correlation=np.ones((3, 2)),
        heldout=np.array([[1, 0.5], [1, 0.3], [1, 0.2]]),
        cluster=np.arange(3),
        examples=np.zeros((3, 1), int),
        n_pairs=np.array([0, 1234]),
        n_chance=np.array([0, 7]),
        threshold=np.zeros(2),
        hints=(("a tree", 1.0), ("something red", 0.75), ("", 0.0)),
    )
    text = matched(concepts, "L2 features", 2)
    assert "2 of 3 rows begin with a feature and the others with one of 10 neurons; 1,234 pairs" in text
    assert "shuffled images give 7. Feature 2 and unit 4 of `conv` correlate by 0.30" in text
    assert "“something red” fits 75%" in text
    assert "0.25 for features and 0.50 for neurons" in text
    assert "has 2 rows" in text
