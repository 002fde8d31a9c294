"""Sentences about scenes: whole captions from varied templates, and the single facts that are true of a scene."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.scene import OBJECT, OWN_COLOUR, SHAPE, Scene, Thing

PHOTO_WORDS = ("photo", "image", "picture")
PREFIXES = ("a photo of", "an image of", "a picture of")
MANY = ("several", "a group of", "many")
POSITIONS = ("left", "right", "top", "bottom", "center")
_POSITION_PHRASES = ("on the left", "on the right", "at the top", "at the bottom", "in the center")


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return one sentence about a scene; rng determines what it mentions and how."""
    colours = scene.shows_colour
    parts = [_opening(scene, rng)]
    if scene.thing is None:
        parts += [_pick(("nothing", "an empty scene"), rng), background_phrase(scene, rng)]
        return " ".join(part for part in parts if part)
    parts.append(_subject(scene, rng, colours))
    places = position_phrases(scene)
    if places and rng.random() < 0.4:
        parts.append(_pick(places, rng))
    if rng.random() < 0.68:
        parts.append(background_phrase(scene, rng))
    return " ".join(part for part in parts if part)


def _opening(scene: Scene, rng: np.random.Generator) -> str:
    if scene.treatment and rng.random() < 0.7:
        word = _pick(words.TREATMENT_PHRASES[scene.treatment], rng)
        return f"{words.with_article(f'{word} {_pick(PHOTO_WORDS, rng)}')} of"
    chance, thing = rng.random(), scene.thing
    if thing is not None and thing.kind == OBJECT and thing.style < len(words.STYLES) and chance < 0.3:
        return _pick(words.STYLE_PHRASES[thing.style], rng)
    return _pick(PREFIXES, rng) if chance < 0.65 else ""


def _subject(scene: Scene, rng: np.random.Generator, colours: bool) -> str:
    if scene.second is None:
        noun = noun_phrase(scene.subject, scene.count, rng, colours, scene.size)
        if scene.count == 1:
            return words.with_article(noun)
        number = words.NUMBERS[scene.count] if rng.random() < 0.85 else _pick(MANY, rng)
        return f"{number} {noun}"
    first = words.with_article(noun_phrase(scene.subject, 1, rng, colours))
    second = words.with_article(noun_phrase(scene.second, 1, rng, colours))
    chance = rng.random()
    if chance < 0.45:
        return f"{first} and {second}"
    if chance < 0.55:
        return f"{second} and {first}"
    if chance < 0.8:
        return f"{first} {('to the left of', 'above')[scene.relation]} {second}"
    return f"{second} {('to the right of', 'below')[scene.relation]} {first}"


def noun_phrase(
    thing: Thing, count: int, rng: np.random.Generator, colours: bool = True, size: int = -1
) -> str:
    """Return a noun phrase such as 'small red striped circles': perhaps adjectives, then the noun or a wider one."""
    adjectives = []
    if size in (0, 2) and rng.random() < 0.5:
        adjectives.append(_pick(words.SIZE_WORDS[size], rng))
    if colours and thing.colour != OWN_COLOUR and rng.random() < 0.75:
        adjectives.append(words.COLOURS[thing.colour])
    if thing.kind == SHAPE and thing.fill and rng.random() < 0.7:
        adjectives.append(words.FILLS[thing.fill])
    return " ".join([*adjectives, noun(thing, count > 1, rng)])


def noun(thing: Thing, plural: bool, rng: np.random.Generator) -> str:
    """Return the thing's name, or sometimes its category: duck, waterbird, bird."""
    chance = rng.random()
    general = None
    if thing.kind == OBJECT:
        item = words.OBJECTS[thing.word]
        if item.category == "bird" and chance < 0.3:
            general = "waterbird" if item.name in words.WATERBIRDS else "landbird"
        elif chance < (0.4 if item.category == "bird" else 0.12):
            if item.category in words.ANIMAL_CATEGORIES and rng.random() < 0.4:
                general = "animal"
            else:
                return words.CATEGORY_PLURALS[item.category] if plural else item.category
        if general is None:
            return item.plural if plural else item.name
    elif thing.kind == SHAPE:
        general = words.SHAPES[thing.word] if chance > 0.06 else "shape"
    else:
        general = "letter" if thing.word < words.N_LETTERS else "number"
        general = words.plural_of(general) if plural else general
        return f"{general} {words.GLYPHS[thing.word]}" if chance < 0.9 else general
    return words.plural_of(general) if plural else general


def background_phrase(scene: Scene, rng: np.random.Generator) -> str:
    """Return a phrase for the background; coloured backgrounds often name their colours."""
    name = words.BACKGROUNDS[scene.background]
    first, second = (words.COLOURS[colour] for colour in scene.background_colours)
    if scene.shows_colour and name == "plain" and rng.random() < 0.9:
        return f"on {words.with_article(first)} background"
    phrase = _pick(words.BACKGROUND_PHRASES[name], rng)
    coloured = name in words.COLOURED_BACKGROUNDS and name != "plain" and phrase.startswith("on a ")
    if coloured and scene.shows_colour and rng.random() < 0.5:
        return f"on {words.with_article(first)} and {second} {phrase.removeprefix('on a ')}"
    return phrase


