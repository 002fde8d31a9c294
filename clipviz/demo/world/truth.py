"""Decide which sentences are true of a picture of the demo world, from its attributes: true, false, or unknown."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from clipviz.demo.world import sprites
from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.language import Noun, Reading, read
from clipviz.demo.world.sampling import PLAIN
from clipviz.demo.world.scene import ATTRIBUTE_COLUMNS, OBJECT, SHAPE, VOCABULARIES

FALSE, UNKNOWN, TRUE = range(3)
"""The truth values of a sentence for a picture. "And" is the minimum of its parts, "or" the maximum."""

_COLOURLESS = tuple(words.TREATMENTS.index(name) for name in ("black and white", "sepia"))
_KIND_NOUNS = {"object": OBJECT, "objects": OBJECT, "shape": SHAPE, "shapes": SHAPE}
_ANYTHING = ("something", "thing", "things")
_VAGUE, _FEW = 3, 2


def truths(texts: Sequence[str], attributes: np.ndarray) -> np.ndarray:
    """Return [image, text] uint8 of FALSE, UNKNOWN and TRUE.

    attributes: [image, column] as in `Scenes.attributes`. A noun with "a" is true of any number of its things, a
    plural of two or more, a number of exactly so many; "several", "many" and "a group of" of three or more, unknown
    of two. A colour is unknown in a picture without colours, and of an object in the colours it was drawn with where
    that colour neither prevails nor is missing; a size and a place are unknown of several things.
    Raises ValueError for a text that the world's grammar does not read.
    """
    pictures = _Pictures(np.asarray(attributes))
    columns = [pictures.truth(_reading(text)) for text in texts]
    return np.stack(columns, 1) if columns else np.empty((len(attributes), 0), np.uint8)


def true_texts(texts: Sequence[str], attributes: np.ndarray) -> list[list[str]]:
    """Return for every picture the texts that are known to be true of it."""
    found = truths(texts, attributes) == TRUE
    return [[texts[column] for column in np.flatnonzero(row).tolist()] for row in found]


def known_of(texts: Sequence[str], named: Mapping[str, str | None]) -> list[bool | None]:
    """Return for every text whether it is true of one picture, or None if unknown, as for words of another world.

    named: column to word, of all ATTRIBUTE_COLUMNS, None where a column does not apply.
    """
    row = np.array([[_code(column, named[column]) for column in ATTRIBUTE_COLUMNS]], np.int16)
    return [_known_of(text, row) for text in texts]


def _code(column: str, word: str | None) -> int:
    if word is None:
        return -1
    return VOCABULARIES[column].index(word) if column in VOCABULARIES else int(word)


def _enough(counts: np.ndarray) -> np.ndarray:
    """Return whether there are enough objects for a plural without a number."""
    return np.where(counts >= _VAGUE, TRUE, np.where(counts == _FEW, UNKNOWN, FALSE))


def _known_of(text: str, row: np.ndarray) -> bool | None:
    try:
        found = int(truths([text], row)[0, 0])
    except ValueError:  # not a sentence of this world
        return None
    return None if found == UNKNOWN else found == TRUE


def classes_named(texts: Sequence[str]) -> list[frozenset[int]]:
    """Return for every text the classes that it names ("a duck", not "a bird"), as positions in vocabulary.CLASSES."""
    return [
        frozenset(
            words.CLASS_OFFSET[words.KINDS[kind]] + word
            for noun in _reading(text).nouns
            if len(noun.choices) == 1
            for kind, word in noun.choices
        )
        for text in texts
    ]


@functools.lru_cache(maxsize=50_000)
def _reading(text: str) -> Reading:
    return read(text)


@dataclass
class _Pictures:
    """The attribute table by columns."""

    attributes: np.ndarray

    def __getitem__(self, column: str) -> np.ndarray:
        return self.attributes[:, ATTRIBUTE_COLUMNS.index(column)]

    @functools.cached_property
    def pair(self) -> np.ndarray:
        return self["second class"] >= 0

    @functools.cached_property
    def n_first(self) -> np.ndarray:
        """The number of copies of the first object; 0 in an empty scene."""
        return np.where(self["class"] < 0, 0, np.where(self.pair, 1, self["count"]))

    @functools.cached_property
    def single(self) -> np.ndarray:
        alone: np.ndarray = (self.n_first == 1) & ~self.pair
        return alone

    @functools.cached_property
    def colourless(self) -> np.ndarray:
        return np.isin(self["treatment"], _COLOURLESS)

    def truth(self, reading: Reading) -> np.ndarray:
        parts = [self._backdrop(reading)]
        if reading.treatment:
            parts.append(_known(self["treatment"] == reading.treatment))
        if reading.empty:
            parts.append(_known(self.n_first == 0))
        if len(reading.nouns) == 2:
            parts.append(self._two(reading))
        elif reading.nouns:
            parts += [self._one(reading.nouns[0], reading), self._place(reading)]
        return functools.reduce(np.minimum, parts)

    def _backdrop(self, reading: Reading) -> np.ndarray:
        if reading.background is None:
            return np.full(len(self.attributes), TRUE, np.uint8)
        here = _known(self["background"] == reading.background)
        painted = (self["background colour"], self["background colour 2"])
        for colour in reading.background_colours:
            known = _known((painted[0] == colour) | (painted[1] == colour))
            here = np.minimum(here, np.where(self.colourless, UNKNOWN, known))
        if reading.background == PLAIN and reading.background_colours:
            # "a red background" does not describe red stripes.
            mixed = (self["background"] != PLAIN) & (
                (painted[0] == reading.background_colours[0]) | (painted[1] == reading.background_colours[0])
            )
            here = np.where(mixed, UNKNOWN, here)
        return here.astype(np.uint8)

    def _one(self, noun: Noun, reading: Reading) -> np.ndarray:
        """Return whether there are objects that match a noun phrase, in the stated number."""
        first = self._is(noun, reading.style, "")
        second = np.where(self.pair, self._is(noun, reading.style, "second "), FALSE)
        sure, possible = (
            self.n_first * (first >= level).astype(int) + (second >= level) for level in (TRUE, UNKNOWN)
        )
        if noun.count is None:
            low, high = _enough(sure), _enough(possible)
        elif noun.exact:
            low, high = _known(sure == noun.count), _known(possible == noun.count)
        else:
            least = 2 if _plural(noun.word) else 1
            low, high = _known(sure >= least), _known(possible >= least)
        return np.where(low == high, low, UNKNOWN).astype(np.uint8)

    def _two(self, reading: Reading) -> np.ndarray:
        """Return whether two objects are present, in the order that the relation states, if any."""
        one, other = reading.nouns
        found = np.minimum(self._is(one, None, ""), self._is(other, None, "second "))
        stands = self.pair
        if reading.relation is None:
            swapped = np.minimum(self._is(other, None, ""), self._is(one, None, "second "))
            found = np.maximum(found, swapped)
        else:
            stands = stands & (self["relation"] == reading.relation)
        if reading.style is not None:  # the medium describes the picture: one of the two is drawn in it
            drawn = (self["style"] == reading.style) | (self["second style"] == reading.style)
            stands = stands & drawn
        return np.where(stands, found, FALSE).astype(np.uint8)

    def _is(self, noun: Noun, style: int | None, which: str) -> np.ndarray:
        """Return whether the first or the second object matches a noun phrase, apart from its number."""
        index, kind = self[f"{which}class"], self[f"{which}kind"]
        there = index >= 0
        if noun.word in _ANYTHING:
            found = _known(there)
        elif noun.word in _KIND_NOUNS:
            found = _known(there & (kind == _KIND_NOUNS[noun.word]))
            if _KIND_NOUNS[noun.word] == OBJECT:  # whether a letter is an object is ambiguous
                found = np.where(there & (kind != OBJECT), UNKNOWN, found)
        else:
            found = _known(there & _members(noun.choices)[np.maximum(index, 0)])
        drawn = self[f"{which}style"]
        for quality, value in noun.said.items():
            if quality == "colour":
                told = self._colour(value, which)
            elif quality == "size":
                told = np.where(self.single, _known(self["size"] == value), UNKNOWN)
            else:
                told = _known((kind == SHAPE) & (self["fill"] == value) & (which == ""))
                if which:
                    told = np.where(kind == SHAPE, UNKNOWN, told)
            found = np.minimum(found, told)
        if style is not None:
            found = np.minimum(found, _known((kind == OBJECT) & (drawn == style)))
        return found

    def _colour(self, colour: int, which: str) -> np.ndarray:
        painted, index = self[f"{which}colour"], self[f"{which}class"]
        style = np.maximum(self[f"{which}style"], 0)
        own = (painted < 0) & (index >= 0) & (index < len(words.OBJECTS))
        told = _known(painted == colour)
        drawn = zip(index[own].tolist(), style[own].tolist(), strict=True)
        told[own] = [own_colours(*one)[colour] for one in drawn]
        return np.where(self.colourless, UNKNOWN, told)

    def _place(self, reading: Reading) -> np.ndarray:
        if reading.position is None:
            return np.full(len(self.attributes), TRUE, np.uint8)
        column, row = reading.position
        here = np.ones(len(self.attributes), bool)
        if column != 1 or row == 1:
            here &= self["column"] == column
        if row != 1 or column == 1:
            here &= self["row"] == row
        several = self.n_first + self.pair > 1
        return np.where(several, UNKNOWN, _known(here)).astype(np.uint8)


def _known(found: np.ndarray) -> np.ndarray:
    return np.where(found, TRUE, FALSE).astype(np.uint8)


@functools.cache
def _members(choices: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Return [class] bool, the classes that a noun stands for."""
    found = np.zeros(len(words.CLASSES), bool)
    for kind, word in choices:
        found[words.CLASS_OFFSET[words.KINDS[kind]] + word] = True
    return found


