"""The collection's panel without a browser: what is ranked, what a subset is, what "describe these" describes."""

from __future__ import annotations

import numpy as np
import pytest
from few_texts import COMMON

import clipviz
from clipviz.analysis.collection import retrieval
from clipviz.panels.images.panel import ImageGallery
from panels.asking import ask

TEXTS = [*COMMON, "a car", "a star"]


@pytest.fixture
def session(lend, model):
    with lend(model, clipviz.demo.images().subset(range(40)), TEXTS) as session:
        session.select(image=7, layer=5, head=3, text="a dog")
        yield session


@pytest.fixture
def panel(session):
    panel = ImageGallery(session, n_shown=8)
    session.wait(60)
    return panel


def show(panel, **traits):
    for name, value in traits.items():
        setattr(panel, name, value)
    ask(panel)


def test_neighbours_under_a_head_are_ranked_by_the_cosine_of_its_effects(session, model):
    effects = model.trace(list(session.images)).head_effects()[:, 5, 3].double()
    unit = effects / effects.norm(dim=1, keepdim=True)
    expected = unit @ unit[7]
    expected[7] = -2
    found = session.images.neighbours(7, 5, 3, 39)
    assert [i for i, _ in found] == expected.argsort(descending=True)[:39].tolist()
    assert [score for _, score in found] == pytest.approx(
        expected.sort(descending=True).values[:39].tolist(), abs=1e-5
    )


def test_neighbours_and_top_images_by_inner_product_or_cosine(session, panel, model):
    effects = model.trace(list(session.images)).head_effects()[:, 5, 3].double()
    show(panel, order="near", by="product")
    head_side = panel.view["ids"][4:]
    assert head_side == (effects @ effects[7]).argsort(descending=True)[:4].tolist()
    assert head_side != [i for i, _ in session.images.neighbours(7, 5, 3, 4)]
    assert panel.view["by"] == "product"
    text = session.texts.direction("a dog")
    along = effects @ text.double()
    for by, expected in (("product", along), ("cosine", along / effects.norm(dim=1))):
        found = session.images.top(text, 5, 3, 6, by)
        assert [i for i, _ in found] == expected.argsort(descending=True)[:6].tolist()
        assert [v for _, v in found] == pytest.approx(
            expected.sort(descending=True).values[:6].tolist(), abs=1e-5
        )
    with pytest.raises(ValueError, match="by to be one of cosine, product, got 'x'"):
        session.images.top(text, 5, 3, by="x")


def test_both_lists_of_neighbours_leave_the_query_out(session, panel):
    show(panel, order="near")
    assert [part["title"] for part in panel.view["lists"]] == ["Whole model", "L5·H3"]
    model_side, head_side = panel.view["ids"][:4], panel.view["ids"][4:]
    assert model_side == [i for i, _ in session.images.neighbours(7, k=4)]
    assert head_side == [i for i, _ in session.images.neighbours(7, 5, 3, 4)]
    seen = {tuple(head_side)}
    for head in (0, 1, 2):
        ask(panel, {"layer": 4, "head": head})
        assert panel.view["ids"][:4] == model_side  # the model's neighbours do not depend on the head
        seen.add(tuple(panel.view["ids"][4:]))
    assert len(seen) > 1


def test_a_subset_limits_every_order(session, panel):
    column, value = "background", session.images.opened.attributes["background"][7]
    members = set(session.images.where(column, value))
    ask(panel, options={"column": column, "value": value, "page": 0})
    assert panel.view["n_subset"] == len(members)
    for order in ("text", "near", "all"):
        show(panel, order=order)
        assert set(panel.view["ids"]) <= members, order
    ask(panel, options={"column": "", "value": "", "page": 0})
    assert panel.view["n_subset"] is None


def test_attributes_are_counted_and_long_lists_left_out(session):
    found = session.images.columns()
    words = session.images.opened.attributes["kind"]
    assert found["kind"] == {word: words.count(word) for word in found["kind"]}
    assert list(found["kind"].values()) == sorted(found["kind"].values(), reverse=True)
    assert all(2 <= len(values) <= retrieval.MOST_VALUES for values in found.values())


def test_describe_takes_the_subset_the_search_or_the_heads_neighbours(session, panel):
    ask(panel, action="describe")
    assert session.selection.images == tuple(i for i, _ in session.images.search("a dog", 8))
    session.select(images=())
    show(panel, order="near")
    near = tuple(panel.view["ids"][4:])
    ask(panel, action="describe")
    assert session.selection.images == near
    ask(panel, options={"column": "kind", "value": "object", "page": 0})
    show(panel, order="text")
    ask(panel, action="describe")
    assert session.selection.images == session.images.where("kind", "object")


def test_a_value_that_no_image_has_is_said(session, panel):
    ask(panel, options={"column": "kind", "value": "dragon", "page": 0})
    assert "no image has kind = 'dragon'" in panel.error["message"]
    ask(panel, options={"column": "", "value": "", "page": 0})
    assert not panel.error


def test_images_without_attributes_have_no_subsets(model):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 40, 3), np.uint8) for _ in range(3)]
    session = clipviz.Session(model, pictures, texts=TEXTS, background=False)
    panel = ImageGallery(session, order="near")
    session.select(image=1)
    session.wait(60)
    assert panel.view["attributes"] == {}
    assert sorted(panel.view["ids"][:2]) == [0, 2]
    session.close()


def test_an_unknown_action_is_an_error_in_the_panel(panel):
    ask(panel, action="burn")
    assert "knows no action 'burn'" in panel.error["message"]


def test_pages_cover_the_collection_once(session, panel):
    show(panel, order="all")
    seen = []
    for page in range(panel.view["pages"]):
        show(panel, page=page)
        seen += panel.view["ids"]
    assert seen == list(range(40))
