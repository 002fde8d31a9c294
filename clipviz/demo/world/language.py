"""Turn words into scenes: read the world's own sentences, and choose at random what they leave open."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.sampling import PLAIN, sample_scene, sample_thing
from clipviz.demo.world.scene import GLYPH, OBJECT, SHAPE, Scene, Thing

_NUMBER_WORDS = {
    **{word: count for count, word in enumerate(words.NUMBERS) if count},
    **{str(count): count for count in range(1, words.MAX_COUNT + 1)},
}
_VAGUE_NUMBERS = ("several", "a group of", "many")
_RELATIONS = {
    " to the left of ": (0, False),
    " to the right of ": (0, True),
    " above ": (1, False),
    " below ": (1, True),
    " and ": (None, False),
}
"""A phrase between two nouns: (index in RELATIONS, whether the second noun is the first object)."""
_ADJECTIVES = {
    **{word: ("size", size) for size, phrases in enumerate(words.SIZE_WORDS) for word in phrases},
    **{word: ("colour", index) for index, word in enumerate(words.COLOURS)},
    "grey": ("colour", words.COLOURS.index("gray")),
    **{word: ("fill", index) for index, word in enumerate(words.FILLS)},
}
_POSITIONS = {"in the center": (1, 1), "in the middle": (1, 1)}
for _row, _row_word in enumerate(words.ROWS):
    for _column, _column_word in enumerate(words.COLUMNS):
        if _row != 1 and _column != 1:
            _POSITIONS[f"in the {_row_word} {_column_word} corner"] = (_column, _row)
    if _row != 1:
        _POSITIONS[f"at the {_row_word}"] = (1, _row)
for _column, _column_word in enumerate(words.COLUMNS):
    if _column != 1:
        _POSITIONS[f"on the {_column_word}"] = (_column, 1)

Choice = tuple[int, int]
"""(kind, index of the word in its kind)."""


@dataclass
class Noun:
    """One noun phrase: its noun, the things that it may stand for, the number, and its adjectives.

    count: None if the number is vague ("several"). exact: whether a number was stated ("one duck", not "a duck").
    """

    word: str
    choices: tuple[Choice, ...]
    count: int | None = 1
    exact: bool = False
    said: dict[str, int] = field(default_factory=dict)


@dataclass
class Reading:
    """The content of a sentence. empty: whether it says that the scene is empty."""

    nouns: list[Noun] = field(default_factory=list)
    empty: bool = False
    relation: int | None = None
    background: int | None = None
    background_colours: tuple[int, ...] = ()
    position: tuple[int, int] | None = None
    treatment: int = 0
    style: int | None = None


def parse(text: str, rng: np.random.Generator) -> Scene:
    """Return a scene that the sentence describes. Raises ValueError on words the world does not know."""
    reading = read(text)
    if not reading.nouns:
        return _on_background(
            replace(sample_scene(rng), thing=None, count=0, second=None, relation=-1), reading, rng
        )
    things = [_thing(noun, reading, rng) for noun in reading.nouns]
    scene = Scene(0, (0, 1), things[0], treatment=reading.treatment)
    if len(things) == 2:
        relation = reading.relation if reading.relation is not None else int(rng.integers(2))
        return _on_background(replace(scene, count=1, second=things[1], relation=relation), reading, rng)
    noun = reading.nouns[0]
    count = noun.count if noun.count is not None else int(rng.integers(3, words.MAX_COUNT + 1))
    if count > 1 and reading.position is not None:
        raise ValueError(
            f"expected a position with one thing only, got {text!r}; leave the position or the number out"
        )
    scene = replace(scene, count=count)
    return _on_background(_placed(scene, noun, reading, rng) if count == 1 else scene, reading, rng)


def _thing(noun: Noun, reading: Reading, rng: np.random.Generator) -> Thing:
    kind, word = noun.choices[rng.integers(len(noun.choices))]
    thing = replace(sample_thing(kind, rng), word=word, fill=noun.said.get("fill", 0))
    own = -1 if kind == OBJECT else thing.colour
    thing = replace(thing, colour=noun.said.get("colour", own))
    return replace(thing, style=reading.style) if kind == OBJECT and reading.style is not None else thing


def _placed(scene: Scene, noun: Noun, reading: Reading, rng: np.random.Generator) -> Scene:
    size = noun.said.get("size")
    sprite_size = int(rng.integers(2, 5)) if size is None else 2 * size + int(rng.integers(2))
    if reading.position is None:
        column, row = (1, 1) if sprite_size > 4 else rng.integers(0, 3, 2).tolist()
    else:
        column, row = reading.position
        sprite_size = min(sprite_size, 4) if (column, row) != (1, 1) else sprite_size
    return replace(scene, sprite_size=sprite_size, column=column, row=row)


def _on_background(scene: Scene, reading: Reading, rng: np.random.Generator) -> Scene:
    colours = list(reading.background_colours)
    taken = {*colours, scene.thing.colour if scene.thing is not None else -1}
    free = [colour for colour in range(len(words.COLOURS)) if colour not in taken]
    colours += [free[i] for i in rng.permutation(len(free)).tolist()]
    background = (
        int(rng.integers(len(words.BACKGROUNDS))) if reading.background is None else reading.background
    )
    return replace(
        scene,
        background=background,
        background_colours=(colours[0], colours[1]),
        treatment=reading.treatment,
    )


def read(text: str) -> Reading:
    """Return the content of a sentence, without random choices. The grammar: [medium of] noun [relation noun]
    [position] [background].
    """
    rest = " ".join(re.sub(r"[^a-z0-9' -]", " ", text.lower()).split())
    if not rest:
        raise ValueError(f"expected a sentence, got {text!r}; try 'two red apples on a striped background'")
    reading = Reading()
    rest = _read_medium(rest, reading)
    rest = _read_background(rest, reading)
    for phrase, place in _POSITIONS.items():
        if f" {rest}".endswith(f" {phrase}"):
            rest, reading.position = rest[: -len(phrase)].strip(), place
            break
    if rest in ("nothing", "an empty scene") or (rest == "" and reading.background is not None):
        reading.empty = bool(rest)
        return reading
    _read_nouns(rest, text, reading)
    return reading


def _read_medium(rest: str, reading: Reading) -> str:
    """Remove 'a blurry photo of' or 'a flat icon of' from the front."""
    for style, phrases in enumerate(words.STYLE_PHRASES):
        for phrase in phrases:
            if rest.startswith(f"{phrase} "):
                reading.style = style
                return rest[len(phrase) + 1 :]
    match = re.match(r"(?:an? )?(?:([a-z ]+?) )?(?:photo|image|picture)(?: of |$)", rest)
    if match is None:
        return rest
    treatments = {word: index for index, names in enumerate(words.TREATMENT_PHRASES) for word in names}
    if match[1]:
        if match[1] not in treatments:
            raise _unknown(match[1], treatments, "treatments")
        reading.treatment = treatments[match[1]]
    return rest[match.end() :] or "something"


def _read_background(rest: str, reading: Reading) -> str:
    """Remove the background from the end."""
    for phrase, background in _background_phrases():
        padded = f" {rest}"
        if padded.endswith(f" {phrase}"):
            reading.background = background
            return rest[: -len(phrase)].strip()
        if not phrase.startswith("on a "):
            continue
        pattern = phrase.removeprefix("on a ")
        colour = "|".join(words.COLOURS)
        match = re.search(rf"(?:^| )on an? ({colour})(?: and ({colour}))? {re.escape(pattern)}$", rest)
        if match is not None:
            reading.background = background
            reading.background_colours = tuple(words.COLOURS.index(name) for name in match.groups() if name)
            return rest[: match.start()].strip()
    match = re.search(rf"(?:^| )on an? ({'|'.join(words.COLOURS)}) background$", rest)
    if match is None:
        return rest
    reading.background, reading.background_colours = PLAIN, (words.COLOURS.index(match[1]),)
    return rest[: match.start()].strip()


@functools.cache
def _background_phrases() -> list[tuple[str, int]]:
    phrases = [
        (text, i) for i, name in enumerate(words.BACKGROUNDS) for text in words.BACKGROUND_PHRASES[name]
    ]
    return sorted(phrases, key=lambda entry: -len(entry[0]))


def _read_nouns(rest: str, text: str, reading: Reading) -> None:
    for phrase, (relation, swapped) in _RELATIONS.items():
        if phrase in rest:
            halves = rest.split(phrase)
            if len(halves) != 2:
                raise ValueError(f"expected at most two things, got {len(halves)} in {text!r}; name only two")
            nouns = [_read_noun(half) for half in halves]
            if any(noun.count != 1 for noun in nouns):
                raise ValueError(f"expected one of each of two things, got {text!r}; leave the numbers out")
            reading.nouns, reading.relation = nouns[::-1] if swapped else nouns, relation
            return
    reading.nouns = [_read_noun(rest)]


def _read_noun(phrase: str) -> Noun:
    """Read a noun phrase such as 'three small red circles': number or article, adjectives, noun."""
    count: int | None = 1
    exact = False
    rest = phrase
    for vague in _VAGUE_NUMBERS:
        if rest.startswith(f"{vague} "):
            count, rest = None, rest[len(vague) + 1 :]
    first, _, tail = rest.partition(" ")
    if tail and first in _NUMBER_WORDS:
        count, exact, rest = _NUMBER_WORDS[first], True, tail
    elif tail and first in ("a", "an", "the"):
        rest = tail
    said: dict[str, int] = {}
    while rest not in _nouns():
        adjective = next((word for word in _ADJECTIVES if rest.startswith(f"{word} ")), None)
        if adjective is None:
            break
        quality, value = _ADJECTIVES[adjective]
        said[quality], rest = value, rest[len(adjective) + 1 :]
    for quality in ("colour", "size", "fill"):
        if (
            rest.startswith("something ")
            and _ADJECTIVES.get(rest.removeprefix("something "), ("",))[0] == quality
        ):
            said[quality], rest = _ADJECTIVES[rest.removeprefix("something ")][1], "something"
    if rest not in _nouns():
        raise _unknown(rest or phrase, _nouns(), "things")
    choices = _nouns()[rest]
    if "fill" in said:
        choices = tuple(choice for choice in choices if choice[0] == SHAPE)
        if not choices:
            raise ValueError(
                f"expected a fill with a shape only, got {phrase!r}; shapes are {', '.join(words.SHAPES)}"
            )
    return Noun(rest, choices, count, exact, said)


@functools.cache
def _nouns() -> dict[str, tuple[Choice, ...]]:
    """Return every noun, singular and plural, with everything that it may stand for."""
    nouns: dict[str, tuple[Choice, ...]] = {}
    objects = list(enumerate(words.OBJECTS))
    general = {
        **{name: [i for i, item in objects if item.category == name] for name in words.CATEGORIES},
        "animal": [i for i, item in objects if item.category in words.ANIMAL_CATEGORIES],
        "waterbird": [i for i, item in objects if item.name in words.WATERBIRDS],
        "landbird": [i for i, item in objects if item.name in words.BIRDS - words.WATERBIRDS],
        "object": [i for i, _ in objects],
        "thing": [i for i, _ in objects],
    }
    for name, members in general.items():
        plural = words.CATEGORY_PLURALS.get(name, words.plural_of(name))
        nouns[name] = nouns[plural] = tuple((OBJECT, member) for member in members)
    nouns["something"] = nouns["thing"]
    nouns["shape"] = nouns["shapes"] = tuple((SHAPE, i) for i in range(len(words.SHAPES)))
    glyphs = [(GLYPH, i) for i in range(len(words.GLYPHS))]
    nouns["letter"] = nouns["letters"] = tuple(glyphs[: words.N_LETTERS])
    nouns["number"] = nouns["numbers"] = tuple(glyphs[words.N_LETTERS :])
    for kind, index in glyphs:
        word, glyph = words.glyph_name(index).split()
        nouns[f"{word} {glyph}"] = nouns[f"{word}s {glyph}"] = ((kind, index),)
    for index, shape in enumerate(words.SHAPES):
        nouns[shape] = nouns[words.plural_of(shape)] = ((SHAPE, index),)
    for index, item in objects:
        nouns[item.name] = nouns[item.plural] = ((OBJECT, index),)
    return nouns


def _unknown(word: str, known: Mapping[str, Any], what: str) -> ValueError:
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return ValueError(
        f"expected words of the demo world, got {word!r}; {hint}It understands {what} such as "
        f"{', '.join(list(known)[-6:])}, colours ({', '.join(words.COLOURS)}), fills ({', '.join(words.FILLS[1:])}), "
        f"numbers up to {words.NUMBERS[words.MAX_COUNT]}, and backgrounds such as "
        f"{', '.join(repr(phrases[0]) for phrases in list(words.BACKGROUND_PHRASES.values())[2:14:3])}; "
        "all words are in clipviz.demo.world.vocabulary"
    )
