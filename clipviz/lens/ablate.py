"""Ablation of direct effects, computed linearly without re-running the model (thesis 2.3, App. A.2).

Removing a set S of terms changes the embedding by a known vector:
    rep' = rep - sum_S (c - mean c)   (how="mean": every term is replaced by its mean over a collection)
    rep' = rep - sum_S c              (how="zero")
Terms are heads, whole attention layers, MLPs (0 = the input term, the last the readout's tail where it has one) and
tokens; a token's terms are c_{i,l,h} (Eq. 2.6) summed over every layer and head that is not already removed whole,
so nothing is removed twice.
The final LayerNorm's statistics stay those of the unablated image, as in the thesis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipviz.lens import headset
from clipviz.lens.decompose import check_layers, head_basis, path_codes
from clipviz.lens.trace import Trace
from clipviz.values import Ablation, Codes, Head, HeadBasis

IMAGES_AT_ONCE = 4096
TRIES = 10  # attempts per draw that differs from the previous ones
CLASSIFIED_AT_ONCE = 1024  # images whose logits stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Terms:
    """A collection in the form that ablations need: codes for heads and layers, optionally MLP effects and tokens.

    mlp_effects: [image, 1 + layer, d_embed], the readout's tail last; token_codes: [image, layer, head, d_head], the
    part of the head codes that comes from `tokens` (of the n_tokens the tower has). Either is None when it was not
    kept. whole: mlp_effects and the kept heads add up to the embedding (see with_rest).
    """

    codes: Codes
    basis: HeadBasis
    mlp_effects: Tensor | None = None
    token_codes: Tensor | None = None
    tokens: frozenset[int] = frozenset()
    n_tokens: int = 1
    whole: bool = False

    @property
    def embedding(self) -> Float[Tensor, "image d_embed"]:
        """The unablated, unnormalised embedding."""
        return headset.as_float(self.codes.embedding)

    def select(self, images: Tensor | Sequence[int] | slice) -> Terms:
        """Return the same terms for some of the images; a slice is not copied."""
        index = images if isinstance(images, slice) else torch.as_tensor(images)
        return dataclasses.replace(
            self,
            codes=self.codes.to()[index],
            mlp_effects=None if self.mlp_effects is None else self.mlp_effects[index],
            token_codes=None if self.token_codes is None else self.token_codes[index],
        )


@dataclass(frozen=True, eq=False)
class Means:
    """The means used by mean-ablation: the average of every term over some collection.

    codes: [layer, head, d_head + 2] mean augmented code; mlp_effects: [1 + layer, d_embed]; token_codes: [layer,
    head, d_head + 2]. n_images is the number of images averaged.
    """

    codes: Tensor
    mlp_effects: Tensor | None
    token_codes: Tensor | None
    n_images: int


def terms_of(trace: Trace, layers: Sequence[int] | None = None, tokens: Iterable[int] = ()) -> Terms:
    """Return what ablations need of a trace.

    Args:
        trace: The forward pass of some images; with tokens if any may be removed later.
        layers: Layers whose head codes are kept. None keeps all.
        tokens: Indices of the tokens that may be removed later, (0,) for the class token attending to itself.

    Returns:
        Codes of the chosen layers, all MLP effects, and the codes of the tokens.
    """
    layers = check_layers(trace.weights, layers)
    tokens = frozenset(int(token) for token in tokens)
    return Terms(
        codes=trace.to_codes(layers),
        basis=head_basis(trace.weights, layers),
        mlp_effects=trace.mlp_effects(),
        token_codes=token_codes(trace, tokens, layers) if tokens else None,
        tokens=tokens,
        n_tokens=trace.weights.n_tokens,
    )


def token_codes(
    trace: Trace, tokens: Iterable[int], layers: Sequence[int] | None = None
) -> Float[Tensor, "image layer head d_code"]:
    """Return the part of every head code that comes from some tokens: sum over i in tokens of a_i (W_V z_i + b_V).

    Args:
        trace: The forward pass of some images, with tokens.
        tokens: Indices of tokens, 0 for the class token.
        layers: Layers whose codes are returned. None takes all.

    Returns:
        [image, layer, head, d_code]. Tallies, which belong to no token, are shared equally over all of them.

    Raises:
        ValueError: The trace kept no tokens, or an index is unknown.
    """
    if trace.tokens is None or trace.paths is None:
        raise ValueError(
            "ablating tokens needs the token inputs, but this trace was taken with tokens=False; "
            "trace the images again with model.trace(images)"
        )
    index, tower = sorted(tokens), trace.weights
    n_tokens = trace.paths.shape[-1]
    if not index or not 0 <= index[0] <= index[-1] < n_tokens:
        raise ValueError(f"expected token indices within 0..{n_tokens - 1} (0 = class token), got {index}")
    parts = []
    for layer in check_layers(tower, layers):
        values = path_codes(
            trace.tokens[layer][:, index], trace.paths[:, layer][..., index], tower.layers[layer]
        )
        tallies = trace.codes[:, layer, :, values.shape[-1] :] * (len(index) / n_tokens)
        parts.append(torch.cat([values, tallies], -1))
    return torch.stack(parts, 1)


def join(parts: Sequence[Terms]) -> Terms:
    """Return the terms of batches of images as one collection.

    Raises:
        ValueError: There is no batch, or they keep different layers or tokens.
    """
    if not parts:
        raise ValueError("expected the terms of at least one batch, got none")
    first = parts[0]
    if any(part.codes.layers != first.codes.layers or part.tokens != first.tokens for part in parts):
        raise ValueError(
            "expected batches that keep the same layers and tokens; make each with the same terms_of"
        )

    def joined(name: str) -> Tensor | None:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else torch.cat(arrays)

    def stacked(name: str) -> Tensor:
        return torch.cat([torch.as_tensor(getattr(part.codes, name)) for part in parts])

    codes = Codes(stacked("codes"), stacked("mean"), stacked("std"), stacked("embedding"), first.codes.layers)
    return dataclasses.replace(
        first, codes=codes, mlp_effects=joined("mlp_effects"), token_codes=joined("token_codes")
    )


def means_of(terms: Terms) -> Means:
    """Return the mean of every term over the collection, for mean-ablation of this or another collection."""
    codes = terms.codes
    inverse = 1 / headset.as_float(codes.std)
    statistics = torch.stack([inverse.mean(), (headset.as_float(codes.mean) * inverse).mean()])

    def augmented(array: Tensor, share: float) -> Tensor:
        pieces = zip(array.split(IMAGES_AT_ONCE), inverse.split(IMAGES_AT_ONCE), strict=True)
        sums = [torch.einsum("ilhe,i->lhe", headset.as_float(part), weights) for part, weights in pieces]
        scaled = torch.stack(sums).sum(0) / len(inverse)
        return torch.cat([scaled, (share * statistics).expand(*scaled.shape[:2], 2)], -1)

    share = len(terms.tokens) / terms.n_tokens
    return Means(
        codes=augmented(torch.as_tensor(codes.codes), 1.0),
        mlp_effects=None if terms.mlp_effects is None else terms.mlp_effects.mean(0),
        token_codes=None if terms.token_codes is None else augmented(terms.token_codes, share),
        n_images=len(inverse),
    )


def mean_effects(means: Means, basis: HeadBasis, heads: Sequence[Head]) -> Float[Tensor, "head d_embed"]:
    """Return the effect that mean-ablation substitutes for each head: its average over the collection of the means.

    Args:
        means: The means of a collection.
        basis: The basis of the heads' layers.
        heads: (layer, head) pairs.

    Returns:
        [head, d_embed], in unnormalised embedding units.
    """
    rows = [
        means.codes[basis.layers.index(layer), head].to(basis.basis) @ headset.set_map(basis, [(layer, head)])
        for layer, head in heads
    ]
    return torch.stack(rows) + headset.as_float(basis.constant)


def with_rest(terms: Terms) -> Terms:
    """Return the same terms with everything that is not a kept head as one further term, named by mlps={0}.

    rest = rep - sum of the kept heads' effects: the input term and all MLPs together, and also the attention of
    layers that the codes do not keep.
    """
    heads = headset.all_heads(terms.codes)
    parts = [
        part.embedding - headset.summed_effects(part.codes, terms.basis, heads)
        for _, part in _in_parts(terms)
    ]
    return dataclasses.replace(terms, mlp_effects=torch.cat(parts)[:, None], whole=True)


def predict_after(
    terms: Terms,
    ablation: Ablation,
    directions: Float[Tensor, "text d_embed"],
    means: Means | None = None,
    logits: Float[Tensor, "image text"] | None = None,
) -> Int[Tensor, " image"]:
    """Return the text of highest <rep', t> for every image: zero-shot classification after an ablation.

    The heads cost one product [image, |S| d_head] x [|S| d_head, text] and no embedding is formed; nothing of size
    image x text is kept. If most heads are removed (and the terms are `whole`), the remaining heads are summed instead.

    Args:
        terms: The collection.
        ablation: Heads, layers and MLPs to remove.
        directions: Text directions, [text, d_embed].
        means: Where the means come from. None takes the collection itself.
        logits: The unablated <rep, t>, [image, text], where they are already known.

    Returns:
        [image], indices of texts.

    Raises:
        ValueError: The ablation removes tokens.
    """
    if ablation.tokens:
        raise ValueError("tokens cannot be removed here, only heads, layers and MLPs; use embedding_after")
    means = means_of(terms) if means is None and ablation.how == "mean" else means
    heads, directions = heads_of(terms.codes, ablation), directions.to(terms.embedding)
    kept = [head for head in headset.all_heads(terms.codes) if head not in set(heads)]
    d_head, d_embed = terms.codes.codes.shape[3], directions.shape[1]
    if terms.whole and len(heads) * d_head > len(kept) * d_head + (0 if ablation.mlps else d_embed):
        return _predict_from_kept(terms, ablation, heads, kept, directions, means)
    shift = directions.new_zeros(len(directions))
    if heads:
        reader = headset.set_map(terms.basis, heads) @ directions.T
        shift = _shift_of(terms, heads, ablation.how, means, reader, directions)
    predicted = []
    for part, rows, codes in _coded(terms, heads):
        after = part.embedding @ directions.T if logits is None else logits[rows]
        after = torch.addmm(after, codes, reader, alpha=-1) if heads else after
        if ablation.mlps:
            after = after - _mlp_part(part, ablation, means) @ directions.T
        predicted.append(after.sub_(shift).argmax(1) if heads else after.argmax(1))
    return torch.cat(predicted)


def _predict_from_kept(
    terms: Terms,
    ablation: Ablation,
    heads: list[Head],
    kept: list[Head],
    directions: Tensor,
    means: Means | None,
) -> Int[Tensor, " image"]:
    """Return the same prediction from the remaining heads: rep' = rest' + their sum (+ the removed ones' means)."""
    constant = directions @ headset.as_float(terms.basis.constant)
    level = len(kept) * constant
    if ablation.how == "mean":
        assert means is not None
        mean = _mean_code(means.codes, terms.codes, heads).to(directions) @ headset.set_map(
            terms.basis, heads
        )
        level = level + mean @ directions.T + len(heads) * constant
    reader = headset.set_map(terms.basis, kept) @ directions.T if kept else None
    predicted = []
    for part, _, codes in _coded(terms, kept):
        assert part.mlp_effects is not None
        rest = part.mlp_effects[:, 0]
        rest = rest - _mlp_part(part, ablation, means) if ablation.mlps else rest
        # one for all: the mean, or 0
        base = rest[:1] @ directions.T if ablation.mlps else rest @ directions.T
        after = (base + level).expand(len(rest), -1)
        predicted.append((after if reader is None else torch.addmm(after, codes, reader)).argmax(1))
    return torch.cat(predicted)


def embedding_after(
    terms: Terms, ablation: Ablation, means: Means | None = None
) -> Float[Tensor, "image d_embed"]:
    """Return the embedding after an ablation: rep' = rep - sum_S (c - mean c), or rep - sum_S c for how="zero".

    One product [image, |S| d_head] x [|S| d_head, d_embed] for the heads.

    Args:
        terms: The collection.
        ablation: What is removed, and how.
        means: Where the means come from. None takes the collection itself.

    Returns:
        [image, d_embed], unnormalised.
    """
    removed = removed_effects(terms, ablation, means)
    return terms.embedding.clone() if removed is None else terms.embedding - removed


def removed_effects(
    terms: Terms, ablation: Ablation, means: Means | None = None
) -> Float[Tensor, "image d_embed"] | None:
    """Return what an ablation subtracts from the embedding.

    Args:
        terms: The collection.
        ablation: What is removed, and how.
        means: Where the means come from. None takes the collection itself.

    Returns:
        [image, d_embed], or None for the empty ablation.
    """
    if means is None and ablation.how == "mean":
        means = means_of(terms)
    heads = heads_of(terms.codes, ablation)
    parts = []
    if heads:
        parts.append(_head_part(terms, heads, ablation.how, means))
    if ablation.mlps:
        parts.append(_mlp_part(terms, ablation, means))
    if ablation.tokens:
        rest = [head for head in headset.all_heads(terms.codes) if head not in set(heads)]
        _check_tokens(terms, ablation)
        if rest:
            parts.append(token_part(terms, rest, ablation.how, means))
    return sum(parts[1:], parts[0]) if parts else None


def heads_of(codes: Codes, ablation: Ablation) -> list[Head]:
    """Return every head that an ablation removes entirely.

    Args:
        codes: A collection's codes, which must keep these heads.
        ablation: What is removed.

    Returns:
        Its heads and all heads of its layers as (layer, head), in order.
    """
    n_heads = codes.codes.shape[2]
    heads = set(ablation.heads) | {(layer, head) for layer in ablation.layers for head in range(n_heads)}
    headset.head_positions(codes, heads)
    return sorted(heads)


def accumulated(layers: Sequence[int], mlps: Iterable[int] = ()) -> list[Ablation]:
    """Return the ablations of Figure 2.2: nothing, then the first layer's attention, the first two, ... and all.

    Args:
        layers: Layers in the order of their ablation.
        mlps: MLP terms that are ablated in every step.

    Returns:
        len(layers) + 1 ablations.
    """
    layers = list(layers)
    return [
        Ablation(layers=frozenset(layers[:count]), mlps=frozenset(mlps)) for count in range(len(layers) + 1)
    ]


def isolated(layers: Sequence[int]) -> list[Ablation]:
    """Return one ablation per layer: its attention alone."""
    return [Ablation(layers=frozenset({layer})) for layer in layers]


def all_mlps(n_mlp_terms: int, tokens: Iterable[int] = ()) -> Ablation:
    """Return the ablation of Tables 2.1 and A.1: the input term and all MLPs.

    The MLP after an attention pool is among them, so that only what heads write to the embedding directly is left,
    without their effect through that MLP.

    Args:
        n_mlp_terms: TowerWeights.n_mlp_terms.
        tokens: Tokens to remove as well (0 = the class token).

    Returns:
        One ablation.
    """
    return Ablation(mlps=frozenset(range(n_mlp_terms)), tokens=frozenset(tokens))


def random_heads(
    n_chosen: int,
    heads: Sequence[Head],
    n_draws: int = 5,
    seed: int = 0,
    how: Literal["mean", "zero"] = "mean",
) -> list[Ablation]:
    """Return the baseline of Table 2.3: sets of random heads, each drawn without replacement.

    Args:
        n_chosen: Heads per set.
        heads: The heads to draw from, such as headset.all_heads(codes).
        n_draws: The number of sets.
        seed: Seed of the draws.
        how: "mean" or "zero".

    Returns:
        One ablation per set.

    Raises:
        ValueError: There are fewer than n_chosen heads.
    """
    if not 0 <= n_chosen <= len(heads):
        raise ValueError(f"expected n_chosen within 0..{len(heads)} (the heads to draw from), got {n_chosen}")
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randperm(len(heads), generator=generator)[:n_chosen].tolist() for _ in range(n_draws)]
    return [Ablation(heads=frozenset(heads[i] for i in draw), how=how) for draw in draws]


