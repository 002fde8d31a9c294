"""Table 3.3 in miniature: the demo world plays the language model and the image generator of thesis 3.5.

The writer combines spurious words into sentences that the world's renderer understands; the renderer draws them.
What is in a picture is therefore known: no sentence can show the wrong class, and every one shows the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from clipviz.data import world
from clipviz.data.world import vocabulary as words
from clipviz.data.world.language import read
from clipviz.lens import cues
from clipviz.models.clip import ClipModel
from clipviz.values import SparseCode

N_NEURONS, N_WORDS = 50, 25
PAIRS = (("horse", "car"), ("dog", "bear"), ("duck", "frog"), ("ship", "bus"))
"""(class drawn, class it should be taken for)."""


@dataclass
class Wordlist:
    """Words sorted by the place they can take in a sentence of the world."""

    treatments: list[str] = field(default_factory=list)
    colours: list[str] = field(default_factory=list)
    seconds: list[str] = field(default_factory=list)
    backgrounds: list[str] = field(default_factory=list)


def world_writer(
    avoid: str, rng: np.random.Generator, recolour: bool = True, n_sentences: int = 50
) -> cues.Describe:
    """describe(words, class_name) that writes sentences of the demo world, never with the class `avoid`.

    A sentence names the class, then as many of the words as the world's grammar holds: a treatment, a colour, a
    second thing, a background; each place is filled with one of its words at random. recolour=False leaves out
    treatments and colours, which take evidence for the class away rather than add a cue against it.
    """

    def describe(spurious: Sequence[str], class_name: str) -> list[str]:
        found = sort_words(spurious, {avoid, class_name})
        if not recolour:
            found.colours, found.treatments = [], []
        sentences = []
        for _ in range(n_sentences):
            colour, second, background, treatment = (
                choices[rng.integers(len(choices))] if choices else ""
                for choices in (found.colours, found.seconds, found.backgrounds, found.treatments)
            )
            noun = words.with_article(f"{colour} {class_name}".strip())
            scene = f"{noun} and {second}" if second else noun
            opening = f"{treatment} of " if treatment else ""
            sentences.append(f"{opening}{scene} {background}".strip())
        return sentences

    return describe


def sort_words(spurious: Sequence[str], avoid: set[str]) -> Wordlist:
    """Where each word can stand in a sentence; words that the world cannot draw, or that may show a class of
    `avoid`, are left out."""
    found = Wordlist()
    forbidden = {(0, words.OBJECT_NAMES.index(name)) for name in avoid if name in words.OBJECT_NAMES}
    for word in spurious:
        try:
            reading = read(word)
        except ValueError:
            continue
        if reading.treatment:
            found.treatments.append(word)
        elif reading.background is not None or reading.background_colours:
            found.backgrounds.append(word[word.index(_background_start(word)) :])
        elif len(reading.nouns) == 1 and reading.nouns[0].count == 1 and reading.position is None:
            noun = reading.nouns[0]
            if "colour" in noun.said and len(noun.choices) > 1:
                found.colours.append(words.COLOURS[noun.said["colour"]])
            elif not forbidden & set(noun.choices) and reading.style is None and "something" not in word:
                found.seconds.append(word.removeprefix("a photo of ").removeprefix("an image of "))
    found.seconds = [word.removeprefix("a picture of ") for word in found.seconds]
    return found


def world_drawer(seed: int) -> cues.Draw:
    """draw(sentence) by the demo world; every call draws what the sentence leaves open anew."""
    state = [seed]

    def draw(sentence: str) -> Image.Image:
        state[0] += 1
        return Image.fromarray(world.scene(sentence, seed=state[0]).images[0])

    return draw


def binary_margin(model: ClipModel, pair: Float[Tensor, "2 d_embed"]) -> Callable[..., Tensor]:
    """margin(images): cosine with the wrong class minus cosine with the class drawn."""

    def margin(images: Sequence[Image.Image]) -> Float[Tensor, "image"]:
        parts = [model.encode_images(list(images[start : start + 64])) for start in range(0, len(images), 64)]
        units = torch.nn.functional.normalize(torch.cat(parts), dim=-1)
        return units @ (pair[1] - pair[0])

    return margin


@dataclass(frozen=True, eq=False)
class Words:
    """What the methods choose their words from: the pool, its vectors, and codes of two kinds of directions."""

    pool: Sequence[str]
    encoded: Tensor  # [text, d_embed], unit text vectors
    codes: SparseCode
    directions: Tensor  # [neuron, d_embed], second-order r_n
    indirect_codes: SparseCode | None = None
    indirect_directions: Tensor | None = None


def choose_words(
    source: Words,
    target: Float[Tensor, "d_embed"],
    banned: Bool[Tensor, "text"],
    generator: torch.Generator,
) -> dict[str, Int[Tensor, "word"]]:
    """The words of every method of Table 3.3 for one classification direction."""

    def by(codes: SparseCode, directions: Tensor, neurons: Tensor) -> Tensor:
        scores = cues.contribution_scores(codes, directions, target, neurons, len(source.pool))
        return cues.top_words(scores, banned, N_WORDS)

    picked = cues.random_neurons(len(source.directions), N_NEURONS, generator)
    chosen = {"random neurons": by(source.codes, source.directions, picked)}
    if source.indirect_codes is not None and source.indirect_directions is not None:
        neurons = cues.class_neurons(source.indirect_directions, target, N_NEURONS)
        chosen["indirect effect"] = by(source.indirect_codes, source.indirect_directions, neurons)
    chosen["similar words"] = cues.similar_words(source.encoded, target, banned, N_WORDS)
    best = cues.class_neurons(source.directions, target, N_NEURONS)
    chosen["second order"] = by(source.codes, source.directions, best)
    return chosen


def attack_pair(
    model: ClipModel,
    source: Words,
    pair: tuple[str, str],
    seed: int,
    recolour: bool = True,
    n_sentences: int = 10,
    n_images: int = 3,
) -> dict[str, cues.Attack]:
    """All methods on one class pair, once; "no words" draws the class alone."""
    encoded = model.encode_texts([words.with_article(name) for name in pair])
    target, centre = encoded[1] - encoded[0], source.encoded.mean(0)
    banned = cues.synonyms(source.encoded, encoded[1], 0.7, centre)
    banned = banned | torch.tensor(
        [not cues.is_fair(f"{pair[0]} {text}", pair[0], pair[1:]) for text in source.pool]
    )
    generator = torch.Generator().manual_seed(seed)
    chosen = {
        name: [source.pool[i] for i in picks.tolist()]
        for name, picks in choose_words(source, target, banned, generator).items()
    }
    found = {}
    for place, (name, spurious) in enumerate({"no words": [], **chosen}.items()):
        rng = np.random.default_rng([seed, place])
        found[name] = cues.attack(
            spurious,
            pair[0],
            world_writer(pair[1], rng, recolour),
            world_drawer(1000 * seed + 100_000 * place),
            binary_margin(model, encoded),
            generator,
            forbidden=pair[1:],
            n_sentences=n_sentences,
            n_images=n_images if spurious else n_images * n_sentences,
        )
    return found


def _background_start(word: str) -> str:
    """The preposition phrase of a background text: 'something on the water' -> 'on the water'."""
    starts = ("on ", "in ", "at ", "among ", "background")
    padded = f" {word}"
    places = [(padded.index(f" {start}"), start) for start in starts if f" {start}" in padded]
    return min(places)[1] if places else word
