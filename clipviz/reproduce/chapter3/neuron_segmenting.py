"""Segmentation by neurons: Table 3.4 and Figure 3.7, a section of chapter 3's report."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from clipviz.analysis.collection.classifiers import from_prompts
from clipviz.figures import chapter2 as figures
from clipviz.lens import cues, segment
from clipviz.reproduce import published
from clipviz.reproduce.chapter2.segmenting import (
    MASKS_NEEDED,
    TOKENS,
    TOKENS_POOL,
    TRACED,
    all_methods,
    fitted_mask,
)
from clipviz.reproduce.chapter3.layers import Study
from clipviz.reproduce.evaluation import spaced
from clipviz.reproduce.pools import GENERAL, encoded_pool
from clipviz.reproduce.report import Report

NEURONS, SIGNED = "neurons", "neurons, signed"


def segmentation_section(report: Report, study: Study, summed: str = "late") -> None:
    """Table 3.4 and Figure 3.7. summed: layers of the token decomposition, see segmenting.layers_of."""
    report.section("Segmentation by neurons (Table 3.4, Figure 3.7)")
    evaluation, data = study.evaluation, study.evaluation.masks
    if data is None:
        report.needs(*MASKS_NEEDED)
        return
    # the same arguments as in chapter 2, whose maps are stored
    pool = encoded_pool(study.model, evaluation.pools[GENERAL])
    maps, masks, pictures, texts = all_methods(
        study.model, evaluation, data, study.quiet, pool, summed, study.steps
    )
    del maps[TOKENS_POOL], maps[TRACED]
    own, own_masks = neuron_maps(study)
    scores = {name: segment.score(found, masks) for name, found in maps.items()}
    scores |= {name: segment.score(found, own_masks, cues.SEGMENT_THRESHOLD) for name, found in own.items()}
    layers = study.late
    report.text(
        f'There are {len(masks)} images. "Neurons" averages the activation maps of the '
        f"{cues.N_SEGMENT_NEURONS} neurons of layers {layers[0]}-{layers[-1]} with the largest |<r, "
        f'M(c)>|, rescaled to 0..1 and thresholded at {cues.SEGMENT_THRESHOLD}. "Signed" uses those '
        "that write most towards M(c) minus the mean of all classes. The other methods are "
        "thresholded at the map's mean, as in Table 2.4."
    )
    known = published.TABLE_3_4 if published.chapter_3_model(study.model.name, study.model.pretrained) else {}
    said = published.heading(published.SEGMENTATION, published.SEGMENTATION in study.evaluation.published)
    head = [
        "method",
        "pixel accuracy",
        "mIoU",
        "mAP",
        *([f"{said}: accuracy", "mIoU", "mAP"] if known else []),
    ]
    report.table(
        head,
        [[name, s.pixel_accuracy, s.miou, s.map, *known.get(name, ())] for name, s in scores.items()],
    )
    rows = {
        name: {"pixel accuracy": s.pixel_accuracy, "mIoU": s.miou, "mAP": s.map} for name, s in scores.items()
    }
    report.figure(
        "neurons-segmentation",
        figures.segmentation_scores(rows, ours=NEURONS),
        "Table 3.4: segmentation by every method",
    )
    few = spaced(len(masks), min(5, len(masks)))
    everything = {**own, TOKENS: maps[TOKENS], "raw attention": maps["raw attention"]}
    shown = {name: np.stack([found[i].numpy() for i in few]) for name, found in everything.items()}
    figure = figures.segmentation_examples(
        [pictures[i] for i in few], [texts[i] for i in few], shown, [masks[i].numpy() for i in few]
    )
    report.figure("neurons-segmentation-examples", figure, "Figure 3.7: maps before thresholding")


def neuron_maps(study: Study, batch: int = 8) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
    """Return every masked image's heatmap for its class, by both choices of neurons, and the masks, in order."""
    data, model = study.evaluation.masks, study.model
    assert data is not None
    names = list(study.evaluation.class_prompts)
    classes = from_prompts(model, list(study.evaluation.class_prompts.values()))
    directions = torch.cat([study.layer(layer).line.directions for layer in study.late])
    usable = [i for i in range(len(data)) if data.labels[i] in study.evaluation.class_prompts]
    found: dict[str, list[Tensor]] = {NEURONS: [], SIGNED: []}
    masks = []
    for start in tqdm(range(0, len(usable), batch), desc="neuron maps", unit="batch", disable=study.quiet):
        pairs = [data[i] for i in usable[start : start + batch]]
        seconds = model.second_orders([picture for picture, _ in pairs], study.late)
        for row, i in enumerate(usable[start : start + batch]):
            one = normalize(classes[names.index(str(data.labels[i]))], dim=0)
            for name, target in ((NEURONS, one), (SIGNED, one - classes.mean(0))):
                maps = cues.map_towards(seconds, directions, target, signed=name == SIGNED)
                found[name].append(maps[row].cpu())
        masks += [fitted_mask(mask, model.image_size) for _, mask in pairs]
    return found, masks