def matched_heads(
    removed: Collection[Head],
    heads: Sequence[Head],
    n_draws: int = 20,
    seed: int = 0,
    how: Literal["mean", "zero"] = "mean",
    only_others: bool = True,
) -> list[Ablation]:
    """Return a null for removing some heads: draws of equally many other heads, from the same layers where possible.

    If a layer has too few other heads, the nearest layers fill in; of two equally near layers, the later one. Heads of
    one layer have effects of similar size, heads of different layers do not. A draw that contained the removed heads
    would repeat part of what it is compared with.

    Args:
        removed: The heads whose removal is judged.
        heads: The heads to draw from.
        n_draws: The number of draws.
        seed: Seed of the draws.
        how: "mean" or "zero".
        only_others: False also draws removed heads, a stricter null if these are most of a layer.

    Returns:
        Different sets, which may be fewer than n_draws; none if there are fewer other heads than removed ones.
    """
    others = sorted(set(heads) - set(removed) if only_others else set(heads))
    if len(others) < len(removed):
        return []
    generator = torch.Generator().manual_seed(seed)
    draws: dict[frozenset[Head], None] = {}
    for _ in range(TRIES * n_draws if removed else 0):
        if len(draws) == n_draws:
            break
        order = torch.randperm(len(others), generator=generator).tolist()
        draws[frozenset(_matched(removed, [others[i] for i in order]))] = None
    return [Ablation(heads=draw, how=how) for draw in draws]


