"""Random scenes: free ones, groups that share all but a few attributes, and the birds and their places."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.scene import EMPTY, FOREST, GLYPH, OBJECT, OWN_COLOUR, SHAPE, WATER, Scene, Thing
from clipviz.demo.world.sprites import has_unseen_style

N_COLOURS = len(words.COLOURS)
PLAIN = words.BACKGROUNDS.index("plain")
GRADIENT = words.BACKGROUNDS.index("gradient")
KIND_SHARES = (0.58, 0.17, 0.22, 0.03)
TREATED_SHARE = 0.22
COLOURED_OBJECT_SHARE = 0.22
LAYOUT_SHARES = {"single": 0.60, "several": 0.26, "pair": 0.14}
_HABITATS = {
    "mammal": ("meadow", "forest", "desert", "mountains"),
    "sea creature": ("water",),
    "insect": ("meadow", "forest"),
    "reptile": ("desert", "forest"),
    "flower": ("meadow",),
    "plant": ("meadow", "forest", "desert"),
    "boat": ("water",),
    "vehicle": ("road", "city"),
    "aircraft": ("sky", "night", "sunset"),
    "building": ("city", "mountains", "sunset"),
    "food": ("wood", "checkerboard"),
    "fruit": ("wood",),
    "vegetable": ("wood",),
    "drink": ("wood",),
    "dessert": ("wood", "polka dot"),
    "weather symbol": ("sky", "night"),
    "clothing item": ("striped",),
    "tool": ("brick wall", "grid"),
    "stationery item": ("grid", "wood"),
}
HABITAT_SHARE = 0.25
"""How often an object other than a bird is placed where its category belongs."""

BIRD_PLACE_SHARE = 0.9
"""How often a bird is in one of the two bird places rather than anywhere."""

_BACKGROUND_SHARES = np.cumsum([0.19, *[0.05] * 5, *[0.035] * 3, *[0.05] * 11])


@dataclass(frozen=True)
class Theme:
    """What the scenes of a group have in common, so that only the rest varies. None leaves a choice free."""

    kind: int | None = None
    background: int | None = None
    background_colours: tuple[int, int] | None = None
    category: str | None = None
    colour: int | None = None
    layout: str | None = None
    large: bool = False
    plain: bool = False


def sample_scene(
    rng: np.random.Generator, theme: Theme = Theme(), correlation: float = 0.8, unseen_views: bool = False
) -> Scene:
    """Return a random scene that agrees with the theme.

    correlation: share of birds over the place they belong to (waterbirds on water, landbirds in a forest);
    unseen_views: use the drawing style and the font that do not occur in training.
    """
    kind = (
        theme.kind if theme.kind is not None else int(np.searchsorted(np.cumsum(KIND_SHARES), rng.random()))
    )
    kind = min(kind, EMPTY)
    if kind == EMPTY:
        return _with_treatment(_backdrop(rng, theme), rng)
    thing = sample_thing(kind, rng, theme, unseen_views)
    scene = replace(_backdrop(rng, theme, thing, correlation), thing=thing, count=1)
    layout = theme.layout or _choose(LAYOUT_SHARES, rng)
    if layout == "several":
        scene = replace(scene, count=int(rng.integers(2, words.MAX_COUNT + 1)))
    elif layout == "pair":
        other = (OBJECT, OBJECT, OBJECT, SHAPE, GLYPH)[rng.integers(5)]
        second = sample_thing(other, rng, Theme(), unseen_views)
        while second.class_index == thing.class_index:
            second = sample_thing(other, rng, Theme(), unseen_views)
        scene = replace(scene, second=second, relation=int(rng.integers(2)))
    else:
        scene = _with_place(scene, rng, theme.large)
    return scene if theme.plain else _with_treatment(scene, rng)


def _choose(shares: dict[str, float], rng: np.random.Generator) -> str:
    names = tuple(shares)
    return names[min(int(np.searchsorted(np.cumsum(tuple(shares.values())), rng.random())), len(names) - 1)]


def _with_place(scene: Scene, rng: np.random.Generator, large: bool) -> Scene:
    biased = large or (scene.subject.kind != OBJECT and rng.random() < 0.5)
    size = int(rng.integers(4, 6) if biased else rng.integers(len(words.SPRITE_SIZES)))
    centred = size == len(words.SPRITE_SIZES) - 1
    column, row = (1, 1) if centred else rng.integers(0, 3, 2).tolist()
    return replace(scene, sprite_size=size, column=column, row=row)


def _with_treatment(scene: Scene, rng: np.random.Generator) -> Scene:
    if rng.random() >= TREATED_SHARE:
        return scene
    return replace(scene, treatment=int(rng.integers(1, len(words.TREATMENTS))))


@functools.cache
def _members(category: str | None) -> tuple[int, ...]:
    """Return the objects to choose from, with birds twice, since their places must be learnt too."""
    if category is not None:
        return tuple(i for i, item in enumerate(words.OBJECTS) if item.category == category)
    birds = tuple(i for i, item in enumerate(words.OBJECTS) if item.name in words.BIRDS)
    return (*range(len(words.OBJECTS)), *birds)


@functools.cache
def _unseen_members(category: str | None) -> tuple[int, ...]:
    return tuple(i for i in _members(category) if has_unseen_style(words.OBJECT_NAMES[i]))


def sample_thing(
    kind: int, rng: np.random.Generator, theme: Theme = Theme(), unseen_views: bool = False
) -> Thing:
    colour = theme.colour if theme.colour is not None else int(rng.integers(N_COLOURS))
    style = len(words.STYLES) if unseen_views else int(rng.integers(len(words.STYLES)))
    if kind == OBJECT:
        members = (_unseen_members if unseen_views else _members)(theme.category)
        word = members[rng.integers(len(members))]
        own = theme.colour is None and rng.random() >= COLOURED_OBJECT_SHARE
        return Thing(OBJECT, word, style, OWN_COLOUR if own else colour)
    if kind == SHAPE:
        fill = 0 if rng.random() < 0.6 else int(rng.integers(1, len(words.FILLS)))
        return Thing(SHAPE, int(rng.integers(len(words.SHAPES))), 0, colour, fill)
    return Thing(GLYPH, int(rng.integers(len(words.GLYPHS))), style, colour)


def _backdrop(
    rng: np.random.Generator, theme: Theme, thing: Thing | None = None, correlation: float = 0.8
) -> Scene:
    background = theme.background
    if background is None:
        background = min(int(np.searchsorted(_BACKGROUND_SHARES, rng.random())), len(words.BACKGROUNDS) - 1)
        if thing is not None and thing.kind == OBJECT:
            background = _habitat(thing, background, correlation, rng)
    first, second = theme.background_colours or _two_colours(rng)
    if thing is not None and thing.colour == first and background in (PLAIN, GRADIENT):
        first = (first + 1 + int(rng.integers(N_COLOURS - 1))) % N_COLOURS
        second = second if second != first else thing.colour
    return Scene(background, (first, second))


def _two_colours(rng: np.random.Generator) -> tuple[int, int]:
    first = int(rng.integers(N_COLOURS))
    return first, (first + 1 + int(rng.integers(N_COLOURS - 1))) % N_COLOURS


def _habitat(thing: Thing, background: int, correlation: float, rng: np.random.Generator) -> int:
    """Choose a habitat: birds are mostly in their own place, other objects sometimes where they belong."""
    if thing.category == "bird":
        home, away = (WATER, FOREST) if thing.name in words.WATERBIRDS else (FOREST, WATER)
        if rng.random() < BIRD_PLACE_SHARE:
            return home if rng.random() < correlation else away
        return background
    places = _HABITATS.get(thing.category)
    if places and rng.random() < HABITAT_SHARE:
        return words.BACKGROUNDS.index(places[rng.integers(len(places))])
    return background


def sample_theme(rng: np.random.Generator) -> Theme:
    """Return a theme for a group of hard negatives: same kind and background, often same category, colour or layout."""
    kind = (OBJECT, OBJECT, OBJECT, OBJECT, SHAPE, GLYPH, GLYPH)[rng.integers(7)]
    background = min(int(np.searchsorted(_BACKGROUND_SHARES, rng.random())), len(words.BACKGROUNDS) - 1)
    first, second = _two_colours(rng)
    category = colour = None
    if kind == OBJECT and rng.random() < 0.3:
        category = words.CATEGORIES[rng.integers(len(words.CATEGORIES))]
        if len(_members(category)) < 8 or category == "bird":
            category = None
    if kind != OBJECT and rng.random() < 0.5:
        colour = (first + 1 + int(rng.integers(N_COLOURS - 1))) % N_COLOURS
    layout = _choose({"several": 0.2, "single": 0.5, "": 0.3}, rng) or None
    return Theme(
        kind, background, (first, second), category, colour, layout, rng.random() < 0.4, rng.random() < 0.6
    )


def spotlight_theme(rng: np.random.Generator) -> Theme:
    """Return a theme of single large shapes or glyphs on one background, untreated: the curriculum of fine forms."""
    kind = (SHAPE, GLYPH, GLYPH)[rng.integers(3)]
    return Theme(kind, PLAIN, _two_colours(rng), layout="single", large=True, plain=True)


def counting_theme(rng: np.random.Generator) -> Theme:
    """Return a theme of two to six copies on one background, untreated: the curriculum of counting."""
    kind = (OBJECT, OBJECT, SHAPE, GLYPH)[rng.integers(4)]
    return Theme(kind, PLAIN, _two_colours(rng), layout="several", plain=True)


def bird_scene(group: int, rng: np.random.Generator, painted: bool = True) -> Scene:
    """Return a lone bird, untreated: the test of thesis 2.3. group: index in BIRD_GROUPS.

    painted: in a random colour. In its own colours a bird is recognised anywhere; painted, it is ambiguous enough
    for its place to matter.
    """
    members = tuple(i for i in _members("bird") if (words.OBJECT_NAMES[i] in words.WATERBIRDS) == (group < 2))
    bird, style = members[rng.integers(len(members))], int(rng.integers(len(words.STYLES)))
    colours = _two_colours(rng)
    thing = Thing(OBJECT, bird, style, colours[0] if painted else OWN_COLOUR)
    scene = Scene((WATER, FOREST)[group % 2], colours, thing, 1)
    return _with_place(scene, rng, large=False)
