"""Spurious words of a pair of classes, and the neurons behind them (thesis 3.5, Eq. 3.4).

`source(known, ...)` collects the data that words are chosen from; `cues` computes a panel's answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipviz.analysis.cues.pairs import target_direction
from clipviz.analysis.neurons.layer import LayerNeurons
from clipviz.lens.cues import (
    class_neurons,
    contribution_scores,
    is_fair,
    random_neurons,
    rotated_scores,
    similar_words,
    synonyms,
    top_words,
)
from clipviz.lens.sparse import dense_weights, prepare_dictionary, sparse_code
from clipviz.models.clip import ClipModel
from clipviz.values import Progress, SparseCode, unwatched

N_NEURONS, N_WORDS = 100, 25
SYNONYM = 0.7  # cosine with the class, after subtracting the mean text from both
N_ROTATIONS = 40  # if all are below a score, p < 1/41
CODED = 256  # neurons coded in one step


@dataclass(frozen=True, eq=False)
class Source:
    """What methods choose words from: the pool, its unit vectors, and the codes of two kinds of directions."""

    pool: Sequence[str]
    encoded: Tensor  # [text, d_embed]
    codes: SparseCode
    directions: Tensor  # [neuron, d_embed], second-order r_n; neurons of several layers one after the other
    layers: tuple[tuple[int, int], ...]  # the layers, with their numbers of neurons
    indirect_codes: SparseCode | None = None
    indirect_directions: Tensor | None = None

    def place(self, row: int) -> tuple[int, int]:
        """Return the (layer, neuron) of a row of the directions."""
        for layer, n_neurons in self.layers:
            if row < n_neurons:
                return layer, row
            row -= n_neurons
        raise ValueError(f"expected a row of {len(self.directions)} directions, got one {row} beyond them")


class Behind(NamedTuple):
    """A neuron behind a word: the word's weight in its code, its effect along the class pair, and their product."""

    layer: int
    neuron: int
    weight: float
    along: float
    part: float


class Cue(NamedTuple):
    """A spurious word: its contribution score w_j (Eq. 3.4) and the neurons that contribute to it, largest part
    first.

    null: the largest score of the word of this rank in N_ROTATIONS random rotations of the neurons' directions
    (lens.cues.rotated_scores).
    """

    text: str
    score: float
    neurons: tuple[Behind, ...]
    null: float

    @property
    def differs(self) -> bool:
        """Whether the score is larger than expected by chance."""
        return self.score > self.null


def source(
    known: Sequence[LayerNeurons],
    encoded: Tensor,
    m: int | None = None,
    progress: Progress = unwatched,
) -> Source:
    """Return the words and codes, with m texts each, of some layers' neurons (m as in LayerNeurons.codes).

    progress: called after every CODED neurons with the number of calls so far.
    """
    made: list[Source | None] = []
    for step in coding(known, encoded, m):
        made.append(step)
        progress(len(made))
    assert made[-1] is not None
    return made[-1]


def coding(known: Sequence[LayerNeurons], encoded: Tensor, m: int | None = None) -> Iterator[Source | None]:
    """Yield None in short steps, for work between a user's clicks, and finally the source."""
    if not known:
        raise ValueError(
            "expected the neurons of at least one layer, got none; choose layers with later attention"
        )
    first, directions = known[0], torch.cat([one.line.directions for one in known])
    n_atoms = min(first.code_size if m is None else m, *first.dictionary.shape)
    parts = []
    for some in directions.split(CODED):
        parts.append(sparse_code(some, first.dictionary, n_atoms))
        yield None
    codes = SparseCode(torch.cat([part.atoms for part in parts]), torch.cat([part.weights for part in parts]))
    layers = tuple((one.stats.layer, one.n_neurons) for one in known)
    yield Source(first.texts, encoded, codes, directions, layers)


