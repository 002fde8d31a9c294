"""What heads write: their effects on one image, their texts over the collection, and the label that these give."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.analysis.heads import labels
from clipviz.lens import textspan as lens
from clipviz.lens.heatmap import one_placeless
from clipviz.lens.roles import NO_ROLE
from clipviz.models.threads import spare_core, sparing
from clipviz.session import ablation as ablations
from clipviz.values import N_LATE
from clipviz.waits import Work

if TYPE_CHECKING:
    from clipviz.data.texts import Texts
    from clipviz.session.core import Session
    from clipviz.values import Ablation, Head


FOUND = 0.95  # of the pool's texts: a head that a text finds varies less along these


class HeadScores(NamedTuple):
    """Direct effects on a text's cosine for one image: heads [layer, head], mlps [1 + layer], their sum.

    With a second text, on the difference of the two cosines. After an ablation: of what is left, and a head's mean (or
    0) where it was removed; what stands for "everything else" is entry 0 of mlps.
    """

    heads: np.ndarray
    mlps: np.ndarray
    cosine: float


class TokenHead(NamedTuple):
    """What one head writes at one token: a direct effect on the cosine, or attention where there is no text."""

    layer: int
    head: int
    value: float


class TokenMaps(NamedTuple):
    """Direct effects of every token through every head on a text's cosine: scores [layer, head, token].

    Token 0 is the class token: all tokens without a place together, 0 where there is none. The mean of a head that
    was removed has no place either: it is in token 0. grid: rows and columns of the others.
    """

    scores: np.ndarray
    cosine: float
    grid: tuple[int, int]

    def map(self, scope: str = "all", layer: int | None = None, head: int | None = None) -> np.ndarray:
        """The scores over the image [rows, cols], summed over "all" heads, "late" layers, one "layer" or one "head"."""
        scores = self.scores
        if scope == "late":
            scores = scores[-N_LATE:]
        elif scope == "layer" and layer is not None:
            scores = scores[layer][None]
        elif scope == "head" and layer is not None and head is not None:
            scores = scores[layer, head][None, None]
        return scores[..., 1:].sum((0, 1)).reshape(self.grid)

    def at(self, token: int | None, k: int = 5) -> list[TokenHead]:
        """The k heads that write most (by size) at a token. Raises ValueError where there is no such token."""
        n_heads, n_tokens = self.scores.shape[1:]
        if token is None or not 0 <= token < n_tokens:
            raise ValueError(f"expected a token within 0..{n_tokens - 1}, got {token}; select one first")
        column = self.scores[:, :, token]
        order = np.argsort(-np.abs(column), axis=None, kind="stable")[:k]
        places = [divmod(int(i), n_heads) for i in order]
        return [TokenHead(layer, head, float(column[layer, head])) for layer, head in places]


class Description(NamedTuple):
    """TextSpan of one head: texts and families chosen, the share of variance that each adds, and the null's.

    order: [n] indices into the pool; gains: [n]; null_gains: [draw, n], the same search when the head's data are
    randomly rotated inside its span; null_order: [draw, n]; n_used_up: texts of the pool not chosen of which nothing is
    left: duplicates, combinations of those chosen, texts outside the head's span.
    """

    texts: tuple[str, ...]
    families: tuple[str | None, ...]
    order: np.ndarray
    gains: np.ndarray
    null_gains: np.ndarray
    null_order: np.ndarray
    n_used_up: int


class HeadFound(NamedTuple):
    """A head that a search by meaning found: the share of its variance along the text, minus what all texts share, and
    the share of the pool's texts along which it varies less."""

    layer: int
    head: int
    share: float
    above: float


class Label(NamedTuple):
    """What a head is about (analysis.heads.labels): its name, why that is (not) said, how rare it is under the null.

    texts: the first texts of the label's search (centred pool, length-normalised), which Alg. 1 may order differently.
    """

    name: str
    why: str
    p_value: float
    texts: tuple[str, ...]


def head_scores(session: Session, text: str, image: int, text_b: str, ablation: Ablation) -> HeadScores:
    trace, direction = session.trace(image), session.contrast(text, text_b)
    maps = session.token_maps(text, image, text_b, ablation)
    mlps, norm = trace.mlp_effects()[0] @ direction, trace.norm[0]
    if ablation:
        left = ablations.left_of(session, image, ablation)
        norm = left.norm
        if left.rest is not None:
            mlps[:] = 0
            mlps[0] = left.rest @ direction
    heads = maps.scores.sum(-1, dtype=np.float64).astype(maps.scores.dtype)
    return HeadScores(heads, to_numpy(mlps / norm), maps.cosine)


def token_maps(session: Session, text: str, image: int, text_b: str, ablation: Ablation) -> TokenMaps:
    trace, direction = session.trace(image), session.contrast(text, text_b)
    scores = one_placeless(trace.token_scores(direction[None])[0, 0], session.model.weights.prefix)
    embedding, norm = trace.embedding[0], trace.norm[0]
    if ablation:
        left = ablations.left_of(session, image, ablation)
        embedding, norm = left.embedding, left.norm
        for (layer, head), effect in zip(left.heads, left.instead @ direction, strict=True):
            scores[layer, head] = 0
            scores[layer, head, 0] = effect
        if left.rest is not None:
            scores[_unkept(session)] = 0
    cosine = float(embedding @ direction / norm)
    return TokenMaps(to_numpy(scores / norm), cosine, session.model.weights.grid)


def _unkept(session: Session) -> list[int]:
    """Layers whose heads the collection does not keep."""
    return [layer for layer in range(session.model.n_layers) if layer not in session.collection.layers]


