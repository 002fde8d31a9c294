"""Is a number large? An image and a text beside the pool and the collection, and whether the model knows the image."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.values import Ablation

if TYPE_CHECKING:
    from clipviz.session.core import Session

FAR = 0.01  # share of the collection below which an image's best text is unusually low

THINGS = (("class", "label", "category"), ("second class",))
"""Columns whose words name what an image's mask outlines; a text has to name one of each tuple."""


class Standing(NamedTuple):
    """Where a text's cosine with an image stands.

    cosine: that with text A, or A minus B; rank: 1 + the number of the n_texts pool texts whose cosine with the image
    is larger, None for A minus B; share: of the n_images images read, those whose cosine with the text is smaller.
    """

    cosine: float
    rank: int | None
    n_texts: int
    share: float
    n_images: int


def standing(session: Session, text: str, image: int, text_b: str, ablation: Ablation) -> Standing:
    cosine = session.head_scores(text, image, text_b, ablation).cosine
    rank = None
    if not text_b:
        others = session.pool() @ session.unit_embedding(image, ablation)
        same = [j for j, other in enumerate(session.texts) if other == text]
        others[same] = -2.0
        rank = 1 + int((others > cosine).sum())
    rows = session.collection.rows()
    rows = rows[rows != image]
    found = session.cosines(text, text_b, ablation)[rows]
    share = float((found < cosine).float().mean()) if len(rows) else 0.0
    return Standing(cosine, rank, len(session.texts), share, len(rows))


def names_object(session: Session, text: str, image: int) -> bool | None:
    """Whether a text names what the image's mask outlines (all of it); None where nobody says what that is."""
    columns, said = session.images.attributes or {}, text.lower()
    wanted = []
    for group in THINGS:
        words = [columns[column][image] for column in group if column in columns]
        if any(words):
            wanted.append([word for word in words if word])
    if not wanted:
        return None
    return all(any(_names(word, said) for word in words) for words in wanted)


def _names(word: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(word.lower())}(e?s)?\b", text) is not None


class Familiarity(NamedTuple):
    """Whether an image is of the kind that a model knows.

    known: False where it is far from that; why: in words, "" where it is known; cosine: with its best text of the pool;
    share: of the n_images images read, those whose best text scores lower.
    """

    known: bool
    why: str
    cosine: float
    share: float
    n_images: int


def familiarity(session: Session, image: int) -> Familiarity:
    """A model with a world of its own knows the pictures of that world; any other is judged by its collection.

    A model that has seen one world only puts every picture into it: its embedding, best text and head codes do not
    tell a photograph from a drawn scene (on the demo, at most 9 of 20 photographs were beyond the collection's 99th
    percentile in any of them). So where the model's bundle brings images, only these, and pictures drawn for the
    session, count as known. Elsewhere an image is far when its best text scores below the collection's 1st percentile.
    """
    whole, rows = Ablation(), session.collection.rows()
    rows = rows[rows != image]
    cosine = session.nearest_texts(image, 1, whole)[0][1]
    best = session.remember(("best texts", session.collection.version), lambda: _best(session))
    share = float((best[rows] < cosine).float().mean()) if len(rows) else 1.0
    said = cosine, share, len(rows)
    own = _own(session)
    if own is not None:
        known = image in session.drawn or session.images.keys[image] in own
        name = session.model.name
        why = (
            f"This picture is not from the collection that “{name}” was made with. The model reads every picture as "
            "one of its own: its numbers say little here."
        )
        return Familiarity(known, "" if known else why, *said)
    known = share >= FAR or len(rows) < 1 / FAR
    why = f"Its best text scores {cosine:.3f}, lower than on all but {share:.1%} of this collection's images."
    return Familiarity(known, "" if known else why, *said)


def _best(session: Session) -> Tensor:
    """The largest cosine of every image with a text of the pool, [image]."""
    unit, pool = normalize(session.collection.embedding, dim=-1), session.pool()
    return torch.cat([(part @ pool.T.to(part)).amax(1) for part in unit.split(4096)])


def _own(session: Session) -> frozenset[str] | None:
    """The images of the model's own world; None where it brings none."""
    bundle = session.model.bundle
    if bundle is None or bundle.images is None:
        return None
    images = bundle.images()
    if session.index is not None and session.index.fingerprint == images.fingerprint:
        return frozenset(session.images.keys)
    return session.remember("own images", lambda: frozenset(images.keys))
