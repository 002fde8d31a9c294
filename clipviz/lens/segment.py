"""Heatmaps scored as segmentations, by the protocol of the field (thesis 2.5, Table 2.4).

Each map is resized bilinearly to the mask's pixels, clipped below 0 and rescaled to [0, 1], which gives h; a
pixel is foreground if h is above the image's mean. Correct pixels, intersections and unions are summed over ALL
images before any division; mIoU is the mean of the background's and the foreground's ratio; mAP is the mean over
images of the average precision of the two-channel score (1 - h, h) against the one-hot mask. A map that is
nowhere above 0, or constant, gives no ranking. As in the published code, both channels are then 0: all pixels
count as background, and the average precision is .5. Pixels of value 255 in the mask are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clipviz.lens.trace import Trace
from clipviz.values.tables import Table

IGNORED = 255


@dataclass(frozen=True, repr=False)
class SegmentationScore(Table):
    """Scores of one method, 0..1: pixel accuracy, mean IoU (background, foreground), mean average precision."""

    pixel_accuracy: float
    miou: float
    map: float
    iou_background: float
    iou_foreground: float
    n_images: int


def score(
    heatmaps: Float[Tensor, "image rows cols"] | Sequence[Tensor],
    masks: Tensor | Sequence[Tensor],
    threshold: float | None = None,
) -> SegmentationScore:
    """Pixel accuracy, mIoU and mAP of heatmaps against foreground masks (thesis 2.4, Table 2.4).

    The module's docstring states how maps are resized to the masks and how each measure is pooled.

    Args:
        heatmaps: [image, rows, cols] of any size and unit, or one map per image.
        masks: [image, height, width], or one per image where sizes differ. Nonzero is foreground, and in masks of
            integers 255 is ignored.
        threshold: Threshold for a map rescaled to 0..1. None takes the mean of each image; the thesis takes 0.5
            for neurons (3.5).

    Returns:
        Pixel accuracy, mIoU, mAP and both IoUs as shares of 1, and the number of images.

    Raises:
        ValueError: The numbers of maps and masks differ, a map holds NaN or infinity, or a mask has no labelled pixel.
    """
    counts = torch.zeros(2, 2, dtype=torch.float64)
    precisions = []
    for heatmap, mask, known in _pairs(heatmaps, masks):
        probability = to_pixels(heatmap, mask.shape)
        cut = probability.mean() if threshold is None else threshold
        counts += confusion(probability[known] > cut, mask[known])
        precisions.append(two_channel_precision(probability[known], mask[known]))
    (true_background, false_foreground), (false_background, true_foreground) = counts.tolist()
    wrong = false_foreground + false_background
    background = _ratio(true_background, true_background + wrong)
    foreground = _ratio(true_foreground, true_foreground + wrong)
    return SegmentationScore(
        pixel_accuracy=(true_background + true_foreground) / float(counts.sum()),
        miou=(background + foreground) / 2,
        map=sum(precisions) / len(precisions),
        iou_background=background,
        iou_foreground=foreground,
        n_images=len(precisions),
    )


def to_pixels(heatmap: Float[Tensor, "rows cols"], size: Sequence[int]) -> Float[Tensor, "height width"]:
    """Return h: a map at a mask's size, clipped below 0, min-max to [0, 1]; a constant map becomes 0.

    Args:
        heatmap: [rows, cols].
        size: Height and width, to which it is resized bilinearly.

    Returns:
        [height, width].

    Raises:
        ValueError: The map holds NaN or infinity.
    """
    broken = int((~torch.isfinite(torch.as_tensor(heatmap))).sum())
    if broken:
        raise ValueError(
            f"expected a finite map, got NaN or infinity in {broken} of {torch.as_tensor(heatmap).numel()} cells; "
            "check the precision in which it was made"
        )
    grown = torch.nn.functional.interpolate(
        torch.as_tensor(heatmap)[None, None].float(), size=tuple(size), mode="bilinear", align_corners=False
    )[0, 0].clamp_min(0)
    spread = grown.max() - grown.min()
    return (grown - grown.min()) / spread if float(spread) > 0 else torch.zeros_like(grown)


def confusion(
    predicted: Bool[Tensor, "*pixels"], mask: Bool[Tensor, "*pixels"]
) -> Float[Tensor, "truth predicted"]:
    """Return pixel counts.

    Args:
        predicted: True for foreground.
        mask: The truth, of the same shape.

    Returns:
        [truth, predicted]: rows are the truth (background, foreground), columns the prediction.
    """
    cells = (2 * mask.long() + predicted.long()).flatten()
    return torch.bincount(cells, minlength=4).view(2, 2).double()


def two_channel_precision(probability: Float[Tensor, "*pixels"], mask: Bool[Tensor, "*pixels"]) -> float:
    """Return the average precision of the scores (1 - h, h), both channels in one ranking, against the one-hot mask.

    Args:
        probability: h, in 0..1.
        mask: The truth, of the same shape.

    Returns:
        0..1; .5 for a map that is 0 everywhere, where both channels are 0 and all pixels tie.
    """
    if float(probability.max()) == 0:
        return 0.5
    scores = torch.cat([(1 - probability).flatten(), probability.flatten()])
    return average_precision(scores, torch.cat([~mask.flatten(), mask.flatten()]))


def average_precision(scores: Float[Tensor, " item"], positives: Bool[Tensor, " item"]) -> float:
    """Return sum_n (recall_n - recall_{n-1}) precision_n over the distinct thresholds; equal scores share one.

    Args:
        scores: [item].
        positives: [item].

    Returns:
        The area that scikit-learn's average_precision_score computes; 0 if there is no positive.
    """
    ordered, order = scores.sort(descending=True)
    hits = positives[order].double().cumsum(0)
    if len(hits) == 0 or float(hits[-1]) == 0:
        return 0.0
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    found, seen = hits[last], (torch.nonzero(last)[:, 0] + 1).double()
    recall_gain = torch.diff(found, prepend=found.new_zeros(1)) / hits[-1]
    return float((recall_gain * found / seen).sum())


def token_maps(
    trace: Trace,
    directions: Float[Tensor, "image d_embed"],
    background: Float[Tensor, "text d_embed"] | None = None,
    layers: Sequence[int] | None = None,
) -> Float[Tensor, "image rows cols"]:
    """Return the token decomposition as a segmentation: each image's map for its own text (thesis 2.5).

    Args:
        trace: The forward pass of the images, with tokens.
        directions: One unit text direction per image (its class), [image, d_embed].
        background: The class texts whose mean map is subtracted, the bias removal of the thesis; maps are linear in the
            direction, so the mean direction is.
        layers: Attention layers to sum over. None takes all.

    Returns:
        [image, rows, cols].

    Raises:
        ValueError: There are not as many directions as images.
    """
    if directions.shape[0] != trace.embedding.shape[0]:
        raise ValueError(
            f"expected one direction per image ({trace.embedding.shape[0]}), got {directions.shape[0]}; "
            "index the class directions with the images' labels"
        )
    shifted = directions if background is None else directions - background.mean(0)
    maps = [trace[i].heatmap(shifted[i : i + 1], layers)[0, 0] for i in range(len(shifted))]
    return torch.stack(maps)


def _pairs(
    heatmaps: Tensor | Sequence[Tensor], masks: Tensor | Sequence[Tensor]
) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    """Yield each map, the foreground of its mask, and the pixels that are labelled."""
    if len(heatmaps) != len(masks) or len(masks) == 0:
        raise ValueError(
            f"expected as many heatmaps as masks, at least one, got {len(heatmaps)} and {len(masks)}"
        )
    for heatmap, mask in zip(heatmaps, masks, strict=True):
        heatmap, mask = torch.as_tensor(heatmap).cpu(), torch.as_tensor(mask).cpu()
        if heatmap.ndim != 2 or mask.ndim != 2 or not heatmap.numel() or not mask.numel():
            raise ValueError(
                f"expected maps [rows, cols] and masks [height, width], got {list(heatmap.shape)} and "
                f"{list(mask.shape)}"
            )
        yield heatmap, mask > 0, _labelled(mask)


def _labelled(mask: Tensor) -> Bool[Tensor, "height width"]:
    """Return which pixels are not 255. In boolean masks and masks of fractions no pixel is ignored."""
    if mask.dtype == torch.bool or mask.is_floating_point():
        return torch.ones_like(mask, dtype=torch.bool)
    known = mask != IGNORED
    if not bool(known.all()) and not bool(((mask > 0) & known).any()):
        raise ValueError(
            "expected a mask with foreground, got only 0 and 255, and pixels of 255 are ignored; if "
            "255 is the foreground, pass mask > 0"
        )
    return known


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
