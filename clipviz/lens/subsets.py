"""The exact ablation of ANY set of heads of one image from a few small arrays, as the browser needs it.

With d_j = c_j - mean c_j (how="mean") or c_j (how="zero") and s a 0/1 vector over the removed terms j:
    logits'      = logits - s @ term_logits                       logits_t = <rep, t>,  term_logits_jt = <d_j, t>
    |rep'|^2     = squared_norm - 2 s . cross + s . (gram @ s)     cross_j = <d_j, rep>,  gram_jk = <d_j, d_k>
    cosine'      = logits' / |rep'|                               (directions of unit length)
    <rep', rep>  = squared_norm - s . cross
Toggling one term k updates logits' by -/+ term_logits[k], and |rep'|^2 by a row of the Gram: no message to the
kernel, no re-run of the model, no approximation (thesis 2.3, Table 2.1 and 2.3 for one image).

If tokens are removed from the start (Table A.1), rep and every c_j are computed from the remaining tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens import headset
from clipviz.lens.ablate import Means, Terms, embedding_after, means_of, token_part
from clipviz.values import Ablation, Head


@dataclass(frozen=True, eq=False)
class SubsetLogits:
    """The arrays of one image's ablation desk; the module has the formulas. Rows are the heads, then the MLP terms.

    heads: (layer, head) of the first rows; mlps: the MLP terms of the others (0 = input, 1 + layer = MLP).
    """

    heads: tuple[Head, ...]
    mlps: tuple[int, ...]
    logits: Tensor  # [text], <rep, t>, unablated
    term_logits: Tensor  # [term, text]
    gram: Tensor  # [term, term]
    cross: Tensor  # [term]
    squared_norm: Tensor  # scalar, |rep|^2
    how: Literal["mean", "zero"] = "mean"

    @property
    def n_terms(self) -> int:
        return len(self.heads) + len(self.mlps)

    def indicator(self, ablation: Ablation) -> Float[Tensor, " term"]:
        """Return s: 1 for every term that the ablation removes.

        Raises:
            ValueError: A term is not on this desk.
        """
        if ablation.tokens:
            raise ValueError(
                "tokens cannot be toggled here, only heads, layers and MLPs; use embedding_after"
            )
        heads = set(ablation.heads) | {head for head in self.heads if head[0] in ablation.layers}
        missing: list[object] = [
            *sorted(heads - set(self.heads)),
            *sorted(set(ablation.mlps) - set(self.mlps)),
        ]
        missing += sorted(set(ablation.layers) - {layer for layer, _ in self.heads})
        if missing:
            raise ValueError(
                f"terms {missing} are not on this desk; it has {list(self.heads)} and {self.mlps}"
            )
        out = [head in heads for head in self.heads] + [mlp in ablation.mlps for mlp in self.mlps]
        return torch.tensor(out).to(self.cross)

    def after(self, ablation: Ablation) -> tuple[Float[Tensor, " text"], Float[Tensor, ""]]:
        """Return the logits <rep', t> and the length |rep'| after the ablation; their ratio is the cosine."""
        out = self.indicator(ablation)
        squared = self.squared_norm - 2 * out @ self.cross + out @ self.gram @ out
        return self.logits - out @ self.term_logits, squared.clamp_min(0).sqrt()


def subset_logits(
    terms: Terms,
    image: int,
    directions: Float[Tensor, "text d_embed"],
    heads: Iterable[Head] | None = None,
    mlps: Sequence[int] = (),
    means: Means | None = None,
    how: Literal["mean", "zero"] = "mean",
) -> SubsetLogits:
    """Return the ablation desk of one image for a set of texts (classes, or one query).

    Args:
        terms: The collection.
        image: Index of the image.
        directions: Usually unit text vectors, [text, d_embed].
        heads: The heads that can be toggled. None takes all that the codes keep.
        mlps: The MLP terms that can be toggled (0 = input, 1 + layer = MLP).
        means: Where the means come from. None takes the collection; pass them once for many images.
        how: "mean" or "zero".

    Returns:
        The arrays of the desk.
    """
    heads = headset.all_heads(terms.codes) if heads is None else list(heads)
    means = means_of(terms) if means is None else means
    rows = [term_effects(terms, image, heads, means, how)]
    if mlps:
        rows.append(_mlp_rows(terms, image, mlps, means, how))
    return _desk(heads, mlps, terms.embedding[image], torch.cat(rows), directions, how)


def subset_logits_apart(
    terms: Terms,
    image: int,
    directions: Float[Tensor, "text d_embed"],
    layers: Sequence[int],
    means: Means,
    how: Literal["mean", "zero"] = "mean",
    without_tokens: bool = False,
) -> SubsetLogits:
    """Return the desk with every MLP term separate: the heads of `layers`, everything else as one term, then each MLP.

    Row mlps=0 is everything that is not a head of `layers`, row mlps=1 + i the MLP term i, which is part of the former,
    so remove only one of the two.

    Args:
        terms: Terms of every layer, with MLPs.
        image: Index of the image.
        directions: [text, d_embed].
        layers: Layers whose heads can be toggled.
        means: Where the means come from.
        how: "mean" or "zero".
        without_tokens: Remove the tokens that the terms kept.

    Returns:
        The arrays of the desk.
    """
    terms = terms.select(slice(image, image + 1))
    heads = headset.all_heads(terms.codes)
    rows = term_effects(terms, 0, heads, means, how)
    embedding = terms.embedding[0]
    if without_tokens:
        embedding = embedding_after(terms, Ablation(tokens=terms.tokens, how=how), means)[0]
        rows = rows - torch.cat([token_part(terms, [head], how, means) for head in heads])
    mlps = range(means.mlp_effects.shape[0]) if means.mlp_effects is not None else ()
    apart = _mlp_rows(terms, 0, mlps, means, how)
    own = torch.tensor([layer in layers for layer, _ in heads], device=rows.device)
    rest = apart.sum(0) + rows[~own].sum(0)
    return _desk(
        [head for head in heads if head[0] in layers],
        range(len(mlps) + 1),
        embedding,
        torch.cat([rows[own], rest[None], apart]),
        directions,
        how,
    )


def _desk(
    heads: Sequence[Head],
    mlps: Sequence[int],
    embedding: Tensor,
    effects: Tensor,
    directions: Tensor,
    how: Literal["mean", "zero"],
) -> SubsetLogits:
    directions = directions.to(embedding)
    return SubsetLogits(
        heads=tuple(heads),
        mlps=tuple(mlps),
        logits=directions @ embedding,
        term_logits=effects @ directions.T,
        gram=effects @ effects.T,
        cross=effects @ embedding,
        squared_norm=embedding @ embedding,
        how=how,
    )


def term_effects(
    terms: Terms, image: int, heads: Sequence[Head], means: Means, how: Literal["mean", "zero"]
) -> Float[Tensor, "head_all d_embed"]:
    """Return d_j of one image's heads: the effect; if how="mean", minus its mean.

    Args:
        terms: The collection.
        image: Index of the image.
        heads: (layer, head) pairs.
        means: The means of a collection.
        how: "mean" or "zero".

    Returns:
        [head, d_embed], in unnormalised embedding units.
    """
    positions = headset.head_positions(terms.codes, heads)
    codes, basis = terms.codes, terms.basis
    inverse = 1 / headset.as_float(codes.std)[image]
    chosen = headset.gather_heads(torch.as_tensor(codes.codes)[image : image + 1], positions)[0]
    shared = torch.stack([inverse, headset.as_float(codes.mean)[image] * inverse])
    augmented = torch.cat([chosen * inverse, shared.expand(len(positions), 2)], 1)
    if how == "mean":
        rows = means.codes[[layer for layer, _ in positions], [head for _, head in positions]]
        augmented = augmented - rows.to(augmented)
    layers = [basis.layers.index(layer) for layer, _ in heads]
    linear = headset.as_float(basis.basis)[layers, [head for _, head in heads]]
    effects = torch.einsum("he,hed->hd", augmented[:, :-2], linear)
    effects = effects + augmented[:, -2, None] * headset.as_float(basis.output_bias)[layers]
    effects = effects - augmented[:, -1, None] * headset.as_float(basis.mean_share)
    return effects if how == "mean" else effects + headset.as_float(basis.constant)


def _mlp_rows(terms: Terms, image: int, mlps: Sequence[int], means: Means, how: str) -> Tensor:
    if terms.mlp_effects is None or means.mlp_effects is None:
        raise ValueError("toggling MLPs needs their effects; take the terms with terms_of(trace)")
    rows = terms.mlp_effects[image, list(mlps)]
    return rows - means.mlp_effects[list(mlps)].to(rows) if how == "mean" else rows
