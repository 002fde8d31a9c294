"""The concepts of a generator's shared units: groups of units that are active together, named by the nearest text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipviz.analysis.rosetta.mining import SAME
from clipviz.analysis.rosetta.text_labels import likeness
from clipviz.files import write_whole
from clipviz.lens.rosetta import CorrelationSums
from clipviz.values import Progress, unwatched

if TYPE_CHECKING:
    from clipviz.analysis.generation.guides import Guides
    from clipviz.models.clip import ClipModel

SIDE = 32
"""Rows and columns of the maps on which units of all layers are compared."""
CLOSE = 0.02
"""Among texts whose correlations differ by less than this, the shortest becomes the name."""

Unit = tuple[str, int]


class GeneratorConcept(NamedTuple):
    """Units of a generator that are active together and that other models share.

    name: the text whose heatmap correlates most with their maps; similarity: that correlation (mean over the
    units, -1..1). units: (layer, unit) of each, the one most similar to the name first. readers: the models that
    share them.
    """

    name: str
    similarity: float
    units: tuple[Unit, ...]
    readers: tuple[str, ...]


@torch.no_grad()
def generator_concepts(
    model: ClipModel,
    generator: Any,
    guides: Guides,
    latents: Any,
    texts: Sequence[str],
    batch: int = 16,
    same: float = SAME,
    progress: Progress = unwatched,
) -> list[GeneratorConcept]:
    """Return the generator's guides as concepts, those with most units first.

    Units whose maps over G(latents) correlate by more than `same` on average (Eq. 4.2) are named together, by the
    text whose heatmap has the highest mean correlation with them (see text_labels.likeness); units of one name
    are one concept. progress: called before each batch with the number of pictures done.
    """
    units = [(group.layer_a, unit) for group in guides.own for unit in group.units_a.tolist()]
    with_units = CorrelationSums(len(units), len(units))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(latents), batch):
            progress(start)
            pictures, recorded = generator.generate(latents[start : start + batch])
            parts = [F.interpolate(recorded[g.layer_a][:, g.units_a], SIDE, mode="area") for g in guides.own]
            maps = torch.cat(parts, 1)
            with_units.update(maps, maps)
            yield pictures.clamp(0, 1), maps

    likes = likeness(model, texts, batches())
    alike = with_units.correlation().cpu()
    readers = _readers(guides)
    groups: dict[int, list[int]] = {}
    for rows in _alike(alike, same):
        text, _ = _name(likes[:, rows].mean(1), texts)
        groups.setdefault(text, []).extend(rows.tolist())
    found = []
    for text, members in groups.items():
        ranked = sorted(members, key=lambda row: -float(likes[text, row]))
        own = tuple(units[row] for row in ranked)
        sharing = tuple(name for name in guides.pairs if any(name in readers[unit] for unit in own))
        found.append(GeneratorConcept(texts[text], float(likes[text, ranked].mean()), own, sharing))
    return sorted(found, key=lambda one: (-len(one.units), -one.similarity))


def _alike(correlation: Tensor, same: float) -> list[Tensor]:
    """Return groups of units whose mean correlation exceeds `same`; average linkage avoids long chains."""
    if len(correlation) < 2:
        return [torch.arange(len(correlation))]
    # this import takes half a second and is not needed at startup
    from sklearn.cluster import AgglomerativeClustering

    joined = AgglomerativeClustering(
        None, metric="precomputed", linkage="average", distance_threshold=1 - same
    ).fit_predict((1 - correlation).clamp_min(0).numpy())
    return [torch.from_numpy(np.flatnonzero(joined == number)) for number in range(joined.max() + 1)]


def _name(likes: Tensor, texts: Sequence[str]) -> tuple[int, float]:
    """Return the text that names a concept, and its correlation; likes: [text]."""
    close = (likes > float(likes.max()) - CLOSE).nonzero()[:, 0].tolist()
    shortest = min(close, key=lambda text: (len(texts[text]), -float(likes[text])))
    return shortest, float(likes[shortest])


def _readers(guides: Guides) -> dict[Unit, set[str]]:
    found: dict[Unit, set[str]] = {}
    for name, groups in guides.pairs.items():
        for group in groups:
            for unit in group.units_a.tolist():
                found.setdefault((group.layer_a, unit), set()).add(name)
    return found


def save(path: str | Path, concepts: Sequence[GeneratorConcept], about: Mapping[str, str]) -> None:
    """Write concepts as JSON; about: the models from which they were computed."""
    rows = [[one.name, round(one.similarity, 4), one.units, one.readers] for one in concepts]
    write_whole(Path(path), json.dumps({"about": dict(about), "concepts": rows}, indent=0).encode())


def open_concepts(path: str | Path, about: Mapping[str, str]) -> list[GeneratorConcept] | None:
    """Return the concepts in a file, or None if there is none or it belongs to other weights. Raises ValueError if
    it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        if content["about"] != dict(about):
            return None
        return [
            GeneratorConcept(
                str(name), float(similarity), tuple((str(a), int(b)) for a, b in units), tuple(readers)
            )
            for name, similarity, units, readers in content["concepts"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected a generator's concepts in {str(path)!r}, got a damaged file ({error}); delete it"
        ) from error
