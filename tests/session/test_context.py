"""Whether a number is large: ranks and shares by hand, what a mask outlines, pictures that the model does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from few_texts import COMMON

import clipviz
from clipviz.values import Ablation, Selection, View

TEXTS = [*COMMON, "a swan", "a tiger"]
N_IMAGES = 14


@pytest.fixture
def session(lend, model):
    with lend(model, clipviz.demo.images().subset(range(30, 30 + N_IMAGES)), TEXTS) as session:
        yield session


@pytest.mark.parametrize("ablation", [Ablation(), Ablation(heads={(5, 1), (3, 2)})])
def test_percentiles_are_a_rank_among_texts_and_a_share_of_images(session, ablation):
    session.select(ablation=ablation)
    cosines = np.array([session.heads.effects("a dog", i).cosine for i in range(N_IMAGES)])
    others = [session.heads.effects(text, 7).cosine for text in TEXTS if text != "a dog"]
    found = session.images.percentiles("a dog", 7)
    assert found.cosine == pytest.approx(cosines[7], abs=1e-6)
    assert found.rank == 1 + sum(other > cosines[7] for other in others)
    assert found.share == pytest.approx((np.delete(cosines, 7) < cosines[7]).mean())
    assert (found.n_texts, found.n_images) == (len(TEXTS), N_IMAGES - 1)
    minus = cosines - [session.heads.effects("a red circle", i).cosine for i in range(N_IMAGES)]
    found = session.images.percentiles("a dog", 7, "a red circle")
    assert found.rank is None
    assert found.share == pytest.approx((np.delete(minus, 7) < minus[7]).mean())


def test_a_mask_fits_texts_that_name_what_it_outlines(session):
    swan = session.images.opened.captions.index("a large swan in the sea")
    for text, fits in {
        "a swan": True,
        "two swans": True,
        "a Bird": True,
        "a tiger": False,
        "the sea": False,
    }.items():
        assert session.maps.names_object(text, swan) is fits, text


def test_photographs_are_far_and_demo_images_are_not(session):
    data = pytest.importorskip("sklearn.datasets")
    photograph = Path(data.__file__).parent / "images" / "china.jpg"
    assert all(session.images.familiarity(i).known for i in range(N_IMAGES))
    far = session.images.familiarity(session.images.add(photograph))
    assert not far.known
    assert "not from the collection" in far.why
    assert 0 < far.cosine < 1
    drawn = session.images.add(session.images[3], "drawn", drawn=True)
    assert session.images.familiarity(drawn).known


def test_heads_are_found_by_what_they_vary_with(model):
    with_index = clipviz.Session(model)  # the whole collection, from the demo's own index
    found = {(one.layer, one.head): one for one in with_index.heads.find("forest")}
    labelled = with_index.heads.label(2, 3)
    assert not any("forest" in text for text in (labelled.name, *labelled.texts))
    assert (2, 3) in found
    assert (5, 0) in found
    assert len(found) < 8
    assert found[5, 0].share > found[2, 3].share > 0.05
    assert all(one.above >= 0.95 for one in found.values())
    nonsense = ("xqzv bluub", "qqq wrrt", "zzkp lmnv oo", "vbxq", "trrk plok")
    assert sum(len(with_index.heads.find(text)) for text in nonsense) < 2 * 0.05 * 48 * len(nonsense)
    with_index.close()


def test_a_view_round_trips_and_opens_pages(session):
    view = View(
        Selection(image=3, text="“é”"), {"heatmap": {"scope": "head"}, "desks": {"shown": "ablate"}, "x": {}}
    )
    assert View.from_token(view.token_string()) == View.from_dict(view.to_dict()) == view
    assert Selection.from_token(view.token_string()) == view.selection
    assert View.from_token(view.selection.token_string()) == View(view.selection)
    session.view = view
    assert session.view == view
    assert session.selection.text == "“é”"
    assert session.open(neuron=(3, 8)).neuron == 8
    assert session.view.panels["desks"] == {"shown": "neurons"}
    scope = {}
    code = session.to_code()
    exec(
        code[code.index("session.view") :]
        .replace("session.view", "view")
        .replace("clipviz.Dashboard(session)", ""),
        {"clipviz": clipviz},
        scope,
    )
    assert scope["view"] == session.view
    with pytest.raises(ValueError, match="a clipviz"):
        session.view = "heatmap"
