"""Sparse text codes of directions by orthogonal matching pursuit, all neurons at once (thesis 3.4).

r_n ~ sum_j gamma_j t_j with few non-zero gamma_j. A round picks for every direction the text most aligned with
what is left, then refits. The residual is kept in embedding space and orthonormalised, so that a round is ONE
product [neuron, d_embed] x [d_embed, text] for all neurons: the dictionary's Gram [text, text], of rank
d_embed, is never formed, and no per-neuron copy of it exists.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipviz.values import SparseCode

CODE_SIZES = (4, 8, 16, 32, 64, 128)  # m, texts per neuron (thesis Fig. 3.4)
CHUNK_ENTRIES = 1 << 23  # correlations [neuron, text] held at a time


def code_size(d_embed: int) -> int:
    """Return m of the thesis, 128 texts, for embeddings of at least 512; for narrower ones, a quarter of the width."""
    return min(CODE_SIZES[-1], max(1, d_embed // 4))


def prepare_dictionary(
    text_directions: Float[Tensor, "text d_embed"],
    centre: bool = True,
    scale: str = "rows",
) -> Float[Tensor, "text d_embed"]:
    """Return a pool of text embeddings as a dictionary for `sparse_code`.

    Args:
        text_directions: [text, d_embed].
        centre: Subtract the pool's mean, the part that all texts share.
        scale: "rows" gives every text unit length (the pursuit then compares cosines); "columns" divides each
            coordinate by its norm over the pool, as in the published code, which favours texts that remain long;
            "none" keeps the lengths.

    Returns:
        [text, d_embed].

    Raises:
        ValueError: The shape or the scale is invalid.
    """
    if text_directions.ndim != 2 or len(text_directions) < 2:
        raise ValueError(
            f"expected a pool [text, d_embed] of at least two texts, got {list(text_directions.shape)}; "
            "encode it with model.encode_texts(texts)"
        )
    if scale not in ("rows", "columns", "none"):
        raise ValueError(
            f"expected scale 'rows', 'columns' or 'none', got {scale!r}; choose one of the three"
        )
    pool = text_directions - text_directions.mean(0) if centre else text_directions
    if scale == "none":
        return pool
    lengths = pool.norm(dim=1 if scale == "rows" else 0, keepdim=True)
    found: Tensor = pool / lengths.clamp_min(torch.finfo(pool.dtype).tiny)
    return found


def sparse_code(
    directions: Float[Tensor, "neuron d_embed"],
    dictionary: Float[Tensor, "text d_text"],
    n_nonzero: int,
) -> SparseCode:
    """Orthogonal matching pursuit of every direction over a dictionary (thesis 3.4).

    Selects the atoms of sklearn.linear_model.orthogonal_mp_gram (float64, generic inputs: no exact ties).

    Args:
        directions: Directions r_n of neurons, [neuron, d_embed], of any length.
        dictionary: Texts from `prepare_dictionary`, [text, d_embed], rows of any length.
        n_nonzero: Texts per neuron, at most.

    Returns:
        Atoms [neuron, n_nonzero], indices of texts in the order chosen, -1 once a direction is reproduced or no
        independent text is left; and signed weights [neuron, n_nonzero], so that weights[n] @ dictionary[atoms[n]] is
        the least-squares fit of r_n on those texts.

    Raises:
        ValueError: The widths differ, or n_nonzero is not within 1..texts.

    >>> codes = sparse_code(torch.tensor([[0.0, 2.0]]), torch.eye(2), n_nonzero=1)
    >>> codes.atoms.tolist(), codes.weights.tolist()
    ([[1]], [[2.0]])
    """
    return sparse_codes(directions, dictionary, [n_nonzero])[n_nonzero]


def sparse_codes(
    directions: Float[Tensor, "neuron d_embed"],
    dictionary: Float[Tensor, "text d_text"],
    sizes: Sequence[int],
) -> dict[int, SparseCode]:
    """Return `sparse_code` for several numbers of texts from one pursuit.

    Args:
        directions: Directions r_n of neurons, [neuron, d_embed].
        dictionary: Texts from `prepare_dictionary`, [text, d_embed].
        sizes: Texts per neuron, at most.

    Returns:
        Size -> code. A shorter code is a prefix of a longer one, refitted.
    """
    for n_nonzero in sizes:
        _check(directions, dictionary, n_nonzero)
    size = max(1, CHUNK_ENTRIES // len(dictionary))
    dictionary = dictionary.to(directions)
    parts = [_pursue(chunk, dictionary, sizes) for chunk in directions.split(size)]
    return {
        n_nonzero: SparseCode(
            *(torch.cat(both) for both in zip(*(part[n_nonzero] for part in parts), strict=True))
        )
        for n_nonzero in sizes
    }


def reconstruct(
    codes: SparseCode, dictionary: Float[Tensor, "text d_embed"], n_nonzero: int | None = None
) -> Float[Tensor, "neuron d_embed"]:
    """Return the directions that sparse codes stand for, weights[n] @ dictionary[atoms[n]].

    Args:
        codes: Codes of neurons.
        dictionary: The texts that they were built from, [text, d_embed].
        n_nonzero: Keep only the texts of largest |weight| (the code is not refitted). None keeps all.

    Returns:
        [neuron, d_embed].
    """
    weights = torch.where(codes.atoms >= 0, codes.weights, torch.zeros_like(codes.weights))
    if n_nonzero is not None and n_nonzero < weights.shape[1]:
        kept = weights.abs().topk(n_nonzero, dim=1).indices
        weights = torch.zeros_like(weights).scatter(1, kept, weights.gather(1, kept))
    return torch.einsum("nm,nmd->nd", weights, dictionary.to(weights)[codes.atoms.clamp_min(0)])


def dense_weights(codes: SparseCode, n_texts: int) -> Float[Tensor, "neuron text"]:
    """Return sparse codes as a dense matrix.

    Args:
        codes: Codes of neurons.
        n_texts: Size of the dictionary.

    Returns:
        gamma, [neuron, text].
    """
    weights = torch.where(codes.atoms >= 0, codes.weights, torch.zeros_like(codes.weights))
    dense = weights.new_zeros(len(weights), n_texts)
    return dense.scatter_add(1, codes.atoms.clamp_min(0), weights)


def _pursue(
    directions: Float[Tensor, "neuron d_embed"],
    dictionary: Float[Tensor, "text d_embed"],
    sizes: Sequence[int],
) -> dict[int, tuple[Int[Tensor, "neuron n_nonzero"], Float[Tensor, "neuron n_nonzero"]]]:
    n_nonzero = max(sizes)
    n_neurons, d_embed = directions.shape
    chosen = torch.full((n_neurons, n_nonzero), -1, dtype=torch.long, device=directions.device)
    basis = directions.new_zeros(n_neurons, n_nonzero, d_embed)
    triangle = torch.eye(n_nonzero).to(directions).repeat(n_neurons, 1, 1)
    heights = directions.new_zeros(n_neurons, n_nonzero)
    eps = torch.finfo(directions.dtype).eps
    scale = directions.norm(dim=1) * dictionary.norm(dim=1).max()
    residual, columns = directions.clone(), dictionary.T.contiguous()
    alive: Bool[Tensor, " neuron"] = torch.ones_like(heights[:, 0], dtype=torch.bool)
    for step in range(n_nonzero):
        correlations = (residual @ columns).abs_()
        if step:  # a chosen text is orthogonal to the residual, but rounding could select it again
            correlations.scatter_(1, chosen[:, :step].clamp_min(0), -1.0)
        best = correlations.argmax(1)
        atoms = dictionary[best]
        parts, rest = _orthogonal(atoms, basis[:, :step])
        length = rest.norm(dim=1)
        strength = correlations.gather(1, best[:, None])[:, 0]
        alive = alive & (strength > 16 * eps * scale) & (length > 16 * eps * atoms.norm(dim=1))
        if not alive.any():
            break
        unit = torch.where(alive[:, None], rest / length[:, None].clamp_min(eps), 0.0)
        triangle[:, step, :step] = torch.where(alive[:, None], parts, 0.0)
        triangle[:, step, step] = torch.where(alive, length, 1.0)
        basis[:, step] = unit
        heights[:, step] = torch.linalg.vecdot(unit, residual)
        residual = residual - heights[:, step, None] * unit
        chosen[:, step] = torch.where(alive, best, -1)
    found = {}
    for m in sizes:
        upper, atoms = triangle[:, :m, :m].transpose(1, 2), chosen[:, :m]
        weights = torch.linalg.solve_triangular(upper, heights[:, :m, None], upper=True)[..., 0]
        found[m] = atoms, torch.where(atoms >= 0, weights, 0.0)
    return found


def _orthogonal(
    atoms: Float[Tensor, "neuron d_embed"], basis: Float[Tensor, "neuron step d_embed"]
) -> tuple[Float[Tensor, "neuron step"], Float[Tensor, "neuron d_embed"]]:
    """Return atoms' coordinates in an orthonormal basis and the residual, by Gram-Schmidt applied twice."""
    parts, rest = atoms.new_zeros(basis.shape[:2]), atoms
    for _ in range(2):
        along = torch.einsum("nsd,nd->ns", basis, rest)
        rest = rest - torch.einsum("ns,nsd->nd", along, basis)
        parts = parts + along
    return parts, rest


def _check(directions: Tensor, dictionary: Tensor, n_nonzero: int) -> None:
    for name, given in (("directions", directions), ("a dictionary", dictionary)):
        if not isinstance(given, Tensor) or not given.is_floating_point():
            kind = getattr(given, "dtype", type(given).__name__)
            raise ValueError(
                f"expected {name} as a tensor of floating-point numbers, got {kind}; convert it with "
                "torch.as_tensor(...).float()"
            )
    if directions.ndim != 2 or dictionary.ndim != 2 or directions.shape[1] != dictionary.shape[1]:
        raise ValueError(
            f"expected directions [neuron, d_embed] and a dictionary [text, d_embed] of one width, got "
            f"{list(directions.shape)} and {list(dictionary.shape)}; encode the texts with the same model"
        )
    if not 1 <= n_nonzero <= len(dictionary):
        raise ValueError(
            f"expected n_nonzero within 1..{len(dictionary)} (the dictionary's texts), got {n_nonzero}; "
            "ask for fewer or give more texts"
        )
