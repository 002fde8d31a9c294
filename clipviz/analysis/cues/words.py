"""Spurious cues of a pair of classes: the words, the neurons behind them, and pictures that put them to the test.

`source(known, ...)` holds what words are chosen from; `cues` answers a panel; `attack_pair` is one run of the
experiment of thesis 3.5 with its baselines. Unless another is given, the studio of the model's bundle writes and draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.analysis.neurons.layer import LayerNeurons
from clipviz.data.texts import with_article
from clipviz.lens import cues as lens
from clipviz.lens.sparse import dense_weights, prepare_dictionary, sparse_code
from clipviz.models.bundle import Studio
from clipviz.models.captioners import Describe, Draw
from clipviz.models.clip import ClipModel
from clipviz.values import SparseCode

N_NEURONS, N_WORDS = 100, 25
SYNONYM = 0.7  # cosine with the class, both without what all texts share
N_ROTATIONS = 40  # all below a score: p < 1/41
BATCH = 64
CODED = 256  # neurons coded in one step
SHOWN = ("no words", "similar words", "second order")


@dataclass(frozen=True, eq=False)
class Source:
    """What the methods choose words from: the pool, its unit vectors, and the codes of two kinds of directions."""

    pool: Sequence[str]
    encoded: Tensor  # [text, d_embed]
    codes: SparseCode
    directions: Tensor  # [neuron, d_embed], second-order r_n; neurons of several layers one after the other
    layers: tuple[tuple[int, int], ...]  # these layers, with the number of their neurons
    indirect_codes: SparseCode | None = None
    indirect_directions: Tensor | None = None

    def place(self, row: int) -> tuple[int, int]:
        """The (layer, neuron) that a row of the directions is of."""
        for layer, n_neurons in self.layers:
            if row < n_neurons:
                return layer, row
            row -= n_neurons
        raise ValueError(f"expected a row of {len(self.directions)} directions, got one {row} beyond them")


class Behind(NamedTuple):
    """A neuron behind a word: its weight of the word, how far it writes along the class pair, and their product."""

    layer: int
    neuron: int
    weight: float
    along: float
    part: float


class Cue(NamedTuple):
    """A spurious word: its contribution score w_j (Eq. 3.4) and the neurons that make it up, largest part first.

    null: the most that the word of this rank reaches in N_ROTATIONS random rotations of the neurons' directions
    (lens.cues.rotated_scores).
    """

    text: str
    score: float
    neurons: tuple[Behind, ...]
    null: float

    @property
    def differs(self) -> bool:
        """Whether the score is larger than chance."""
        return self.score > self.null


def source(
    known: Sequence[LayerNeurons],
    encoded: Tensor,
    m: int | None = None,
    between: Callable[[int], None] = lambda n_done: None,
) -> Source:
    """The words and codes, of m texts each, of some layers' neurons (m as in LayerNeurons.codes).

    between: called after every CODED neurons with how many times it was.
    """
    made: list[Source | None] = []
    for step in coding(known, encoded, m):
        made.append(step)
        between(len(made))
    assert made[-1] is not None
    return made[-1]


def coding(known: Sequence[LayerNeurons], encoded: Tensor, m: int | None = None) -> Iterator[Source | None]:
    """The same in short steps, for work between a user's clicks: None until the last, which is the source."""
    if not known:
        raise ValueError(
            "expected the neurons of at least one layer, got none; choose layers that are read later"
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


def studio_of(model: ClipModel) -> Studio | None:
    """Who writes and draws in the model's world, if anyone does."""
    return model.bundle.studio if model.bundle else None


def studio(describe: Describe, draw: Draw, pair: tuple[str, str] = ("", "")) -> Studio:
    """Those who write and draw as what a session and the reports put spurious cues to the test with.

    describe(words, class_name, avoid) -> sentences; draw(sentence, seed) -> picture; pair: classes shown at first.
    """
    if not callable(describe) or not callable(draw):
        raise ValueError(
            f"expected describe and draw to be called, got {type(describe).__name__} and {type(draw).__name__}; "
            "clipviz.models.captioners has adapters for language models and text-to-image pipelines"
        )

    def writer(avoid: str, _rng: Any, _recolour: bool) -> Callable[[Sequence[str], str], Sequence[str]]:
        return lambda words, class_name: describe(words, class_name, avoid)

    def drawer(seed: int) -> Callable[[str], Image.Image]:
        seeds = itertools.count(seed)
        return lambda sentence: draw(sentence, next(seeds))

    name = f"{_called(describe)}; {_called(draw)}"
    return Studio((), writer, drawer, lambda _word, _names: True, with_article, pair, name)


def _called(one: Any) -> str:
    return str(getattr(one, "name", "") or getattr(one, "__qualname__", "") or type(one).__qualname__)


def check_pair(drawn: str, mistaken: str) -> None:
    """ValueError unless these are two different class names."""
    for name in (drawn, mistaken):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(
                f"expected two class names, got {drawn!r} and {mistaken!r}; type one word for each"
            )
    if drawn.strip().lower() == mistaken.strip().lower():
        raise ValueError(f"expected two different classes, got {drawn!r} twice")


def prompt(model: ClipModel, name: str) -> str:
    """The text that stands for a class: "a horse", "grapes"."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"expected the name of a class, got {name!r}; type a word")
    studio = studio_of(model)
    return (studio.prompt if studio else with_article)(name.strip())


def target_direction(model: ClipModel, drawn: str, mistaken: str) -> tuple[Tensor, Tensor]:
    """The directions of both classes [2, d_embed], and v = M(mistaken) - M(drawn)."""
    check_pair(drawn, mistaken)
    encoded = model.encode_texts([prompt(model, drawn), prompt(model, mistaken)])
    return encoded, encoded[1] - encoded[0]


def pair_map(model: ClipModel, picture: Image.Image, pair: tuple[str, str]) -> Float[np.ndarray, "rows cols"]:
    """Direct effects of the image tokens on v: above 0 where they write towards the wrong class (Fig. 3.6)."""
    _, target = target_direction(model, *pair)
    heatmap = model.trace([picture]).heatmap(target[None])[0, 0]
    return heatmap.float().cpu().numpy().astype(np.float32)


def banned_words(found: Source, drawn: str, mistaken: str, direction: Tensor) -> Bool[Tensor, " text"]:
    """Texts that are no spurious cue: they name the target class, or mean nearly the same."""
    near = lens.synonyms(found.encoded, direction, SYNONYM, found.encoded.mean(0))
    named = [not lens.is_fair(f"{drawn} {text}", drawn, [mistaken]) for text in found.pool]
    return near | torch.tensor(named, device=near.device)


def cues(
    model: ClipModel,
    found: Source,
    drawn: str,
    mistaken: str,
    n_words: int = N_WORDS,
    n_neurons: int = N_NEURONS,
    n_behind: int = 4,
    between: Callable[[int], None] = lambda n_done: None,
) -> list[Cue]:
    """The words that pull pictures of `drawn` towards `mistaken` by way of the neurons, strongest first.

    between: called before each of the N_ROTATIONS with how many are done, and may raise to end the work.
    """
    encoded, target = target_direction(model, drawn, mistaken)
    neurons = lens.class_neurons(found.directions, target, n_neurons)
    scores = lens.contribution_scores(found.codes, found.directions, target, neurons, len(found.pool))
    banned = banned_words(found, drawn, mistaken, encoded[1])
    best = lens.top_words(scores, banned, n_words)
    if not len(best):
        return []
    turned = lens.rotated_scores(
        found.directions,
        prepare_dictionary(found.encoded).to(found.directions),
        target,
        n_neurons,
        found.codes.atoms.shape[1],
        N_ROTATIONS,
        between=between,
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
    """The words of every method of Table 3.3 for one classification direction."""

    def by(codes: SparseCode, directions: Tensor, neurons: Tensor) -> Tensor:
        scores = lens.contribution_scores(codes, directions, target, neurons, len(found.pool))
        return lens.top_words(scores, banned, n_words)

    picked = lens.random_neurons(len(found.directions), n_neurons, generator)
    chosen = {"random neurons": by(found.codes, found.directions, picked.to(target.device))}
    if found.indirect_codes is not None and found.indirect_directions is not None:
        neurons = lens.class_neurons(found.indirect_directions, target, n_neurons)
        chosen["indirect effect"] = by(found.indirect_codes, found.indirect_directions, neurons)
    chosen["similar words"] = lens.similar_words(found.encoded, target, banned, n_words)
    best = lens.class_neurons(found.directions, target, n_neurons)
    chosen["second order"] = by(found.codes, found.directions, best)
    return chosen


def binary_margin(model: ClipModel, pair: Float[Tensor, "2 d_embed"]) -> Callable[..., Tensor]:
    """margin(images): cosine with the wrong class minus cosine with the class drawn."""

    def margin(images: Sequence[Image.Image]) -> Float[Tensor, " image"]:
        starts = range(0, len(images), BATCH)
        parts = [model.encode_images(list(images[start : start + BATCH])) for start in starts]
        return normalize(torch.cat(parts), dim=-1) @ (pair[1] - pair[0])

    return margin


def attempt(
    model: ClipModel,
    spurious: Sequence[str],
    drawn: str,
    mistaken: str,
    seed: int = 0,
    n_sentences: int = 10,
    n_images: int = 3,
    recolour: bool = False,
    studio: Studio | None = None,
) -> lens.Attack:
    """Pictures of `drawn` made from spurious words, and how the model takes them.

    studio: who writes and draws (`studio` makes one of two callables); by default that of the model's
    bundle, which draws its own classes only. recolour: it may also colour the class and treat the whole picture, which
    takes evidence for the class away rather than adding a cue against it. No words: the class alone, in as many
    pictures.
    """
    studio = studio or studio_of(model)
    if studio is None:
        raise ValueError(
            f"model {model.name!r} has no bundle that writes and draws; give your own describe and draw"
        )
    if not studio.draws(drawn):
        raise ValueError(
            f"expected a class that can be drawn ({', '.join(studio.classes[:6])}, ...), got {drawn!r}; "
            "choose one, or give your own describe and draw"
        )
    describe = studio.writer(mistaken, np.random.default_rng([seed, len(spurious)]), recolour)
    draw, alone = studio.drawer(1000 * seed), studio.prompt(drawn)
    encoded, _ = target_direction(model, drawn, mistaken)
    return lens.attack(
        spurious,
        drawn,
        describe if spurious else lambda _words, _name: [alone],
        draw,
        binary_margin(model, encoded),
        torch.Generator().manual_seed(seed),
        forbidden=[mistaken],
        n_sentences=n_sentences,
        n_images=n_images if spurious else n_images * n_sentences,
    )


def attempts(
    model: ClipModel,
    found: Source,
    pair: tuple[str, str],
    seed: int = 0,
    n_sentences: int = 6,
    n_images: int = 2,
    studio: Studio | None = None,
    left_out: dict[str, str] | None = None,
) -> Iterator[tuple[str, list[str], lens.Attack]]:
    """(method, its words, its pictures) of SHOWN in turn: the class alone, words without neurons, second order.

    left_out: as in `attack_pair`.
    """
    words = method_words(model, found, pair, seed)
    for place, name in enumerate(SHOWN):
        at = seed + 100 * place
        one = _attempted(name, left_out, model, words[name], *pair, at, n_sentences, n_images, studio=studio)
        if one is not None:
            yield name, words[name], one


def _attempted(name: str, left_out: dict[str, str] | None, *given: Any, **options: Any) -> lens.Attack | None:
    """`attempt`; None where no fair sentence was written and `left_out` takes the reason."""
    try:
        return attempt(*given, **options)
    except lens.NoFairSentenceError as error:
        if left_out is None:
            raise
        left_out[name] = str(error)
        return None


def method_words(
    model: ClipModel, found: Source, pair: tuple[str, str], seed: int, n_neurons: int = N_NEURONS
) -> dict[str, list[str]]:
    """The words of every method for one class pair; none for "no words"."""
    encoded, target = target_direction(model, *pair)
    banned = banned_words(found, *pair, encoded[1])
    picks = choose_words(found, target, banned, torch.Generator().manual_seed(seed), n_neurons)
    return {"no words": [], **{name: [found.pool[i] for i in best.tolist()] for name, best in picks.items()}}


def drawable(studio: Studio | None, words: Sequence[str], pair: tuple[str, str]) -> list[bool]:
    """Whether a studio can put each word into a picture of the pair's first class, colours left out."""
    wrong = [word for word in words if not isinstance(word, str)]
    if wrong:
        raise ValueError(f"expected words as texts, got {wrong[:3]}; put each in quotes")
    return [studio is not None and studio.can_draw(word, set(pair)) for word in words]


def attack_pair(
    model: ClipModel,
    found: Source,
    pair: tuple[str, str],
    seed: int,
    recolour: bool = False,
    n_sentences: int = 10,
    n_images: int = 10,
    n_neurons: int = N_NEURONS,
    studio: Studio | None = None,
    left_out: dict[str, str] | None = None,
) -> dict[str, tuple[list[str], lens.Attack]]:
    """All methods on one class pair, once: method -> (its words, its pictures); "no words" draws the class alone.

    studio: as in `attempt`. left_out: takes the methods for whose words no fair sentence was written, with the reason;
    without it the first such method raises NoFairSentenceError.
    """
    chosen = method_words(model, found, pair, seed, n_neurons)
    made: dict[str, tuple[list[str], lens.Attack]] = {}
    for place, (name, spurious) in enumerate(chosen.items()):
        at = seed + 100 * place
        one = _attempted(
            name, left_out, model, spurious, *pair, at, n_sentences, n_images, recolour, studio=studio
        )
        if one is not None:
            made[name] = spurious, one
    return made