def pool_map(session: Session, text: str, image: int, text_b: str) -> np.ndarray:
    scores = session.trace(image).pool_scores(session.contrast(text, text_b)[None], normalize=True)[0, 0]
    return to_numpy(one_placeless(scores, session.model.weights.prefix))


def attention(session: Session, image: int) -> np.ndarray:
    found = session.trace(image).attention
    assert found is not None
    return to_numpy(one_placeless(found[0], session.model.weights.prefix))


def variance_shares(session: Session, images: Sequence[int]) -> np.ndarray:
    variance = torch.diagonal(session.span(images)[0], dim1=1, dim2=2).sum(-1)
    return to_numpy((variance / variance.sum().clamp_min(1e-30)).reshape(len(session.collection.layers), -1))


@spare_core()
def describe(
    session: Session, layer: int, head: int, n_texts: int, images: Sequence[int], n_draws: int
) -> Description:
    (covariance, span), pool = session.head_span(layer, head, images), session.pool()
    lens.check_varies(span[0])
    n_texts = min(n_texts, len(session.texts), session.model.weights.d_code, covariance.shape[-1])
    basis = lens.textspan_from_covariance(covariance, span, pool, n_texts)
    null_gains, null_order = np.zeros((0, n_texts)), np.zeros((0, n_texts), int)
    if n_draws:
        explained, order = lens.null_explained(covariance, span, pool, n_texts, n_draws)
        null_gains, null_order = (
            np.diff(to_numpy(explained[:, 0]), axis=1, prepend=0),
            to_numpy(order[:, 0]),
        )
    chosen = to_numpy(basis.order[0])
    return Description(
        tuple(session.texts[i] for i in chosen),
        tuple(session.texts.families[i] for i in chosen),
        chosen,
        to_numpy(basis.gains[0]),
        null_gains,
        null_order,
        int(basis.n_used_up[0]),
    )


@spare_core()
def label(session: Session, layer: int, head: int, images: Sequence[int]) -> Label:
    known: dict[Head, Label] = {}
    for _ in label_into(known, session, (layer, head), images):
        session.checkpoint()
    return known[layer, head]


def label_into(known: dict[Head, Label], session: Session, at: Head, images: Sequence[int]) -> Iterator[None]:
    """Steps after which a head's label is known; they hold nothing of the session."""
    covariance, span = session.head_span(*at, images)
    return _labelled(known, at, covariance[0], span[0], session.pool(), session.texts)


def _labelled(
    known: dict[Head, Label], at: Head, covariance: Tensor, span: Tensor, pool: Tensor, texts: Texts
) -> Iterator[None]:
    try:
        found = yield from labels.label_in_steps(covariance, span, pool, texts, labels.N_DRAWS)
    except ValueError as error:  # a head that does not vary is about nothing
        known[at] = Label(NO_ROLE, str(error), 1.0, ())
    else:
        first = tuple(texts[i] for i in found.first)
        known[at] = Label(found.label, found.why, found.p_value, first)


def find(session: Session, text: str) -> list[HeadFound]:
    """The heads that vary with a text more than with 95% of the pool, the largest share of variance first."""
    covariance, span = session.span()
    pool = session.pool()
    mean = pool.mean(0)

    def pool_shares() -> Tensor:
        return lens.variance_along(covariance, span, normalize(pool - mean, dim=-1))

    others = session.keep(("variance along pool", session.collection.version), pool_shares)
    shares = lens.variance_along(covariance, span, normalize(session.direction(text) - mean, dim=-1)[None])[
        :, 0
    ]
    above = (others < shares[:, None]).double().mean(1)
    rows = zip(session.heads, shares.tolist(), above.tolist(), strict=True)
    found = [HeadFound(layer, head, share, rank) for (layer, head), share, rank in rows if rank >= FOUND]
    return sorted(found, key=lambda one: -one.share)


def read_version(session: Session) -> int:
    """Changes with what is read of the collection, not with images added by hand."""
    return session.collection.version - session.collection.n_added


def read_images(session: Session) -> tuple[int, ...]:
    """The images of the collection as it was read; empty for all of them."""
    n_added = session.collection.n_added
    return tuple(range(len(session.collection) - n_added)) if n_added else ()


def summary(label: Label) -> dict[str, Any]:
    """A label as the grid of heads shows it."""
    return {"label": label.name, "texts": list(label.texts), "p": label.p_value}


def labelling(reference: weakref.ref[Session]) -> Iterator[None]:
    """Label every head behind everything else, then tell the panels; holds nothing of the session while it waits."""
    session = reference()
    version = None if session is None else read_version(session)
    heads = [] if session is None else session.heads
    encoding = iter(()) if session is None else session.encoding()
    del session
    for _ in told(reference, encoding):
        yield
    work = Work("Labelling the heads", len(heads))
    for place, at in enumerate(told(reference, heads)):
        session = reference()
        if session is None or read_version(session) != version:
            return
        session.labelling = work
        work.resume()
        known = session.known_labels()
        steps = iter(()) if at in known else label_into(known, session, at, read_images(session))
        del session
        for _ in sparing(steps):  # what was done of a head stays while a click is answered
            work.reached(place)
            yield
            work.resume()
        work.reached(place + 1)
        yield
    session = reference()
    if session is not None:
        session.refresh()


def told(reference: weakref.ref[Session], steps: Iterable[Any]) -> Iterator[Any]:
    """The steps; about every second the panels are asked to say how far they are."""
    last = time.monotonic()
    for step in steps:
        yield step
        session = reference()
        if session is not None and time.monotonic() - last > 1.0:
            last = time.monotonic()
            session.refresh()
        del session


def to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
