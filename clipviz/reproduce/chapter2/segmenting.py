"""Table 2.4 and Figure A.4: the token decomposition compared with the baselines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from clipviz.analysis.collection.classifiers import from_prompts
from clipviz.data.segmentation import MaskedImages, fit_mask
from clipviz.figures import chapter2 as figures
from clipviz.figures import chapter2_interactive as interactive
from clipviz.lens import segment
from clipviz.lens.baselines import METHODS, all_maps, traced_back
from clipviz.lens.baselines.attention import on_grid
from clipviz.models.attribution import record
from clipviz.models.clip import ClipModel
from clipviz.reproduce import published
from clipviz.reproduce.evaluation import Evaluation
from clipviz.reproduce.pools import GENERAL, encoded_pool
from clipviz.reproduce.report import Report, Steps
from clipviz.values import N_LATE, late_layers

TOKENS, TOKENS_POOL = "token decomposition", "token decomposition minus all descriptions"
TRACED = "token decomposition, traced back"
"""The effects of the last of the two above, each at the tokens whose contents it read (lens.baselines.traced_back)."""
SUMMED = ("late", "all")
BATCH, CHUNK = 4, 16  # images per pass, and per stored step
MASKS_NEEDED = ("--segmentation FOLDER", "images/ and masks/ with a subfolder per class, or gtsegs_ijcv.mat")
MIN_APART = 8  # least number of images on each side of a comparison


def segmentation_section(
    report: Report,
    model: ClipModel,
    evaluation: Evaluation,
    quiet: bool = False,
    summed: str = "late",
    steps: Steps | None = None,
) -> None:
    """Add Table 2.4 and Figure A.4, if there are masks. summed: see `layers_of`; steps: see `all_methods`."""
    report.section("Segmentation (Table 2.4, Figure A.4)")
    if evaluation.masks is None:
        report.needs(*MASKS_NEEDED)
        return
    pool = encoded_pool(model, evaluation.pools[GENERAL])
    maps, masks, pictures, texts = all_methods(
        model, evaluation, evaluation.masks, quiet, pool, summed, steps
    )
    report.text(
        f"There are {len(masks)} images, each with the text of its class. The token decomposition "
        f"uses token effects of all heads of {'all' if summed == 'all' else f'the last {N_LATE}'} "
        "layers on the class direction minus the mean over all classes, as in the thesis, or over "
        "all descriptions of the pool, which also describe backgrounds. Traced back, each effect "
        "stands at the tokens whose contents its token had read, by rollout of the layers before, "
        "and the sum is the same. Maps are enlarged "
        "bilinearly, clipped at 0 and thresholded at their mean; pixels are counted over all "
        "images. The other methods are in their published forms (lens.baselines): rollout and "
        "Chefer et al. start at the second layer."
    )
    known = (
        published.TABLE_2_4
        if model.name == "ViT-L-14" and model.pretrained.startswith(published.LAION_2B)
        else {}
    )
    said = published.heading(published.SEGMENTATION, published.SEGMENTATION in evaluation.published)
    _scores(report, maps, masks, known, said=said)
    _by_outcome(report, model, evaluation, maps, masks)
    if evaluation.pairs is not None:
        of_two, of_two_masks, *_ = all_methods(
            model, evaluation, evaluation.pairs, quiet, pool, summed, steps
        )
        report.text(
            f"Here the text has to select an object: {len(of_two_masks) // 2} pictures of two "
            "objects are used once for each object, with the mask of that object alone. A method "
            "that finds whatever is salient cannot tell which of the two is meant."
        )
        _scores(report, of_two, of_two_masks, {}, "of two")
    few = np.linspace(0, len(masks) - 1, min(4, len(masks))).round().astype(int).tolist()
    shown = {name: np.stack([maps[name][i].numpy() for i in few]) for name in (TOKENS, TOKENS_POOL, *METHODS)}
    figure = figures.segmentation_examples(
        [pictures[i] for i in few], [texts[i] for i in few], shown, [masks[i].numpy() for i in few]
    )
    report.figure("segmentation-examples", figure, "Figure A.4: the maps of every method")


def _scores(
    report: Report,
    maps: dict[str, list[Tensor]],
    masks: list[Tensor],
    known: Mapping[str, Sequence[float]],
    which: str = "",
    said: str = "",
) -> None:
    """Add a table and figures of every method's scores, and state which methods exceed the better token
    decomposition.

    known: published scores, and `said` is their heading.
    """
    scores = {name: segment.score(found, masks) for name, found in maps.items()}
    rows = {
        name: {"pixel accuracy": s.pixel_accuracy, "mIoU": s.miou, "mAP": s.map} for name, s in scores.items()
    }
    thesis = [f"{said}: accuracy", "mIoU", "mAP"] if known else []
    report.table(
        ["method", "pixel accuracy", "mIoU", "mAP", *thesis],
        [[name, *row.values(), *known.get(name, ())] for name, row in rows.items()],
    )
    best = {
        measure: max(row[measure] for name, row in rows.items() if name not in METHODS)
        for measure in rows[TOKENS]
    }
    above = {
        measure: [name for name, row in rows.items() if row[measure] > value]
        for measure, value in best.items()
    }
    found = "; ".join(f"in {measure} {', '.join(names) or 'none'}" for measure, names in above.items())
    report.text(f"Above the token decomposition: {found.rstrip('.')}.")
    name, title = (f"segmentation {which}".strip().replace(" ", "-"), f"segmentation {which}".strip())
    report.figure(name, figures.segmentation_scores(rows), f"Table 2.4: {title} by every method")
    report.interactive(name, interactive.segmentation_scores(rows), "the same, interactive")


def _by_outcome(
    report: Report,
    model: ClipModel,
    evaluation: Evaluation,
    maps: dict[str, list[Tensor]],
    masks: list[Tensor],
) -> None:
    """Show scores separately for images whose class the model names and for the others."""
    if len(masks) < 2 * MIN_APART:
        return
    right = named_right(model, evaluation)
    sides = {
        "named": [i for i, ok in enumerate(right) if ok],
        "missed": [i for i, ok in enumerate(right) if not ok],
    }
    if min(map(len, sides.values())) < MIN_APART:
        return
    report.text(
        f"The model names {sum(right)} of these {len(right)} images by their class. Direct effects "
        "show what writes towards the class. Where the class is missed, parts of the object write "
        "against it, which attention and relevance do not show. Direct effects also concentrate on "
        "a few informative tokens of an object, while rollout spreads over it. mAP ranks pixels by "
        "the value of the map and favours spread-out maps; mIoU thresholds the map at its mean."
    )
    rows = []
    for name, found in maps.items():
        scores = [
            segment.score([found[i] for i in side], [masks[i] for i in side]) for side in sides.values()
        ]
        rows.append([name, *(value for score in scores for value in (score.miou, score.map))])
    report.table(["method", "mIoU, class named", "mAP, class named", "mIoU, missed", "mAP, missed"], rows)


def named_right(model: ClipModel, evaluation: Evaluation) -> list[bool]:
    """Return for every masked image whether the model's first class is the true one."""
    data = evaluation.masks
    assert data is not None
    names, right = list(evaluation.class_prompts), []
    classes = from_prompts(model, list(evaluation.class_prompts.values()))
    usable = [i for i in range(len(data)) if data.labels[i] in evaluation.class_prompts]
    for start in range(0, len(usable), 8 * BATCH):
        rows = usable[start : start + 8 * BATCH]
        embedding = model.encode_images([data[i][0] for i in rows])
        found = (embedding @ classes.T).argmax(1).tolist()
        right += [names[place] == str(data.labels[i]) for i, place in zip(rows, found, strict=True)]
    return right


