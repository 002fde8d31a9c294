"""Second-order statistics in the index: those of the whole collection, with rows of the index as ids."""

from __future__ import annotations

import pytest
import torch
from index_tools import folder_of, tiny_model

from clipviz.data.images import open_images
from clipviz.indexing import Index
from clipviz.lens.neuron_stats import neuron_stats

QUICK = {"shard": 8, "batch": 3, "progress": False, "thumbnail": 0, "neurons": [1], "neuron_top": 4}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def assert_equal_statistics(found, expected) -> None:
    assert found.count == expected.count
    for name in ("mean", "scatter", "shared_mean", "total", "top_norms"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-6)
    assert (found.top_images == expected.top_images).float().mean() > 0.99


def test_streamed_neuron_statistics_equal_one_batch(model, tmp_path):
    folder = folder_of(tmp_path / "f", 13)
    images = open_images(folder)
    index = Index.build(model, images, tmp_path / "i", **QUICK)
    whole = neuron_stats(model.second_order(list(images), 1), range(13), 4)
    assert index.neuron_layers == (1,)
    assert_equal_statistics(index.neurons(1), whole)
    with pytest.raises(ValueError, match="keeps second-order statistics of layers 1, got 0; build it with"):
        index.neurons(0)


def test_merged_neuron_statistics_point_to_the_merged_rows(model, tmp_path):
    first, second = folder_of(tmp_path / "f", 5), folder_of(tmp_path / "g", 9, start=20)
    Index.build(model, first, tmp_path / "a", **QUICK)
    Index.build(model, second, tmp_path / "b", **QUICK)
    merged = Index.merge([tmp_path / "b", tmp_path / "a"], tmp_path / "m")
    everything = [*open_images(second), *open_images(first)]
    whole = neuron_stats(model.second_order(everything, 1), range(14), 4)
    assert_equal_statistics(merged.neurons(1), whole)


def test_an_unknown_layer_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="the last layer, 2, has no later attention"):
        Index.build(model, folder_of(tmp_path / "f", 2), tmp_path / "i", **{**QUICK, "neurons": [2]})
    plain = Index.build(
        model, folder_of(tmp_path / "g", 2, start=9), tmp_path / "p", **{**QUICK, "neurons": ()}
    )
    other = Index.build(model, folder_of(tmp_path / "h", 2, start=20), tmp_path / "q", **QUICK)
    with pytest.raises(ValueError, match=r"got neurons \[\] in .* and \[1\] in"):
        Index.merge([plain.path, other.path], tmp_path / "m")


def test_statistics_in_half_precision_underflow_nowhere(model, tmp_path):
    """The network runs in half precision, its statistics in float32; the model may be asked again afterwards."""
    images = folder_of(tmp_path / "f", 8)
    index = Index.build(model, images, tmp_path / "i", **QUICK, precision="bf16")
    found = index.neurons(1)
    whole = neuron_stats(model.second_order(list(open_images(images)), 1), range(8), 4)
    kept = torch.diagonal(whole.scatter, dim1=1, dim2=2)
    assert (torch.diagonal(found.scatter, dim1=1, dim2=2)[kept > 0] > 0).all()
    close = (found.mean - whole.mean).norm() / whole.mean.norm()
    assert close < 0.05