def position_phrases(scene: Scene) -> tuple[str, ...]:
    """Return the phrases for the position of a single object; () if there is none."""
    if not scene.single:
        return ()
    if scene.column == 1 and scene.row == 1:
        return ("in the center", "in the middle")
    column, row = words.COLUMNS[scene.column], words.ROWS[scene.row]
    phrases = []
    if scene.column != 1:
        phrases.append(f"on the {column}")
    if scene.row != 1:
        phrases.append(f"at the {row}")
    if len(phrases) == 2:
        phrases.append(f"in the {row} {column} corner")
    return tuple(phrases)


def facts(scene: Scene) -> list[tuple[str, int]]:
    """Return all simple facts of a scene: (family of FACTS, index of the value in it)."""
    found = [("background", scene.background), ("treatment", scene.treatment)]
    if scene.shows_colour and words.BACKGROUNDS[scene.background] == "plain":
        found.append(("background colour", scene.background_colours[0]))
    for thing in (scene.thing, scene.second):
        if thing is not None:
            found += _facts_of(thing)
    if scene.thing is None or scene.second is not None:
        return found
    thing = scene.thing
    if scene.shows_colour and thing.colour != OWN_COLOUR:
        found.append(("colour", thing.colour))
    if thing.kind == SHAPE:
        found.append(("fill", thing.fill))
    if thing.kind == OBJECT and thing.style < len(words.STYLES):
        found.append(("style", thing.style))
    found.append(("count", scene.count - 1))
    if scene.single:
        found.append(("size", scene.size))
        found += [("position", POSITIONS.index(word)) for word in _position_words(scene)]
    return found


def _facts_of(thing: Thing) -> list[tuple[str, int]]:
    if thing.kind == OBJECT:
        item = words.OBJECTS[thing.word]
        found = [("object", thing.word), ("category", words.CATEGORIES.index(item.category))]
        if item.category == "bird":
            found.append(("bird", int(item.name not in words.WATERBIRDS)))
        return found
    return [("shape" if thing.kind == SHAPE else "glyph", thing.word)]


def _position_words(scene: Scene) -> list[str]:
    named = [("left", "", "right")[scene.column], ("top", "", "bottom")[scene.row]]
    return [word for word in named if word] or ["center"]


def _named(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Return 'a photo of a duck', 'a duck', ... for every noun phrase."""
    return tuple(
        (*(f"{prefix} {words.with_article(name)}" for prefix in PREFIXES), words.with_article(name))
        for name in names
    )


def _background_facts(name: str) -> tuple[str, ...]:
    return tuple(
        f"{start}{phrase}" for phrase in words.BACKGROUND_PHRASES[name] for start in ("", "something ")
    )


def _treatment_facts(treatment: int) -> tuple[str, ...]:
    if not treatment:
        return ("a photo", "a picture", "an image")
    return tuple(
        words.with_article(f"{word} {noun}")
        for word in words.TREATMENT_PHRASES[treatment]
        for noun in PHOTO_WORDS
    )


FACTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "object": _named(words.OBJECT_NAMES),
    "category": _named(words.CATEGORIES),
    "bird": (("a waterbird", "a photo of a waterbird"), ("a landbird", "a photo of a landbird")),
    "shape": _named(words.SHAPES),
    "glyph": _named(words.glyph_name(index) for index in range(len(words.GLYPHS))),
    "colour": tuple(
        (f"something {colour}", words.with_article(f"{colour} object")) for colour in words.COLOURS
    ),
    "background": tuple(_background_facts(name) for name in words.BACKGROUNDS),
    "background colour": tuple(
        (
            f"on {words.with_article(colour)} background",
            f"something on {words.with_article(colour)} background",
        )
        for colour in words.COLOURS
    ),
    "treatment": tuple(_treatment_facts(index) for index in range(len(words.TREATMENTS))),
    "count": tuple(
        (f"{number} objects" if count else "one object", f"{number} things" if count else "one thing")
        for count, number in enumerate(words.NUMBERS[1:])
    ),
    "size": tuple(
        tuple(words.with_article(f"{size} object") for size in phrases) for phrases in words.SIZE_WORDS
    ),
    "position": tuple((f"something {phrase}", f"an object {phrase}") for phrase in _POSITION_PHRASES),
    "style": tuple(tuple(f"{phrase} something" for phrase in phrases) for phrases in words.STYLE_PHRASES),
    "fill": tuple((f"a {fill} shape", f"a photo of a {fill} shape") for fill in words.FILLS),
}
"""For every family of facts, for every value, the sentences that state it: the prompts of the zero-shot tests."""
