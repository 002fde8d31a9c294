"""The shipped dictionary belongs to the shipped models, and says something."""

from __future__ import annotations

import numpy as np
import torch

import clipviz
from clipviz.analysis.generation.guides import fingerprint
from clipviz.analysis.rosetta.mining import maps_of_units
from clipviz.analysis.rosetta.text_labels import shares
from clipviz.data import dictionary as saved
from clipviz.demo import bundle, world
from clipviz.demo.world.truth import TRUE, truths
from clipviz.session import SharedUnits


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
    given = SharedUnits(session, opened, dict(by_itself.networks))
    assert [given.networks.reads(name) for name in opened.concepts.models] == [True, True, True, False]
    for one, other in zip(given.on_image(0), by_itself.on_image(0), strict=True):
        np.testing.assert_array_equal(one, other)
    session.close()


def test_shipped_names_are_true_of_fresh_scenes_where_their_units_are_strongest(model):
    """Scenes of the demo world that no name was chosen on or checked on, with what is known to be true of them."""
    session = clipviz.Session(
        model, clipviz.demo.images().subset(range(2)), ["a dog", "a cat"], background=False
    )
    book = SharedUnits(session, saved.open_folder(bundle().dictionary, model.fingerprint))
    named = [row for row in range(len(book.concepts)) if book.hint(row)[0]]
    assert len(named) >= 20
    scenes = world.render(160, seed=5_000_011)
    units = torch.as_tensor(np.asarray(book.concepts.units)[named, 0])
    maps = [
        maps_of_units(model, scenes.images[i : i + 16], units, book.concepts.layers[0])
        for i in range(0, 160, 16)
    ]
    said = sorted({book.hint(row)[0] for row in named})
    true = torch.from_numpy(truths(said, scenes.attributes) == TRUE)
    share, chance = shares(torch.cat(maps).amax((2, 3)), true)
    own = torch.tensor([said.index(book.hint(row)[0]) for row in named]), torch.arange(len(named))
    assert share[own].mean() >= 0.5
    assert (chance[own] <= 0.05).double().mean() >= 0.85
    session.close()
