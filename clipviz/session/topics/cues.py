"""Spurious cues in a session: words, pictures drawn with them, and whether they mislead the model (thesis 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipviz.analysis.cues import attacks, pairs, words
from clipviz.models.bundle import Studio
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics.neurons import NeuronTopic
from clipviz.values.tables import Listing, Lookup, NamedArray, named

if TYPE_CHECKING:
    from PIL import Image

    from clipviz.analysis.cues.words import Cue, Source
    from clipviz.lens.cues import Attack
    from clipviz.models.captioners import Painter, Writer


class CueTopic:
    """Questions about spurious cues. A pair names the class to draw and the class that the model should predict."""

    def __init__(self, state: State, neurons: NeuronTopic) -> None:
        self._state, self._neurons = state, neurons
        self._studio: Studio | None = None

    def __repr__(self) -> str:
        if self.studio is None:
            return "spurious cues in words; pictures need session.cues.studio"
        return f"spurious cues; pictures of {', '.join(self.classes) or 'any class'}"

    @property
    def studio(self) -> Studio | None:
        """The writer and drawer for spurious cues: the one set here, else that of the model's bundle.

        Set it to clipviz.models.bundle.Studio.of(describe, draw): describe(words, class_name, avoid) writes
        sentences, draw(sentence, seed) paints them. The Cues desk then draws any class.
        """
        return self._studio or pairs.studio_of(self._state.model)

    @studio.setter
    def studio(self, studio: Studio | None) -> None:
        if studio is not None and not hasattr(studio, "writer"):
            raise ValueError(
                f"expected a studio, got {type(studio).__name__}; clipviz.models.bundle.Studio.of(describe, draw) "
                "makes one"
            )
        self._studio = studio
        self._state.refresh()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that can be drawn; empty if nothing or anything can be drawn (see can_draw)."""
        return self.studio.classes if self.studio else ()

    @property
    def first_pair(self) -> tuple[str, str]:
        """The first pair of a class to draw and a class to predict; empty names if nothing can be drawn."""
        return self.studio.pair if self.studio else ("", "")

    @staticmethod
    def check_pair(pair: tuple[str, str]) -> None:
        """Raise ValueError unless these are two different class names: the class to draw and the class to predict."""
        pairs.check_pair(*checks.texts("pair", pair))

    def can_draw(self, name: str) -> bool:
        """Return whether pictures of a class can be drawn."""
        return self.studio is not None and self.studio.draws(name)

    def class_text(self, name: str) -> str:
        """Return the prompt of a class: "a horse", "grapes"."""
        return pairs.prompt(self._state.model, name)

    def source(self, layers: int | Sequence[int] | None = None, m: int | None = None) -> Source:
        """Return the words and sparse codes of some layers' neurons, from which cues are chosen.

        Args:
            layers: Numbers of layers; default the late ones (neurons.late_layers).
            m: Texts per code; default the thesis's number (see neurons.code_size).

        Returns:
            The pool, and the codes and directions of the neurons.
        """
        state, neurons = self._state, self._neurons
        chosen = neurons.late_layers if layers is None else [layers] if isinstance(layers, int) else layers
        known = [neurons.layer(layer) for layer in chosen]
        key = ("cue source", *((one.stats.layer, one.stats.count) for one in known), checks.code_size(m))

        def make() -> Source:
            n_parts = -(-sum(one.n_neurons for one in known) // words.CODED)
            progress = state.progress("Coding the neurons in texts", n_parts)
            return words.source(known, state.pool(), m, progress)

        return state.keep(key, make)

    def find(
        self,
        pair: tuple[str, str],
        layers: int | Sequence[int] | None = None,
        n_words: int = words.N_WORDS,
        source: Source | None = None,
        m: int | None = None,
    ) -> Listing[Cue]:
        """Return the words that pull pictures of pair[0] towards pair[1] through some layers' neurons (Eq.
        3.4).

        Args:
            pair: The class that is drawn, and the class that pictures of it are pulled towards.
            layers: Numbers of layers; default the late ones (neurons.late_layers).
            n_words: Words to return.
            source: What `source` returned before, to choose from in place of `layers`.
            m: Texts per code; default the thesis's number (see neurons.code_size).

        Returns:
            Words with their scores, best first. Each has .null, the largest score of its rank when the neurons'
            directions are rotated at random, and .differs, whether its score exceeds that.

        Raises:
            ValueError: The pair is not two different class names.
        """
        self.check_pair(pair)
        source = self.source(layers, m) if source is None else source
        what = "Comparing the words with those of rotated neurons"
        progress = self._state.progress(what, words.N_ROTATIONS)
        n_words = checks.count("n_words", n_words)
        found = words.cues(self._state.model, source, *pair, n_words=n_words, progress=progress)
        title = f"Words that pull pictures of “{pair[0]}” towards “{pair[1]}”"
        return Listing(found, title, words.Cue._fields)

    def attack(
        self,
        pair: tuple[str, str],
        seed: int = 0,
        layers: int | Sequence[int] | None = None,
        n_sentences: int = 10,
        n_images: int = 10,
        m: int | None = None,
        describe: Writer | None = None,
        draw: Painter | None = None,
    ) -> Lookup[str, tuple[list[str], Attack]]:
        """Draw pictures meant to mislead the model, by every method of Table 3.3.

        Args:
            pair: The class that is drawn, and the class that pictures of it are pulled towards.
            seed: Seed of the sentences and pictures.
            layers: Numbers of layers; default the late ones (neurons.late_layers).
            n_sentences: Sentences per method.
            n_images: Pictures per sentence.
            m: Texts per code; default the thesis's number (see neurons.code_size).
            describe: Writer of sentences (see `studio`), given together with `draw`.
            draw: Painter of sentences, given together with `describe`.

        Returns:
            By method: its words, and its pictures with their margins.

        Raises:
            ValueError: Only one of describe and draw is given, or the pair is not two different class names.
        """
        if (describe is None) != (draw is None):
            raise ValueError("expected describe and draw together, got one of them; pass both or neither")
        own = None if describe is None or draw is None else Studio.of(describe, draw)
        self.check_pair(pair)
        found = attacks.attack_pair(
            self._state.model,
            self.source(layers, m),
            pair,
            seed,
            n_sentences=n_sentences,
            n_images=n_images,
            studio=own or self.studio,
        )
        title = f"Pictures of “{pair[0]}” made to be classified as “{pair[1]}”"
        return Lookup(found, title, ("method",), ("words", "pictures"))

    def drawable(self, texts: Sequence[str], pair: tuple[str, str]) -> Listing[bool]:
        """Return whether each word can be drawn into a picture of pair[0].

        Args:
            texts: Words.
            pair: The class that is drawn, and the class that pictures of it are pulled towards.

        Returns:
            True or False for each word.
        """
        self.check_pair(pair)
        return Listing(pairs.drawable(self.studio, texts, pair), "Words that can be drawn", ("drawable",))

    def map(self, picture: Image.Image, pair: tuple[str, str]) -> NamedArray:
        """Return the effects of a picture's tokens on the difference of the two classes (Fig. 3.6).

        Args:
            picture: A PIL image.
            pair: The class that is drawn, and the class that pictures of it are pulled towards.

        Returns:
            Map [rows, cols] in units of the cosine, above 0 where tokens write towards pair[1].
        """
        self.check_pair(pair)
        found = attacks.pair_map(self._state.model, picture, pair)
        return named(found, ("rows", "cols"), f"Effects towards “{pair[1]}” and away from “{pair[0]}”")
