"""Segmentation scores against scikit-learn and against small cases worked out by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, jaccard_score

import clipviz
from clipviz.lens import segment


def test_scores_by_hand():
    """2 x 2 pixels: h = [1, .5, .25, 0], mean .4375 -> foreground is the first two; truth is the first and third."""
    heatmap = torch.tensor([[4.0, 2.0], [1.0, -3.0]])
    mask = torch.tensor([[1, 0], [1, 0]])
    found = segment.score(heatmap[None], mask[None])
    assert found.pixel_accuracy == pytest.approx(2 / 4)
    assert found.iou_foreground == pytest.approx(1 / 3)
    assert found.iou_background == pytest.approx(1 / 3)
    assert found.miou == pytest.approx(1 / 3)
    # Ranking of (1 - h, h): 1 (fg, true), 1 (bg of pixel 4, true) tie; .75 (bg of 3, false), ...
    truth = [0, 1, 0, 1, 1, 0, 1, 0]
    assert found.map == pytest.approx(average_precision_score(truth, [0, 0.5, 0.75, 1, 1, 0.5, 0.25, 0]))


def test_average_precision_by_hand():
    """Positives ranked 1st and 3rd: 1/2 * 1/1 + 1/2 * 2/3."""
    found = segment.average_precision(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]))
    assert found == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert segment.average_precision(torch.tensor([0.9, 0.8]), torch.tensor([False, False])) == 0.0
    assert segment.average_precision(torch.tensor([0.5, 0.5]), torch.tensor([True, False])) == pytest.approx(
        0.5
    )


def test_scores_equal_scikit_learn_on_random_maps():
    generator = torch.Generator().manual_seed(0)
    heatmaps = torch.rand(6, 12, 12, generator=generator).round(decimals=1) - 0.2
    masks = torch.rand(6, 12, 12, generator=generator) > 0.7
    found = segment.score(heatmaps, masks)
    probabilities = np.stack([segment.to_pixels(h, (12, 12)).numpy() for h in heatmaps])
    predicted = np.stack([p > p.mean() for p in probabilities])
    truth = masks.numpy()
    assert found.pixel_accuracy == pytest.approx((predicted == truth).mean())
    ious = jaccard_score(truth.ravel(), predicted.ravel(), average=None)
    assert found.miou == pytest.approx(ious.mean())
    precisions = [
        average_precision_score(np.stack([~t, t]).ravel(), np.stack([1 - p, p]).ravel())
        for t, p in zip(truth, probabilities, strict=True)
    ]
    assert found.map == pytest.approx(np.mean(precisions), abs=1e-6)
    assert found.n_images == 6


def test_counts_are_summed_over_images_before_dividing():
    """A large and a small image: pixel accuracy is that of all pixels, not the mean of two accuracies."""
    large, small = torch.zeros(10, 10), torch.zeros(2, 2)
    large[0, 0] = small[0, 0] = 1
    wrong = torch.ones(2, 2)
    wrong[0, 0] = 0
    found = segment.score([large, small], [large > 0, wrong])
    assert found.pixel_accuracy == pytest.approx(100 / 104)


def test_to_pixels_clips_scales_and_survives_a_constant_map():
    grown = segment.to_pixels(torch.tensor([[-5.0, 0.0], [1.0, 3.0]]), (2, 2))
    torch.testing.assert_close(grown, torch.tensor([[0.0, 0.0], [1 / 3, 1.0]]))
    assert segment.to_pixels(torch.full((3, 3), 2.0), (6, 6)).abs().max() == 0


def test_token_maps_remove_the_class_mean():
    model = clipviz.load("demo", device="cpu")
    generator = torch.Generator().manual_seed(3)
    trace = model.trace(torch.randn(3, 3, *model.image_size, generator=generator))
    classes = model.encode_texts(["a dog", "a car", "a tree"])
    ours = segment.token_maps(trace, classes, background=classes, layers=[4, 5])
    every = trace.heatmap(classes, layers=[4, 5])
    expected = torch.stack([every[i, i] - every[:, i].mean(0) for i in range(3)])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"one direction per image \(3\), got 2"):
        segment.token_maps(trace, classes[:2])


def test_errors(unchecked_shapes):
    with pytest.raises(ValueError, match="as many heatmaps as masks"):
        segment.score(torch.zeros(2, 3, 3), torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match=r"\[rows, cols\]"):
        segment.score(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3))


def test_a_fixed_threshold_replaces_the_mean():
    heatmap = torch.tensor([[[0.0, 0.3], [0.4, 1.0]]])
    mask = torch.tensor([[[0, 1], [1, 1]]])
    assert segment.score(heatmap, mask).pixel_accuracy == pytest.approx(0.5)  # the mean is 0.425
    assert segment.score(heatmap, mask, threshold=0.25).pixel_accuracy == 1.0


def published(heatmap, mask):
    """The published evaluation of one image, literally: NaN of a constant map's min-max becomes 0 in both channels."""
    grown = torch.nn.functional.interpolate(heatmap[None, None].float(), mask.shape, mode="bilinear")[0, 0]
    grown = grown.clamp_min(0)
    scaled = (grown - grown.min()) / (grown.max() - grown.min())
    predicted = torch.nan_to_num(scaled.gt(scaled.mean()).float())
    channels = torch.nan_to_num(torch.stack([1 - scaled, scaled]))
    known = (mask != 255).numpy()
    truth = np.stack([(mask == 0).numpy()[known], ((mask > 0) & (mask != 255)).numpy()[known]])
    correct = (predicted.numpy()[known] > 0) == truth[1]
    return correct.mean(), average_precision_score(truth.ravel(), channels.numpy()[:, known].ravel())


@pytest.mark.parametrize("kind", ["zero", "negative", "constant", "usual"])
def test_maps_that_say_nothing_follow_the_published_convention(kind):
    draw = torch.Generator().manual_seed(4)
    heatmap = {
        "zero": torch.zeros(4, 4),
        "negative": -torch.rand(4, 4, generator=draw),
        "constant": torch.full((4, 4), 2.0),
        "usual": torch.randn(4, 4, generator=draw),
    }[kind]
    mask = (torch.rand(8, 8, generator=draw) > 0.7).to(torch.uint8)
    mask[0, :3] = 255
    accuracy, precision = published(heatmap, mask)
    found = segment.score(heatmap[None], mask[None])
    assert found.map == pytest.approx(precision, abs=1e-6)
    assert found.pixel_accuracy == pytest.approx(accuracy)
    assert (found.map == 0.5) == (kind != "usual")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_map_that_is_not_finite_is_refused(value):
    heatmap = torch.rand(2, 3, 3)
    heatmap[1, 0, 0] = value
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 9 cells"):
        segment.score(heatmap, torch.ones(2, 6, 6, dtype=torch.bool))


def test_pixels_of_value_255_are_ignored_whatever_is_predicted_there():
    heatmap = torch.tensor([[4.0, 2.0], [1.0, -3.0]])
    mask = torch.tensor([[1, 0], [255, 0]])
    found = segment.score(heatmap[None], mask[None])
    assert found.pixel_accuracy == pytest.approx(2 / 3)  # foreground is the first row
    assert found.iou_foreground == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="pixels of 255 are ignored"):
        segment.score(heatmap[None], torch.tensor([[[255, 0], [255, 0]]]))