def _matched(removed: Collection[Head], others: list[Head]) -> list[Head]:
    """Return one of `others` for each removed head, from the nearest layer possible; earlier entries are preferred."""
    wanting, free, found = [layer for layer, _ in sorted(removed)], others.copy(), []
    last = max(layer for layer, _ in [*removed, *others])
    for distance in (place for reach in range(last + 1) for place in ((reach, -reach) if reach else (0,))):
        for layer in tuple(wanting):
            near = next((head for head in free if head[0] == layer + distance), None)
            if near is not None:
                wanting.remove(layer)
                free.remove(near)
                found.append(near)
    return found


def _coded(terms: Terms, heads: list[Head]) -> Iterator[tuple[Terms, slice, Tensor]]:
    """Yield a few images at a time, uncopied, with set_codes of the heads, written into the same array each time."""
    positions = headset.head_positions(terms.codes, heads)
    layers, places = [layer for layer, _ in positions], [head for _, head in positions]
    n_images, d_head = len(terms.codes.mean), terms.codes.codes.shape[3]
    at_once = min(CLASSIFIED_AT_ONCE, n_images)
    whole = terms.embedding.new_empty(at_once, len(heads) * d_head + 2)
    for start in range(0, n_images, at_once):
        rows = slice(start, start + at_once)
        part = terms.select(rows)
        codes = whole[: len(part.codes.mean)]
        inverse = 1 / headset.as_float(part.codes.std)
        if heads:
            codes[:, :-2] = part.codes.codes[:, layers, places].flatten(1)
            codes[:, :-2] *= inverse[:, None]
        codes[:, -2], codes[:, -1] = inverse, headset.as_float(part.codes.mean) * inverse
        yield part, rows, codes


