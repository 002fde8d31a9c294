"""Match the features of the demo's dictionary with its convolutional partner: python -m tools.demo.shared_features.

Writes the paragraph of docs/dictionaries.md that says how many rows begin with a feature and how many with a neuron.
"""

from __future__ import annotations

import tempfile

import numpy as np

import clipviz
from clipviz.values import Concepts
from tools.demo.choices import write

PARTNER, N_IMAGES = "cnn", 192


def main() -> None:
    session = clipviz.Session(clipviz.load("demo", device="cpu"), background=False)
    name = next(iter(session.neurons.dictionaries))
    with tempfile.TemporaryDirectory() as folder:
        units = session.rosetta.mine(folder, [PARTNER], N_IMAGES, features=[name])
        write("dictionaries", "shared", matched(units.concepts, name, units.n_untrained))


def matched(concepts: Concepts, name: str, n_untrained: int) -> str:
    """Return in words how many rows of a dictionary begin with a feature of `name`, and how they correlate."""
    pivots = [concepts.where(row, 0) or ("", -1) for row in range(len(concepts))]
    features = np.array([layer == name for layer, _ in pivots])
    heldout = np.asarray(concepts.heldout)[:, 1]
    n_neurons = sum(n for layer, n in concepts.layers[0] if layer != name)
    best = max(np.flatnonzero(features).tolist(), key=lambda row: (concepts.hints[row][1], heldout[row]))
    partner, unit = concepts.where(best, 1) or ("", -1)
    text, fits = concepts.hints[best]
    fitting = (
        f", and \u201c{text}\u201d fits {fits:.0%} of the feature's strongest held-out images by the model's own "
        "judgement"
        if text
        else ""
    )
    return (
        f"Matched with the demo's convolutional partner on {N_IMAGES} images "
        f'(`session.rosetta.mine(folder, ["{PARTNER}"], {N_IMAGES}, features=["{name}"])`), '
        f"{features.sum()} of {len(concepts)} rows begin with a feature and the others with one of {n_neurons:,} "
        f"neurons; {int(concepts.n_pairs[1]):,} pairs are beyond chance, where shuffled images give "
        f"{int(concepts.n_chance[1]):,}. Feature {pivots[best][1]} and unit {unit} of `{partner}` correlate by "
        f"{heldout[best]:.2f} on held-out images{fitting}. Over all rows the mean of the held-out correlation is "
        f"{heldout[features].mean():.2f} for features and {heldout[~features].mean():.2f} for neurons. An "
        f"untrained copy of the model has {n_untrained:,} rows, neurons and features together."
    )


if __name__ == "__main__":
    main()