def layers_of(n_layers: int, summed: str) -> range:
    """Return the layers that a map sums: "late", the last N_LATE, which segment better, or "all" (Table 2.4)."""
    if summed not in SUMMED:
        raise ValueError(f"expected summed to be one of {', '.join(SUMMED)}, got {summed!r}")
    return range(n_layers) if summed == "all" else late_layers(n_layers)


def all_methods(
    model: ClipModel,
    evaluation: Evaluation,
    data: MaskedImages,
    quiet: bool = False,
    pool: Float[Tensor, "text d_embed"] | None = None,
    summed: str = "late",
    steps: Steps | None = None,
) -> tuple[dict[str, list[Tensor]], list[Tensor], list[np.ndarray], list[str]]:
    """Return the maps of every method on the images of `data` for their classes, whose texts the evaluation
    provides.

    Also the masks and the pictures as the network sees them, and the classes. pool: texts whose mean replaces
    that of the classes in a second token decomposition. summed: see `layers_of`. steps: where maps are stored, so
    that another chapter can use the same ones.
    """
    names = list(evaluation.class_prompts)
    classes = from_prompts(model, list(evaluation.class_prompts.values()))
    usable = [i for i in range(len(data)) if data.labels[i] in evaluation.class_prompts]
    backgrounds = {TOKENS: classes} if pool is None else {TOKENS: classes, TOKENS_POOL: pool}
    layers = layers_of(model.n_layers, summed)
    chunks = [usable[start : start + CHUNK] for start in range(0, len(usable), CHUNK)]

    def make(places: list[int]) -> Iterator[dict[str, Any]]:
        for place in tqdm(places, desc="segmenting", unit="chunk", disable=quiet):
            made: dict[str, list[np.ndarray]] = {}
            for start in range(0, len(chunks[place]), BATCH):
                rows = chunks[place][start : start + BATCH]
                pixels = model.prepare([data[i][0] for i in rows])
                directions = classes[[names.index(str(data.labels[i])) for i in rows]]
                noted = record(model, pixels, directions)
                found = all_maps(noted, model.weights.grid)
                trace = model.trace(pixels)
                for name, texts_of_all in backgrounds.items():
                    found[name] = segment.token_maps(trace, directions, texts_of_all, layers=layers)
                shifted = directions - list(backgrounds.values())[-1].mean(0)
                effects = [
                    trace[[i]].token_scores(shifted[[i]], layers)[0].sum(2) for i in range(len(shifted))
                ]
                traced = traced_back(torch.cat(effects), noted.attention, layers)
                found[TRACED] = on_grid(traced, model.weights.grid)
                for name, maps in found.items():
                    made.setdefault(name, []).append(maps.cpu().numpy())
            yield {name: np.concatenate(parts) for name, parts in made.items()}

    if steps is None:
        kept = list(make(list(range(len(chunks)))))
    else:
        about = [summed, TRACED, *backgrounds, *(_digest(texts) for texts in backgrounds.values())]
        key = {**model.identity(), "pictures": _digest(*(data[i][0] for i in usable)), "about": about}
        own = Steps(steps.folder, key)
        label = hashlib.blake2b(own.key.encode(), digest_size=4).hexdigest()
        kept = own.get_all([f"maps-{label}-{place:05d}" for place in range(len(chunks))], make)
    maps = {
        name: [torch.from_numpy(one) for chunk in kept for one in chunk[name]]
        for name in (*METHODS, *backgrounds, TRACED)
    }
    masks, pictures = [], []
    for i in usable:
        picture, mask = data[i]
        masks.append(fitted_mask(mask, model.image_size))
        pictures += list(model.shown(model.prepare([picture])))
    return maps, masks, pictures, [str(data.labels[i]) for i in usable]


def _digest(*arrays: Any) -> str:
    """Return the hash of tensors or pictures."""
    found = hashlib.blake2b(digest_size=16)
    for one in arrays:
        values = one.cpu().numpy() if isinstance(one, Tensor) else np.asarray(one)
        found.update(str(values.shape).encode() + np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def fitted_mask(mask: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Return a mask in the model's geometry (data.segmentation.fit_mask), as a tensor."""
    return torch.from_numpy(fit_mask(mask, size))
