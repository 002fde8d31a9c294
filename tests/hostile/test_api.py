"""Values and calls of the public API with arbitrary arguments: right, or an error that says what was expected."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import clipviz
from clipviz.data.images import open_images
from clipviz.data.texts import open_texts
from clipviz.lens import segment, textspan
from clipviz.lens.invert import Schedule
from clipviz.panels.core import standalone

from .api import DOORS, opened

QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))
NUMBERS = st.one_of(
    st.integers(-20, 20), st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=5),
    st.integers(-5, 9).map(np.int64), st.floats(width=32).map(np.float32),
)  # fmt: skip
MANY = st.lists(NUMBERS, max_size=3)
HEADS = st.lists(st.one_of(NUMBERS, st.tuples(NUMBERS, NUMBERS)), max_size=3)
FIELDS = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(("image", "layer", "head", "token", "neuron", "concept"), NUMBERS),
                  "images": MANY, "text": st.one_of(st.text(), NUMBERS), "text_b": st.text()},
)  # fmt: skip
MAPS = st.tuples(st.integers(1, 3), st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf, 1e30]))


@pytest.fixture(scope="module")
def session():
    with opened() as session:
        yield session


def answered(call):
    """What the call returns, or None after a ValueError or TypeError that says something."""
    try:
        return call()
    except (ValueError, TypeError) as error:
        said = str(error)
    assert re.search("expected .*got ", said, re.DOTALL), said
    return None


@QUICK
@given(FIELDS)
def test_a_selection_holds_plain_numbers_and_survives_its_token(fields):
    made = answered(lambda: clipviz.Selection(**fields))
    if made is not None:
        assert clipviz.Selection.from_token(made.token_string()) == made
        assert clipviz.Selection.from_dict(made.to_dict()) == made


@QUICK
@given(heads=HEADS, layers=MANY, mlps=MANY, tokens=MANY, how=st.sampled_from(["mean", "zero", "", None, 3]))
def test_an_ablation_survives_its_dict(heads, layers, mlps, tokens, how):
    made = answered(lambda: clipviz.Ablation(heads=heads, layers=layers, mlps=mlps, tokens=tokens, how=how))
    if made is not None:
        assert clipviz.Ablation.from_dict(made.to_dict()) == made


@QUICK
@given(FIELDS)
def test_what_is_selected_is_there(session, fields):
    before = session.selection
    answered(lambda: session.select(**fields))
    chosen = session.selection
    assert chosen == before or chosen.image is None or 0 <= chosen.image < len(session.images)
    assert all(0 <= i < len(session.images) for i in chosen.images)
    session.selection = before


@QUICK
@given(layer=NUMBERS, head=NUMBERS, n_texts=NUMBERS, images=MANY)
def test_a_heads_texts_are_those_of_the_head_asked_for(session, layer, head, n_texts, images):
    found = answered(lambda: session.heads.textspan(layer, head, n_texts, images, n_draws=0))
    if found is not None:
        assert 0 <= layer < 6
        assert 0 <= head < 8
        assert (
            found.texts
            == session.heads.textspan(int(layer), int(head), int(n_texts), images, n_draws=0).texts
        )


@QUICK
@given(
    st.integers(0, 3),
    st.integers(0, 4),
    st.integers(0, 5),
    st.sampled_from([1.0, 0.0, math.nan, 1e30, 1e-30]),
)
def test_textspan_explains_finite_shares_or_says_why_not(n_images, n_texts, wanted, scale):
    draw = torch.Generator().manual_seed(n_images)
    effects, pool = torch.randn(n_images, 4, generator=draw) * scale, torch.randn(n_texts, 4, generator=draw)
    found = answered(lambda: textspan.textspan(effects, pool, wanted))
    if found is not None:
        assert torch.isfinite(found.explained).all()
        assert float(found.explained[..., -1].max()) <= 1 + 1e-4


@QUICK
@given(MAPS, MAPS)
def test_a_segmentation_score_is_a_share_or_said_to_be_impossible(maps, masks):
    heatmaps = torch.full((1, maps[0], maps[0]), maps[1])
    found = answered(lambda: segment.score(heatmaps, torch.full((1, masks[0], masks[0]), masks[1])))
    if found is not None:
        assert all(0 <= float(x) <= 1 for x in (found.pixel_accuracy, found.miou))


@QUICK
@given(k=NUMBERS, n_images=st.integers(0, 2))
def test_match_takes_a_whole_number_of_neighbours(session, k, n_images):
    class Two:
        name = "two"

        def maps(self, pictures):
            return {"layer": torch.arange(len(pictures) * 8.0).reshape(len(pictures), 2, 2, 2).sin()}

    found = answered(lambda: clipviz.match(Two(), Two(), np.zeros((n_images, 4, 4, 3), np.uint8), k))
    if found is not None:
        assert n_images
        assert k >= 1


@QUICK
@given(st.one_of(st.text(max_size=12), NUMBERS))
def test_an_index_is_opened_from_its_folder_alone(path):
    with pytest.raises((ValueError, TypeError, OSError)) as told:
        clipviz.Index.open(path)
    assert len(str(told.value)) > 15


@settings(QUICK, max_examples=10)
@given(
    change=st.one_of(st.sampled_from(["none", "shift", "zoom", "copy", "remove", "amplify"]), NUMBERS),
    concepts=st.one_of(st.none(), MANY),
    how=st.fixed_dictionaries({}, optional=dict.fromkeys(("right", "down", "factor"), NUMBERS)),
    n=st.integers(0, 2),
    wrong=st.sampled_from(["", "", "text", "z"]),
)
@example(change="shift", concepts=None, how={}, n=0, wrong="")
def test_an_edit_moves_latents_or_says_what_it_takes(session, change, concepts, how, n, wrong):
    latents = clipviz.load_generator("demo").sample(max(n, 1), seed=0)[:n]
    given_latents = {"text": "latents", "z": torch.zeros(n, 3)}.get(wrong, latents)
    found = answered(
        lambda: session.generator.edit(given_latents, change, concepts, schedule=Schedule(1), **how)
    )
    if found is not None:
        assert not wrong
        assert len(found.images) == n
        assert torch.isfinite(found.images).all()


class Counted:
    """A great many numbers, which notes how many of them were read."""

    def __init__(self) -> None:
        self.n_read = 0

    def __iter__(self):
        for self.n_read in range(1, 100_001):
            yield self.n_read


@pytest.mark.parametrize(
    "door", ["open_texts", "encode_texts", "encode_images", "trace", "layers=", "texts="]
)
def test_a_long_list_of_something_else_is_refused_at_once(session, door):
    given = Counted()
    with pytest.raises(ValueError, match="expected"):
        DOORS[door](session, given)
    assert 1 <= given.n_read <= 10


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda s: s.ablation.shortcut_heads(2, "a forest"),
            r"a shortcut as two texts, .*got \(2, 'a forest'\)",
        ),
        (lambda s: s.rosetta.units(4), "the folder of a dictionary, got 4"),
        (lambda s: s.maps.agreement([[0, 1]]), r"a map as an array \[rows, cols\], got list"),
        (lambda s: s.images.add(range(9)), "one image, got 9 of them"),
        (lambda s: s.ablation.project_heads(m=range(1, 5000)), "at most 1000 numbers as m, got more"),
        (
            lambda s: s.rosetta.mine("nowhere", [3]),
            "partners as a list of names or of models with .maps, got 3",
        ),
        (lambda s: s.rosetta.mine("nowhere", "cnn"), r"partners as a list .*got 'cnn'; for example"),
        (lambda s: clipviz.wrap([s.model.network]), "open_clip or Hugging Face model, got list"),
        (lambda s: open_images(range(9)), "got range"),
        (lambda s: open_texts("a \ud83d dog"), r"which does not exist|check the path"),
        (
            lambda s: clipviz.Index.build(s.model, s.images, "a \ud83d dog"),
            "the folder of an index, got 'a .* check the path",
        ),
        (lambda s: clipviz.load_generator(4), "a file of its weights, got int"),
        (lambda s: standalone.page_path(4), "the name of a file that ends in .html, got int"),
        (lambda s: s.model.encode_texts("a \ud83d"), "valid Unicode, got half of a surrogate pair"),
    ],
)
def test_what_cannot_be_opened_says_what_was_expected(session, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(session)
