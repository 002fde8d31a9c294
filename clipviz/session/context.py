"""What a session holds against a number (lens/percentiles): its pool, its collection, its model's own world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipviz.lens.percentiles import (
    Familiarity,
    Standing,
    among_images,
    best_cosines,
    rank_among,
    share_below,
)
from clipviz.values import Ablation

if TYPE_CHECKING:
    from torch import Tensor

    from clipviz.session.core import Session


def standing(session: Session, text: str, image: int, text_b: str, ablation: Ablation) -> Standing:
    cosine = session.head_scores(text, image, text_b, ablation).cosine
    rank = None
    if not text_b:
        others = session.pool() @ session.unit_embedding(image, ablation)
        others[[j for j, other in enumerate(session.texts) if other == text]] = -2.0
        rank = rank_among(cosine, others)
    rows = _others(session, image)
    share = share_below(cosine, session.cosines(text, text_b, ablation)[rows])
    return Standing(cosine, rank, len(session.texts), share, len(rows))


def familiarity(session: Session, image: int) -> Familiarity:
    """A model with a world of its own knows the pictures of that world; any other is judged by its collection.

    A model that has seen one world only puts every picture into it: its embedding, best text and head codes do not
    tell a photograph from a drawn scene (on the demo, at most 9 of 20 photographs were beyond the collection's 99th
    percentile in any of them). So where the model's bundle brings images, only these, and pictures drawn for the
    session, count as known. Elsewhere the collection judges (lens.percentiles.among_images).
    """
    collection = session.collection
    cosine = session.nearest_texts(image, 1, Ablation())[0][1]
    best = session.remember(
        ("best texts", collection.version), lambda: best_cosines(collection.embedding, session.pool())
    )
    judged = among_images(cosine, best[_others(session, image)])
    own = _own(session)
    if own is None:
        return judged
    known = image in session.drawn or session.images.keys[image] in own
    why = (
        f"This picture is not from the collection that “{session.model.name}” was made with. The model reads every "
        "picture as one of its own: its numbers say little here."
    )
    return judged._replace(known=known, why="" if known else why)


def _others(session: Session, image: int) -> Tensor:
    """The images that were read, but this one, [row]."""
    rows = session.collection.rows()
    return rows[rows != image]


def _own(session: Session) -> frozenset[str] | None:
    """The images of the model's own world; None where it brings none."""
    bundle = session.model.bundle
    if bundle is None or bundle.images is None:
        return None
    images = bundle.images()
    if session.index is not None and session.index.fingerprint == images.fingerprint:
        return frozenset(session.images.keys)
    return session.remember("own images", lambda: frozenset(images.keys))