def banned_words(found: Source, drawn: str, mistaken: str, direction: Tensor) -> Bool[Tensor, " text"]:
    """Return texts that do not count as spurious cues because they name the target class or mean nearly the same."""
    near = synonyms(found.encoded, direction, SYNONYM, found.encoded.mean(0))
    named = [not is_fair(f"{drawn} {text}", drawn, [mistaken]) for text in found.pool]
    return near | torch.tensor(named, device=near.device)


def cues(
    model: ClipModel,
    found: Source,
    drawn: str,
    mistaken: str,
    n_words: int = N_WORDS,
    n_neurons: int = N_NEURONS,
    n_behind: int = 4,
    progress: Progress = unwatched,
) -> list[Cue]:
    """Return the words that pull pictures of `drawn` towards `mistaken` through the neurons, strongest first.

    progress: called before each of the N_ROTATIONS with the number done; it may raise to end the work.
    """
    encoded, target = target_direction(model, drawn, mistaken)
    neurons = class_neurons(found.directions, target, n_neurons)
    scores = contribution_scores(found.codes, found.directions, target, neurons, len(found.pool))
    banned = banned_words(found, drawn, mistaken, encoded[1])
    best = top_words(scores, banned, n_words)
    if not len(best):
        return []
    turned = rotated_scores(
        found.directions,
        prepare_dictionary(found.encoded).to(found.directions),
        target,
        n_neurons,
        found.codes.atoms.shape[1],
        N_ROTATIONS,
        progress=progress,
    )
    ranked = turned.masked_fill(banned, -torch.inf).topk(len(best)).values.clamp_min(0)
    nulls = ranked.amax(0).tolist()
    weights = dense_weights(
        SparseCode(found.codes.atoms[neurons], found.codes.weights[neurons]), len(found.pool)
    )
    along = found.directions[neurons] @ target
    answers = []
    for j, null in zip(best.tolist(), nulls, strict=True):
        parts = weights[:, j] * along
        order = [i for i in parts.argsort(descending=True)[:n_behind].tolist() if parts[i] > 0]
        behind = [
            Behind(*found.place(int(neurons[i])), float(weights[i, j]), float(along[i]), float(parts[i]))
            for i in order
        ]
        answers.append(Cue(found.pool[j], float(scores[j]), tuple(behind), null))
    return answers


def choose_words(
    found: Source,
    target: Float[Tensor, " d_embed"],
    banned: Bool[Tensor, " text"],
    generator: torch.Generator,
    n_neurons: int = N_NEURONS,
    n_words: int = N_WORDS,
) -> dict[str, Int[Tensor, " word"]]:
    """Return the words of every method of Table 3.3 for one classification direction."""

    def by(codes: SparseCode, directions: Tensor, neurons: Tensor) -> Tensor:
        scores = contribution_scores(codes, directions, target, neurons, len(found.pool))
        return top_words(scores, banned, n_words)

    picked = random_neurons(len(found.directions), n_neurons, generator)
    chosen = {"random neurons": by(found.codes, found.directions, picked.to(target.device))}
    if found.indirect_codes is not None and found.indirect_directions is not None:
        neurons = class_neurons(found.indirect_directions, target, n_neurons)
        chosen["indirect effect"] = by(found.indirect_codes, found.indirect_directions, neurons)
    chosen["similar words"] = similar_words(found.encoded, target, banned, n_words)
    best = class_neurons(found.directions, target, n_neurons)
    chosen["second order"] = by(found.codes, found.directions, best)
    return chosen


def method_words(
    model: ClipModel, found: Source, pair: tuple[str, str], seed: int, n_neurons: int = N_NEURONS
) -> dict[str, list[str]]:
    """Return the words of every method for one class pair; the method "no words" has none."""
    encoded, target = target_direction(model, *pair)
    banned = banned_words(found, *pair, encoded[1])
    picks = choose_words(found, target, banned, torch.Generator().manual_seed(seed), n_neurons)
    return {"no words": [], **{name: [found.pool[i] for i in best.tolist()] for name, best in picks.items()}}
