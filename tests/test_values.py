"""Selections and ablations: replaced whole, checked, and reopened from a token."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipviz.values import Ablation, Selection, TextBasis

numbers = st.none() | st.integers(0, 10**6)
pairs = st.frozensets(st.tuples(st.integers(0, 30), st.integers(0, 20)), max_size=5)
ablations = st.builds(
    Ablation, heads=pairs, mlps=st.frozensets(st.integers(0, 9)), how=st.sampled_from(["mean", "zero"])
)
selections = st.builds(
    Selection,
    image=numbers,
    images=st.lists(st.integers(0, 99), max_size=4).map(tuple),
    layer=numbers,
    head=numbers,
    token=numbers,
    neuron=numbers,
    text=st.text(max_size=40),
    text_b=st.text(max_size=40),
    concept=numbers,
    ablation=ablations,
)


@given(selections)
def test_a_token_reopens_the_same_selection(selection):
    assert Selection.from_token(selection.token_string()) == selection
    assert Selection.from_dict(selection.to_dict()) == selection


@pytest.mark.parametrize("token", ["", "???", "bm90IGpzb24", "WzEsMl0", "eyJsYXllciI6LTF9"])
def test_a_broken_token_is_refused(token):
    if token == "":
        with pytest.raises(ValueError, match="view token"):
            Selection.from_token(token)
    else:
        with pytest.raises(ValueError, match=r"view token|non-negative|no field"):
            Selection.from_token(token)


def test_replace_names_the_fields_there_are():
    assert Selection().replace(layer=3).layer == 3
    with pytest.raises(ValueError, match=r"no field 'lair'; fields are ablation, concept"):
        Selection().replace(lair=3)


@pytest.mark.parametrize("bad", [{"layer": -1}, {"head": 1.5}, {"image": True}, {"text": None}])
def test_fields_are_checked(bad):
    with pytest.raises(ValueError, match="expected"):
        Selection(**bad)


def test_values_cannot_be_edited():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Selection().layer = 3


def test_toggling_twice_changes_nothing():
    ablation = Ablation(heads={(1, 2)})
    assert ablation.toggle(3, 4).heads == {(1, 2), (3, 4)}
    assert ablation.toggle(3, 4).toggle(3, 4) == ablation
    assert ablation
    assert not Ablation()
    with pytest.raises(ValueError, match="how='mean' or 'zero'"):
        Ablation(how="half")


def test_gains_are_what_each_text_adds():
    basis = TextBasis(np.array([4, 2]), np.array([0.5, 0.8]), None)
    assert basis.gains == pytest.approx([0.5, 0.3])
    assert basis.explained == pytest.approx([0.5, 0.8])


def test_another_layer_leaves_the_neuron_behind():
    chosen = Selection(layer=3, neuron=7)
    assert chosen.replace(layer=4).neuron is None
    assert chosen.replace(layer=3, head=1).neuron == 7
    assert chosen.replace(layer=4, neuron=9).neuron == 9
