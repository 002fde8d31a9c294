"""The shipped dictionary belongs to the shipped models, and says something."""

from __future__ import annotations

import numpy as np

import clipviz
from clipviz.analysis.guides import fingerprint
from clipviz.analysis.shared_units import SharedUnits
from clipviz.data import dictionary as saved
from clipviz.demo import bundle


def test_the_shipped_dictionary_fits_the_shipped_models(model):
    opened = saved.open_folder(bundle().dictionary, model.fingerprint)
    digests = {name: partner.digest for name, partner in bundle().partners.items()}
    painter = clipviz.load_generator("demo")
    assert opened.about["partners"] == {**digests, painter.name: fingerprint(painter.module)}
    assert opened.concepts.models == ("clip", "cnn", "vit", painter.name)
    units = np.asarray(opened.concepts.units)
    everywhere = (units >= 0).all(1)
    clusters = np.asarray(opened.concepts.cluster)[everywhere]
    assert len(set(clusters.tolist())) >= 20
    assert (np.asarray(opened.concepts.heldout)[:, 1:].sum(1) / (units[:, 1:] >= 0).sum(1)).mean() > 0.3


def test_a_generator_among_the_partners_given_is_not_asked_to_look(model):
    opened = saved.open_folder(bundle().dictionary, model.fingerprint)
    images = clipviz.demo.images().subset(range(2))
    session = clipviz.Session(model, images, ["a dog", "a cat"], background=False)
    by_itself = SharedUnits(session, opened)
    given = SharedUnits(session, opened, by_itself.partners)
    assert [given.reads(name) for name in opened.concepts.models] == [True, True, True, False]
    for one, other in zip(given.on_image(0), by_itself.on_image(0), strict=True):
        np.testing.assert_array_equal(one, other)
    session.close()