def _in_parts(terms: Terms) -> Iterator[tuple[int, Terms]]:
    """Yield a few thousand images at a time, uncopied, with the index of the first."""
    for start in range(0, len(terms.codes.mean), IMAGES_AT_ONCE):
        yield start, terms.select(slice(start, start + IMAGES_AT_ONCE))


def _shift_of(
    terms: Terms, heads: list[Head], how: str, means: Means | None, reader: Tensor, directions: Tensor
) -> Float[Tensor, " text"]:
    """Return the part of the heads' removal that is subtracted from every image's logits alike."""
    if how == "zero":
        return len(heads) * directions @ headset.as_float(terms.basis.constant)
    assert means is not None
    return -_mean_code(means.codes, terms.codes, heads).to(reader) @ reader


def _head_part(terms: Terms, heads: list[Head], how: str, means: Means | None) -> Tensor:
    codes, linear = headset.set_codes(terms.codes, heads), headset.set_map(terms.basis, heads)
    if how == "zero":
        return codes @ linear + len(heads) * headset.as_float(terms.basis.constant)
    assert means is not None
    return codes @ linear - _mean_code(means.codes, terms.codes, heads).to(codes) @ linear


def token_part(
    terms: Terms, heads: list[Head], how: str, means: Means | None
) -> Float[Tensor, "image d_embed"]:
    """Return the sum of what the tokens write through some heads, minus its mean if how="mean".

    Tokens have their share |tokens| / n_tokens of every head's biases and LayerNorm shares.

    Args:
        terms: A collection with token codes.
        heads: (layer, head) pairs.
        how: "mean" or "zero".
        means: The means of a collection, for how="mean".

    Returns:
        [image, d_embed], in unnormalised embedding units.

    Raises:
        ValueError: The means have no tokens.
    """
    share = len(terms.tokens) / terms.n_tokens
    assert terms.token_codes is not None
    token_terms = dataclasses.replace(terms.codes, codes=terms.token_codes)
    codes = headset.set_codes(token_terms, heads)
    linear = headset.set_map(terms.basis, heads)
    codes[:, -2:] *= share
    if how == "zero":
        return codes @ linear + share * len(heads) * headset.as_float(terms.basis.constant)
    assert means is not None
    if means.token_codes is None:
        raise ValueError(
            "expected means that include the tokens' codes; take them with terms_of(..., tokens=...)"
        )
    return codes @ linear - _mean_code(means.token_codes, terms.codes, heads).to(codes) @ linear


