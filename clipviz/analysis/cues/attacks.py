"""Pictures that test spurious words: the experiment of thesis 3.5 with its baselines (Table 3.3).

By default the studio of the model's bundle writes the sentences and draws the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.analysis.cues.pairs import studio_of, target_direction
from clipviz.analysis.cues.words import N_NEURONS, Source, method_words
from clipviz.lens.cues import Attack, NoFairSentenceError, attack
from clipviz.models.bundle import Studio
from clipviz.models.clip import ClipModel

BATCH = 64
SHOWN = ("no words", "similar words", "second order")


def pair_map(model: ClipModel, picture: Image.Image, pair: tuple[str, str]) -> Float[np.ndarray, "rows cols"]:
    """Return the image tokens' direct effects on v, above 0 where they write towards the wrong class (Fig. 3.6)."""
    _, target = target_direction(model, *pair)
    heatmap = model.trace([picture]).heatmap(target[None])[0, 0]
    return heatmap.float().cpu().numpy().astype(np.float32)


def binary_margin(model: ClipModel, pair: Float[Tensor, "2 d_embed"]) -> Callable[..., Tensor]:
    """Return margin(images): cosine with the wrong class minus cosine with the class drawn."""

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
) -> Attack:
    """Draw pictures of `drawn` from spurious words, and measure how the model classifies them.

    studio: the writer and drawer (Studio.of makes one from two callables); by default that of the model's bundle,
    which draws its own classes only. recolour: allow changes to the colour of the class or of the whole picture,
    which remove evidence for the class rather than add a cue against it. Without words, as many pictures of the
    class alone are drawn.
    """
    studio = studio or studio_of(model)
    if studio is None:
        raise ValueError(
            f"model {model.name!r} has no bundle that writes and draws; pass your own describe and draw"
        )
    if not studio.draws(drawn):
        raise ValueError(
            f"expected a class that can be drawn ({', '.join(studio.classes[:6])}, ...), got "
            f"{drawn!r}; choose one, or pass your own describe and draw"
        )
    describe = studio.writer(mistaken, np.random.default_rng([seed, len(spurious)]), recolour)
    draw, alone = studio.drawer(1000 * seed), studio.prompt(drawn)
    encoded, _ = target_direction(model, drawn, mistaken)
    return attack(
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
) -> Iterator[tuple[str, list[str], Attack]]:
    """Yield (method, its words, its pictures) of SHOWN in turn: the class alone, words without neurons, second
    order.

    left_out: as in `attack_pair`.
    """
    words = method_words(model, found, pair, seed)
    for place, name in enumerate(SHOWN):
        at = seed + 100 * place
        one = _attempted(name, left_out, model, words[name], *pair, at, n_sentences, n_images, studio=studio)
        if one is not None:
            yield name, words[name], one


def _attempted(name: str, left_out: dict[str, str] | None, *given: Any, **options: Any) -> Attack | None:
    """Return the result of `attempt`, or None if no fair sentence was written; `left_out` then receives the reason."""
    try:
        return attempt(*given, **options)
    except NoFairSentenceError as error:
        if left_out is None:
            raise
        left_out[name] = str(error)
        return None


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
) -> dict[str, tuple[list[str], Attack]]:
    """Return all methods for one class pair: method -> (its words, its pictures); "no words" draws the class alone.

    studio: as in `attempt`. left_out: receives the methods for whose words no fair sentence was written, with the
    reason. Without it the first such method raises NoFairSentenceError.
    """
    chosen = method_words(model, found, pair, seed, n_neurons)
    made: dict[str, tuple[list[str], Attack]] = {}
    for place, (name, spurious) in enumerate(chosen.items()):
        at = seed + 100 * place
        one = _attempted(
            name, left_out, model, spurious, *pair, at, n_sentences, n_images, recolour, studio=studio
        )
        if one is not None:
            made[name] = spurious, one
    return made
