"""Selections, ablations, codes and bases: replaced whole, checked, chosen from, reopened from a token."""

from __future__ import annotations

import base64
import dataclasses
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipviz.lens.decompose import effects_from_codes
from clipviz.values import N_LATE, Ablation, Codes, HeadBasis, Selection, TextBasis, View, late_layers

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


def sealed(text):
    content = text.encode()
    return base64.urlsafe_b64encode(zlib.crc32(content).to_bytes(4, "big") + content).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    ["", "???", "bm90IGpzb24", None, sealed("[1,2]"), sealed('{"layer":-1}'), sealed('{"layer":Infinity}'),
     sealed('{"image":NaN}'), sealed("[" * 100_000), sealed('{"ablation":{"heads":[[[1]]]}}'), sealed('{"x":1}')],
    ids=lambda token: str(token)[:16],
)  # fmt: skip
def test_a_broken_token_is_refused(token):
    for kind in (Selection, View):
        with pytest.raises(ValueError, match="expected a view token made by"):
            kind.from_token(token)


@given(selections, st.data())
def test_a_changed_token_is_refused(selection, data):
    token = selection.token_string()
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("aQ0-_=\u00e9 ").filter(lambda letter: letter != token[at]))
    changed = token[:at] + letter + token[at + 1 :]
    try:
        found = Selection.from_token(changed)
    except ValueError:
        return
    assert found == selection  # the last letter may differ in bits that say nothing
    assert at >= len(token) - 2


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


@pytest.mark.parametrize(
    ("ablation", "words"),
    [
        (Ablation(), ""),
        (Ablation(heads={(1, 2)}), "without 1 head"),
        (Ablation(heads={(1, 2), (1, 3), (0, 0)}, layers={1}), "without 5 heads"),  # of layer 1 once each
        (Ablation(mlps={0}), "without the MLPs"),
        (Ablation(layers={1}, mlps={0}, tokens={0}), "without 4 heads, the MLPs and the class token"),
        (Ablation(tokens={1, 2}), "without 2 tokens"),
    ],
)
def test_a_removal_in_words(ablation, words):
    assert ablation.without(n_heads=4) == words


def test_gains_are_what_each_text_adds():
    basis = TextBasis(torch.tensor([4, 2]), torch.tensor([0.5, 0.8]), torch.zeros(2, 3), torch.tensor(0))
    assert basis.gains == pytest.approx([0.5, 0.3])
    assert basis.explained == pytest.approx([0.5, 0.8])


def test_another_layer_leaves_the_neuron_behind():
    chosen = Selection(layer=3, neuron=7)
    assert chosen.replace(layer=4).neuron is None
    assert chosen.replace(layer=3, head=1).neuron == 7
    assert chosen.replace(layer=4, neuron=9).neuron == 9


def codes_of(n_images: int = 5, library: str = "torch") -> Codes:
    draw = torch.Generator().manual_seed(3)
    shapes = ((n_images, 3, 4, 2), (n_images,), (n_images,), (n_images, 6))
    columns = [torch.rand(shape, generator=draw) for shape in shapes]
    columns = [column.numpy() for column in columns] if library == "numpy" else columns
    return Codes(*columns, layers=(7, 8, 11))


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize(
    ("images", "rows"),
    [
        (2, [2]),
        (-1, [4]),
        (np.int64(3), [3]),
        (slice(1, 3), [1, 2]),
        (range(0, 5, 2), [0, 2, 4]),
        ([4, 0], [4, 0]),
        (torch.tensor([3, 3]), [3, 3]),
        (np.array([True, False, False, False, True]), [0, 4]),
    ],
    ids=str,
)
def test_codes_of_some_images_keep_the_image_axis(library, images, rows):
    codes = codes_of(library=library)
    chosen = codes[images]
    assert len(chosen) == len(rows)
    assert chosen.layers == codes.layers
    for name in ("codes", "mean", "std", "embedding"):
        assert np.array_equal(np.asarray(getattr(chosen, name)), np.asarray(getattr(codes, name))[rows])


def test_codes_end_where_their_images_do():
    assert [float(one.mean) for one in codes_of()] == codes_of().mean.tolist()
    with pytest.raises(IndexError, match=r"expected an image within 0..4, got 5"):
        codes_of()[5]


def test_codes_move_and_choose_layers_and_heads():
    codes = codes_of(library="numpy").to(dtype=torch.float64)
    assert codes.codes.dtype == codes.embedding.dtype == torch.float64
    part = codes.select([11, 7], [3, 1])
    assert part.layers == (11, 7)
    assert torch.equal(part.codes, codes.codes[:, [2, 0]][:, :, [3, 1]])
    one = codes_of().select([8], [2])
    assert one.codes.shape == (5, 1, 1, 2)
    with pytest.raises(ValueError, match=r"expected layers among \[7, 8, 11\], got \[9\]"):
        codes.select([9])
    with pytest.raises(ValueError, match=r"expected heads among \[0, 1, 2, 3\], got \[4\]"):
        codes.select([7], [4])


def test_choosing_side_by_side_layers_copies_nothing():
    codes = codes_of()
    assert codes.select([8, 11]).codes.data_ptr() == codes.codes[:, 1].data_ptr()


def test_a_basis_moves_and_is_chosen_like_its_codes():
    basis = HeadBasis(torch.rand(3, 4, 2, 6), torch.rand(3, 6), torch.rand(6), torch.rand(6), (7, 8, 11))
    wide = basis.to("cpu", torch.float64)
    for name in ("basis", "output_bias", "mean_share", "constant"):
        assert torch.equal(getattr(wide, name), getattr(basis, name).double())
    codes = codes_of()
    whole = effects_from_codes(codes.codes, codes.mean, codes.std, basis)
    part, few = codes.select([11, 8], [2]), basis.select([11, 8], [2])
    assert few.layers == part.layers == (11, 8)
    assert torch.equal(effects_from_codes(part.codes, part.mean, part.std, few), whole[:, [2, 1]][:, :, [2]])


def test_late_layers_are_the_last_four():
    assert N_LATE == 4
    assert list(late_layers(12)) == [8, 9, 10, 11]
    assert list(late_layers(3)) == [0, 1, 2]


@pytest.mark.parametrize("n_all", [3 * 10**7, 10**9, 10**30])
def test_a_range_that_is_too_long_is_refused_before_it_is_read(n_all):
    class Read(AssertionError):
        pass

    class Long:
        def __len__(self):
            return len(range(n_all))

        def __iter__(self):
            raise Read

    for field in ("layers", "mlps", "tokens"):
        with pytest.raises(ValueError, match=f"at most 1,000,000 {field}, got more"):
            Ablation(**{field: Long()})
    with pytest.raises(ValueError, match="at most 10,000,000 images, got more"):
        Selection(images=Long())
