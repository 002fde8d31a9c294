"""What heads write: their effects on one image, their texts over the collection, and the label that these give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipviz.data.texts import broad
from clipviz.lens import roles
from clipviz.lens import textspan as lens
from clipviz.lens.heatmap import one_placeless

if TYPE_CHECKING:
    from clipviz.session.core import Session


class HeadScores(NamedTuple):
    """Direct effects on a text's cosine for one image: heads [layer, head], mlps [1 + layer], their sum."""

    heads: np.ndarray
    mlps: np.ndarray
    cosine: float


class TokenMaps(NamedTuple):
    """Direct effects of every token through every head on a text's cosine: scores [layer, head, token].

    Token 0 is the class token: all tokens without a place together, 0 where there is none.
    """

    scores: np.ndarray
    cosine: float


class Description(NamedTuple):
    """TextSpan of one head: texts and families chosen, the share of variance that each adds, and the null's.

    order: [n] indices into the pool; gains: [n]; null_gains: [draw, n], the same search when the head's data are
    randomly rotated inside its span; null_order: [draw, n].
    """

    texts: tuple[str, ...]
    families: tuple[str | None, ...]
    order: np.ndarray
    gains: np.ndarray
    null_gains: np.ndarray
    null_order: np.ndarray


class Label(NamedTuple):
    """What a head's first texts have in common, and why that is (not) said."""

    name: str
    why: str


def head_scores(session: Session, text: str, image: int) -> HeadScores:
    trace, direction = session.trace(image), session.direction(text)
    heads = trace.head_effects(normalize=True)[0] @ direction
    mlps = trace.mlp_effects(normalize=True)[0] @ direction
    cosine = float(trace.embedding[0] @ direction / trace.norm[0])
    return HeadScores(to_numpy(heads), to_numpy(mlps), cosine)


def token_maps(session: Session, text: str, image: int) -> TokenMaps:
    trace, direction = session.trace(image), session.direction(text)
    scores = trace.token_scores(direction[None], normalize=True)[0, 0]
    scores = one_placeless(scores, session.model.weights.prefix)
    return TokenMaps(to_numpy(scores), float(trace.embedding[0] @ direction / trace.norm[0]))


def attention(session: Session, image: int) -> np.ndarray:
    found = session.trace(image).attention
    assert found is not None
    return to_numpy(one_placeless(found[0], session.model.weights.prefix))


def variance_shares(session: Session, images: Sequence[int]) -> np.ndarray:
    variance = torch.diagonal(session.span(images)[0], dim1=1, dim2=2).sum(-1)
    return to_numpy((variance / variance.sum()).reshape(len(session.collection.layers), -1))


def describe(
    session: Session, layer: int, head: int, n_texts: int, images: Sequence[int], n_draws: int
) -> Description:
    covariance, span = session.span(images)
    at = session.collection.layer_index(layer) * session.model.n_heads + head
    covariance, span, pool = covariance[at : at + 1], span[at : at + 1], session.pool()
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
    )


def label(session: Session, described: Description, n_texts: int) -> Label:
    families = [broad(family) for family in session.texts.families]
    role = roles.role_of(described.order.tolist(), described.null_order.tolist(), families, n_texts)
    return Label(role.label, role.why)


def summaries(session: Session, n_texts: int) -> dict[str, dict[str, Any]]:
    found = {}
    for layer in session.collection.layers:
        for head in range(session.model.n_heads):
            described = session.textspan(layer, head, n_texts)
            name = session.label(layer, head).name
            found[f"{layer},{head}"] = {"label": name, "texts": list(described.texts)}
    return found


def to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