def _mlp_part(terms: Terms, ablation: Ablation, means: Means | None) -> Tensor:
    if terms.mlp_effects is None:
        raise ValueError(
            f"ablating MLPs {sorted(ablation.mlps)} needs their effects, but these terms kept heads only; "
            "trace the images and take terms_of(trace)"
        )
    n_terms = terms.mlp_effects.shape[1]
    index = sorted(ablation.mlps)
    if not 0 <= index[0] <= index[-1] < n_terms:
        raise ValueError(
            f"expected MLP terms within 0..{n_terms - 1} (0 = the input term, 1 + layer = an MLP), got {index}"
        )
    effects = terms.mlp_effects[:, index].sum(1)
    if ablation.how == "zero":
        return effects
    if means is None or means.mlp_effects is None:
        raise ValueError("expected means that include the MLPs; take them from terms that kept MLP effects")
    return effects - means.mlp_effects[index].sum(0).to(effects)


def _check_tokens(terms: Terms, ablation: Ablation) -> None:
    if terms.token_codes is None or ablation.tokens != terms.tokens:
        raise ValueError(
            f"ablating tokens {sorted(ablation.tokens)} needs their codes, but these terms kept "
            f"{sorted(terms.tokens) or 'none'}; trace the images and take terms_of(trace, tokens=...)"
        )


def _mean_code(means: Tensor, codes: Codes, heads: list[Head]) -> Float[Tensor, " code"]:
    """Return the mean of set_codes; the two shared columns are the same for every head."""
    positions = headset.head_positions(codes, heads)
    rows = means[[layer for layer, _ in positions], [head for _, head in positions]]
    return torch.cat([rows[:, :-2].flatten(), rows[0, -2:]])
