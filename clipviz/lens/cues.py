"""What neurons' text codes are useful for: spurious cues, adversarial scenes, concepts, maps (thesis 3.5, App. B).

If a neuron writes towards two unrelated concepts, one can stand in for the other. Neurons of several layers are
passed together by concatenating their directions and codes; neuron indices then run through all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipviz.lens import intervals
from clipviz.lens.intervals import Estimate
from clipviz.lens.neurons import SecondOrder
from clipviz.lens.rotations import random_rotations
from clipviz.lens.sparse import dense_weights, sparse_code
from clipviz.values import Progress, SparseCode, unwatched
from clipviz.values.tables import Columns, Table

N_SEGMENT_NEURONS, SEGMENT_THRESHOLD = 200, 0.5  # neurons in a text's map, and its threshold (thesis 3.5)

Describe = Callable[[Sequence[str], str], Sequence[str]]
Draw = Callable[[str], Any]
Margin = Callable[[Sequence[Any]], Float[Tensor, " image"]]


def class_neurons(
    directions: Float[Tensor, "neuron d_embed"],
    target: Float[Tensor, " d_target"],
    n_neurons: int,
    signed: bool = False,
) -> Int[Tensor, " chosen"]:
    """Return the neurons best aligned with the target: top |<v, r_n>| (thesis 3.5).

    Args:
        directions: Directions r_n, [neuron, d_embed].
        target: v = M(c_2) - M(c_1) for a class pair, or M(c) for one class, [d_embed].
        n_neurons: How many to choose.
        signed: Rank by <v, r_n>, so that only neurons that write towards the target are chosen. The thesis takes the
            absolute value.

    Returns:
        Indices, the strongest first.

    Raises:
        ValueError: The target has another width.
    """
    if target.shape != directions.shape[1:]:
        raise ValueError(
            f"expected a target [d_embed={directions.shape[1]}], got {list(target.shape)}; "
            "pass one encoded text, or the difference of two"
        )
    along = directions @ target
    return (along if signed else along.abs()).topk(min(n_neurons, len(along))).indices


def random_neurons(n_all: int, n_neurons: int, generator: torch.Generator) -> Int[Tensor, " chosen"]:
    """Return randomly chosen neurons, a baseline for `class_neurons`.

    Args:
        n_all: The number of neurons.
        n_neurons: How many to choose.
        generator: Draws them.

    Returns:
        Indices.
    """
    return torch.randperm(n_all, generator=generator)[:n_neurons]


def contribution_scores(
    codes: SparseCode,
    directions: Float[Tensor, "neuron d_embed"],
    target: Float[Tensor, " d_embed"],
    neurons: Int[Tensor, " chosen"],
    n_texts: int,
) -> Float[Tensor, " text"]:
    """Return every text's contribution to a classification direction: w_j = sum_n gamma_j^n <v, r_n> (Eq. 3.4).

    A text scores high if it has a large weight in the codes of important neurons. It is then a candidate for a spurious
    cue of c_2.

    Args:
        codes: Sparse text codes of all neurons (of r_n, or of indirect-effect directions for that baseline).
        directions: Directions r_n, [neuron, d_embed].
        target: v, [d_embed].
        neurons: Indices of the neurons to sum over.
        n_texts: Size of the dictionary.

    Returns:
        [text].
    """
    chosen = SparseCode(codes.atoms[neurons], codes.weights[neurons])
    return (directions[neurons] @ target) @ dense_weights(chosen, n_texts).to(directions)


def rotated_scores(
    directions: Float[Tensor, "neuron d_embed"],
    dictionary: Float[Tensor, "text d_embed"],
    target: Float[Tensor, " d_embed"],
    n_neurons: int,
    n_nonzero: int,
    n_draws: int,
    seed: int = 0,
    progress: Progress = unwatched,
) -> Float[Tensor, "draw text"]:
    """Return a null for `contribution_scores`: scores for neurons whose directions are unrelated to the texts.

    A code approximates its own direction, so texts near the target have a large w_j for any neurons aligned with
    it. Shuffling codes among neurons would break this and flag nearly all words of an untrained network as cues.
    Therefore all directions are rotated together by one random rotation of the embedding, which keeps their
    lengths and angles. The neurons best aligned with the target are then chosen among them and coded again.

    Args:
        directions: Directions r_n, [neuron, d_embed].
        dictionary: The texts from which codes are built (`prepare_dictionary`), [text, d_embed].
        target: v, [d_embed].
        n_neurons: Neurons chosen in each draw.
        n_nonzero: Texts per code.
        n_draws: The number of rotations.
        seed: Seed of the rotations.
        progress: Called before each draw with the number of draws done; an exception that it raises ends the work.

    Returns:
        [draw, text].
    """
    generator, drawn = torch.Generator().manual_seed(seed), []
    for n_done in range(n_draws):
        progress(n_done)
        turned = directions @ random_rotations(1, directions.shape[1], generator)[0].to(directions)
        neurons = class_neurons(turned, target, n_neurons)
        codes = sparse_code(turned[neurons], dictionary, n_nonzero)
        drawn.append((turned[neurons] @ target) @ dense_weights(codes, len(dictionary)).to(directions))
    return torch.stack(drawn)


def image_contribution_scores(
    codes: SparseCode,
    norms: Float[Tensor, "image neuron"],
    thresholds: Float[Tensor, " neuron"],
    n_texts: int,
) -> Float[Tensor, "image text"]:
    """Return concept scores of images: w_j = sum over activated neurons of gamma_j^n |phi_n(I)| (App. B, Fig. B.1).

    Args:
        codes: Sparse text codes of all neurons.
        norms: |phi_n| of the images, [image, neuron].
        thresholds: Norms above which neurons count as activated (`activation_thresholds`), [neuron].
        n_texts: Size of the dictionary.

    Returns:
        [image, text].
    """
    activated = norms * (norms > thresholds)
    return activated @ dense_weights(codes, n_texts).to(norms)


def activation_thresholds(
    norms: Float[Tensor, "image neuron"], percentile: float = 98.0
) -> Float[Tensor, " neuron"]:
    """Return the norms above which neurons count as activated.

    Args:
        norms: |phi_n| over a collection, [image, neuron].
        percentile: The percentile of a neuron's norms (App. B: the 98th).

    Returns:
        [neuron].

    Raises:
        ValueError: The percentile is not between 0 and 100.
    """
    if not 0 < percentile < 100:
        raise ValueError(f"expected a percentile between 0 and 100, got {percentile}; the thesis uses 98")
    return torch.quantile(norms, percentile / 100, dim=0)


def synonyms(
    text_directions: Float[Tensor, "text d_embed"],
    class_direction: Float[Tensor, " d_embed"],
    threshold: float,
    centre: Float[Tensor, " d_embed"] | None = None,
) -> Bool[Tensor, " text"]:
    """Return which texts are too close to the target class to count as spurious.

    The thesis compares sentences with a language model. Vectors of any encoder can be used, such as the CLIP text
    tower's.

    Args:
        text_directions: [text, d_embed].
        class_direction: [d_embed].
        threshold: The cosine above which a text is too close.
        centre: A vector subtracted from both first, for encoders whose texts all point in a similar direction.

    Returns:
        A mask over texts.
    """
    shift = 0.0 if centre is None else centre
    pool = torch.nn.functional.normalize(text_directions - shift, dim=-1)
    return pool @ torch.nn.functional.normalize(class_direction - shift, dim=-1) > threshold


def top_words(
    scores: Float[Tensor, " text"], banned: Bool[Tensor, " text"], n_words: int
) -> Int[Tensor, " word"]:
    """Return the texts of highest positive score that are not banned.

    Args:
        scores: [text].
        banned: A mask over texts.
        n_words: How many to return, at most.

    Returns:
        Indices, the highest score first.
    """
    allowed = scores.masked_fill(banned, -torch.inf)
    best = allowed.topk(min(n_words, len(scores)))
    return best.indices[best.values > 0]


def similar_words(
    text_directions: Float[Tensor, "text d_embed"],
    target: Float[Tensor, " d_embed"],
    banned: Bool[Tensor, " text"],
    n_words: int,
) -> Int[Tensor, " word"]:
    """Return the texts best aligned with the classification direction itself, a baseline that uses no neurons.

    Args:
        text_directions: [text, d_embed].
        target: v, [d_embed].
        banned: A mask over texts.
        n_words: How many to return, at most.

    Returns:
        Indices, the most similar text first.
    """
    return top_words(text_directions @ target, banned, n_words)


@dataclass(frozen=True, repr=False)
class Attack(Table):
    """One run of the adversarial loop: the sentences, the pictures, and how each picture was classified.

    margins: similarity to the wrong class minus similarity to the class drawn; above 0 the classifier is fooled.
    """

    sentences: tuple[str, ...]  # one per image
    images: tuple[Any, ...]
    margins: tuple[float, ...]

    def _columns(self) -> Columns:
        fooled = [margin > 0 for margin in self.margins]
        return {"sentence": self.sentences, "margin": self.margins, "fooled": fooled}

    def _row(self) -> dict[str, Any]:
        return {"n_fooled": self.n_fooled, "n_images": len(self.margins)}

    def _pictures(self) -> Sequence[Any]:
        return self.images

    @property
    def n_fooled(self) -> int:
        return sum(margin > 0 for margin in self.margins)

    @property
    def success(self) -> float:
        """Share of images that fooled the classifier (Table 3.3 counts them out of 100)."""
        return self.n_fooled / len(self.margins) if self.margins else 0.0

    @property
    def share(self) -> Estimate:
        """The same share with its 95% interval, which treats pictures of one sentence as independent."""
        return intervals.share(self.n_fooled, len(self.margins))

    def more_than(self, other: Attack) -> Estimate:
        """Return how much larger this share is than that of another attack, on other pictures."""
        return intervals.difference(other.share, self.share)


class NoFairSentenceError(ValueError):
    """Raised when no written sentence names the class to draw without naming the other class."""


def attack(
    words: Sequence[str],
    class_name: str,
    describe: Describe,
    draw: Draw,
    margin: Margin,
    generator: torch.Generator,
    forbidden: Sequence[str] = (),
    n_sentences: int = 10,
    n_images: int = 10,
) -> Attack:
    """Run the adversarial loop of thesis 3.5: write sentences, keep the fair ones, draw them, classify the pictures.

    Args:
        words: Spurious words.
        class_name: What every picture shows, the class that should be recognised.
        describe: describe(words, class_name) returns sentences.
        draw: draw(sentence) returns an image; it is called n_images times per sentence.
        margin: margin(images) returns [image], above 0 where the wrong class wins.
        generator: Chooses among the fair sentences.
        forbidden: Names of the wrong class. A sentence with one of them, or without class_name, is left out.
        n_sentences: Sentences kept, at most.
        n_images: Pictures of each sentence.

    Returns:
        The sentences, the pictures and their margins.

    Raises:
        NoFairSentenceError: A ValueError: no fair sentence was written.
    """
    written = list(dict.fromkeys(describe(list(words), class_name)))
    fair = [sentence for sentence in written if is_fair(sentence, class_name, forbidden)]
    if not fair:
        other = ", ".join(map(repr, forbidden)) or "another class"
        raise NoFairSentenceError(
            f"expected sentences that name {class_name!r} and not {other}, got "
            f"{written[:3] or 'none'}; give describe() more words or another prompt"
        )
    order = torch.randperm(len(fair), generator=generator)[:n_sentences].tolist()
    sentences = [fair[place] for place in order for _ in range(n_images)]
    images = [draw(sentence) for sentence in sentences]
    return Attack(tuple(sentences), tuple(images), tuple(float(value) for value in margin(images)))


def is_fair(sentence: str, class_name: str, forbidden: Sequence[str]) -> bool:
    """Return whether a sentence names the class to draw and none of the forbidden words.

    Args:
        sentence: What is drawn.
        class_name: The class to draw.
        forbidden: Words that must not occur.

    Returns:
        The answer for whole words, in the singular or the plural.
    """
    text = _spaced(sentence)
    named = any(_spaced(form) in text for form in _forms(class_name))
    return named and not any(_spaced(form) in text for word in forbidden for form in _forms(word))


def neuron_maps(
    seconds: Sequence[SecondOrder], neurons: Int[Tensor, " chosen"]
) -> Float[Tensor, "image chosen rows cols"]:
    """Return activation maps of neurons that are numbered across several layers.

    Args:
        seconds: Second-order effects, one per layer, in the order of the numbering.
        neurons: Indices that run through all layers.

    Returns:
        [image, chosen, rows, cols].

    Raises:
        ValueError: A neuron is not in these layers.
    """
    maps: list[Tensor] = [torch.empty(0)] * len(neurons)
    start = 0
    for second in seconds:
        places = [
            place
            for place, neuron in enumerate(neurons.tolist())
            if start <= neuron < start + second.basis.n_neurons
        ]
        if places:
            own = second.activation_maps([int(neurons[place]) - start for place in places])
            for column, place in enumerate(places):
                maps[place] = own[:, column]
        start += second.basis.n_neurons
    if len(neurons) and int(neurons.max()) >= start:
        raise ValueError(
            f"expected neurons below {start} for {len(seconds)} layers, got {int(neurons.max())}; "
            "pass the second-order effects of every layer that the directions came from"
        )
    return torch.stack(maps, 1)


def neuron_heatmap(
    maps: Float[Tensor, "image neuron rows cols"], weights: Float[Tensor, " neuron"] | None = None
) -> Float[Tensor, "image rows cols"]:
    """Return a zero-shot segmentation by neurons (thesis 3.5, Table 3.4): averaged activation maps, rescaled to 0..1.

    Args:
        maps: [image, neuron, rows, cols].
        weights: [neuron], such as <r_n, M(c)>, so that neurons that write away from the class count negatively. None
            takes the plain average, as the thesis does.

    Returns:
        [image, rows, cols]. The thesis binarises it at 0.5.
    """
    summed = maps.mean(1) if weights is None else torch.einsum("inrc,n->irc", maps, weights)
    low, high = summed.amin((1, 2), keepdim=True), summed.amax((1, 2), keepdim=True)
    return (summed - low) / (high - low).clamp_min(torch.finfo(summed.dtype).eps)


def map_towards(
    seconds: Sequence[SecondOrder],
    directions: Float[Tensor, "neuron d_embed"],
    target: Float[Tensor, " d_embed"],
    n_neurons: int = N_SEGMENT_NEURONS,
    signed: bool = False,
) -> Float[Tensor, "image rows cols"]:
    """Return a text's map by neurons: the activation maps of those best aligned with it, averaged (Table 3.4).

    Args:
        seconds: Second-order effects of the layers that the directions come from, in that order.
        directions: Directions r_n of all these layers, [neuron, d_embed].
        target: The encoded text, [d_embed].
        n_neurons: How many neurons to average.
        signed: As in `class_neurons`.

    Returns:
        [image, rows, cols], rescaled to 0..1.
    """
    return neuron_heatmap(neuron_maps(seconds, class_neurons(directions, target, n_neurons, signed)))


def _forms(word: str) -> tuple[str, ...]:
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return word, plural, f"{word}es"


def _spaced(text: str) -> str:
    letters = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    return f" {' '.join(letters.split())} "