@functools.cache
def _plural(noun: str) -> bool:
    singular = {
        *words.OBJECT_NAMES,
        *words.CATEGORIES,
        *words.SHAPES,
        "something",
        "thing",
        "object",
        "shape",
    }
    singular |= {"letter", "number", "animal", "waterbird", "landbird"}
    return noun not in singular and not noun.startswith(("letter ", "number "))


PREVAILS, MISSING = 0.45, 0.12
"""A colour is true of a sprite if at least the first share of its pixels has it, and false below the second."""


@functools.cache
def own_colours(index: int, style: int) -> np.ndarray:
    """Return [colour] of FALSE, UNKNOWN and TRUE: the colours of an object as drawn in one style."""
    pictures = sprites.originals(sprites.object_atlas(style)).get(words.OBJECT_NAMES[index])
    if not pictures:
        return np.full(len(words.COLOURS), UNKNOWN, np.uint8)
    shares = np.mean([_shares(picture, _palette()) for picture in pictures], 0)
    return np.where(shares >= PREVAILS, TRUE, np.where(shares < MISSING, FALSE, UNKNOWN)).astype(np.uint8)


@functools.cache
def _palette() -> np.ndarray:
    colours: np.ndarray = _lab(np.array(words.COLOUR_RGB, np.uint8)[None])[0]
    return colours


def _shares(picture: Image.Image, palette: np.ndarray) -> np.ndarray:
    """Return the share of a sprite's opaque pixels nearest to each colour of the palette; lightness has half weight."""
    pixels = np.asarray(picture.convert("RGBA"))
    opaque = pixels[..., 3] > 127
    lab = _lab(pixels[..., :3])[opaque]
    distance = ((lab[:, None] - palette[None]) ** 2).sum(-1)
    return np.bincount(distance.argmin(1), minlength=len(palette)) / max(1, len(lab))


def _lab(pixels: np.ndarray) -> np.ndarray:
    """Convert [row, column, 3] uint8 to CIE L*a*b*, with lightness at half its weight."""
    linear = pixels.astype(np.float32) / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    xyz = linear @ np.array(
        [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]], np.float32
    )
    xyz = xyz / np.array([0.9505, 1.0, 1.089], np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [0.5 * (116 * f[..., 1] - 16), 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1
    )
