"""The shipped dictionary belongs to the shipped models, and says something."""

from __future__ import annotations

import numpy as np

from clipviz.data import dictionary as saved
from clipviz.demo import bundle


def test_the_shipped_dictionary_fits_the_shipped_models(model):
    opened = saved.open_folder(bundle().dictionary, model.fingerprint)
    for name, digest in opened.about["partners"].items():
        assert bundle().partners[name].digest == digest
    units = np.asarray(opened.concepts.units)
    everywhere = (units >= 0).all(1)
    clusters = np.asarray(opened.concepts.cluster)[everywhere]
    assert len(set(clusters.tolist())) >= 20
    assert (np.asarray(opened.concepts.heldout)[:, 1:].sum(1) / (units[:, 1:] >= 0).sum(1)).mean() > 0.3
