"""A dictionary of shared units for a session's own model, mined over its own images (thesis 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

import torch
from tqdm import tqdm

from clipviz.analysis.rosetta import dictionaries
from clipviz.analysis.rosetta.mining import control_passes, n_passes
from clipviz.data import dictionary as saved
from clipviz.loading import load_partner

if TYPE_CHECKING:
    from clipviz.session.core import Session


class MiningOptions(TypedDict, total=False):
    k: int
    at_least: int | None
    above: float | Literal["chance"]
    same: float
    n_examples: int
    batch: int
    memory: int


FEWEST = 16
"""Images from which on units of two models are compared."""


class Mined(NamedTuple):
    """The dictionary that a session mined last: how many it has mined, its folder, the partners by name."""

    number: int
    folder: Path
    partners: dict[str, Any]


def mine(
    session: Session,
    folder: str | Path,
    partners: Sequence[Any],
    n_images: int,
    control: bool,
    options: MiningOptions,
) -> Mined:
    """See Session.mine."""
    wrong = next((one for one in partners if not (isinstance(one, str) or hasattr(one, "maps"))), None)
    if isinstance(partners, str) or wrong is not None:
        raise ValueError(
            f"expected partners as a list of names or of models with .maps, got {wrong or partners!r:.80}; "
            'write ["cnn"] for one'
        )
    loaded = [
        load_partner(one, device=session.model.device) if isinstance(one, str) else one for one in partners
    ]
    readable = [i for i, ready in enumerate(session.collection.ready) if ready]
    if len(readable) < FEWEST:
        later = "open more images" if session.collection.complete else "wait until more images have been read"
        raise ValueError(
            f"expected at least {FEWEST} images to compare units on, got {len(readable)}; {later}"
        )
    shuffled = torch.randperm(len(readable), generator=torch.Generator().manual_seed(0)).tolist()
    drawn = [readable[i] for i in shuffled[: max(FEWEST, n_images)]]
    n_heldout = len(drawn) // 4
    heldout, mined = sorted(drawn[:n_heldout]), sorted(drawn[n_heldout:])
    said = f"Matching units with {', '.join(one.name for one in loaded)}"
    with tqdm(total=n_passes(len(loaded)), desc=said, unit="pass") as bar:
        concepts = dictionaries.mined(
            session.model,
            loaded,
            session.images.subset(mined),
            session.images.subset(heldout),
            list(session.texts),
            progress=lambda n_done: bar.update(n_done - bar.n),
            **options,
        )
    if not len(concepts):
        raise ValueError(
            f"expected units that {', '.join(one.name for one in loaded)} shares beyond chance, found none on "
            f"{len(mined)} images; try more images, another partner, at_least=1 with several, or a lower above="
        )
    concepts = replace(concepts, examples=torch.tensor(mined)[torch.as_tensor(concepts.examples)])
    shown = sorted({int(i) for i in concepts.examples.flatten().tolist()})
    about = dictionaries.about(session.model, loaded, session.images)
    about |= {"n_images": len(mined), "n_heldout": len(heldout)}
    if control:
        about["n_untrained"] = _untrained(session, loaded, session.images.subset(mined), options)
    path = saved.save(concepts, folder, about, {i: session.images[i] for i in shown})
    earlier = session._mined
    return Mined(earlier.number + 1 if earlier else 1, path, {one.name: one for one in loaded})


def _untrained(session: Session, partners: Sequence[Any], images: Any, options: MiningOptions) -> int:
    """The rows that an untrained copy of the session's model has on the same images."""
    said = "The same with an untrained copy of the model"
    with tqdm(total=control_passes(len(partners)), desc=said, unit="pass") as bar:
        return dictionaries.untrained_rows(
            session.model, partners, images, progress=lambda n_done: bar.update(n_done - bar.n), **options
        )
