"""The content of one picture of the demo world, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from clipviz.demo.world import vocabulary as words

OBJECT, SHAPE, GLYPH, EMPTY = range(4)
OWN_COLOUR = -1
UNSEEN_STYLE = len(words.STYLES)
WATER = words.BACKGROUNDS.index("water")
FOREST = words.BACKGROUNDS.index("forest")


@dataclass(frozen=True)
class Thing:
    """An object, a shape or a glyph, by its index in the vocabulary of its kind.

    style: drawing style of an object, font of a glyph, unused for shapes. colour: index in COLOURS, or
    OWN_COLOUR for an object in the colours it was drawn with. fill: index in FILLS, for shapes.
    """

    kind: int
    word: int
    style: int = 0
    colour: int = OWN_COLOUR
    fill: int = 0

    @property
    def name(self) -> str:
        return words.CLASSES[self.class_index]

    @property
    def class_index(self) -> int:
        """Position in vocabulary.CLASSES."""
        return words.CLASS_OFFSET[words.KINDS[self.kind]] + self.word

    @property
    def category(self) -> str:
        if self.kind == OBJECT:
            return words.OBJECTS[self.word].category
        if self.kind == SHAPE:
            return "shape"
        return "letter" if self.word < words.N_LETTERS else "number"


@dataclass(frozen=True)
class Scene:
    """One picture: a background, `count` copies of a thing, or a thing and a second one.

    sprite_size, column and row place a single thing (index in SPRITE_SIZES, COLUMNS, ROWS); -1 if the layout is
    random. relation: how `thing` stands to `second`, index in RELATIONS. background_colours: indices in COLOURS,
    used by the backgrounds in COLOURED_BACKGROUNDS.
    """

    background: int
    background_colours: tuple[int, int]
    thing: Thing | None = None
    count: int = 0
    sprite_size: int = -1
    column: int = -1
    row: int = -1
    second: Thing | None = None
    relation: int = -1
    treatment: int = 0

    @property
    def subject(self) -> Thing:
        """The first object. Raises ValueError for an empty scene."""
        if self.thing is None:
            raise ValueError(
                "expected a scene with a thing in it, got an empty one; look at scene.thing first"
            )
        return self.thing

    @property
    def single(self) -> bool:
        return self.count == 1 and self.second is None

    @property
    def size(self) -> int:
        """Index in SIZES of a single thing, else -1."""
        return self.sprite_size // 2 if self.single else -1

    @property
    def shows_colour(self) -> bool:
        return words.TREATMENTS[self.treatment] not in ("black and white", "sepia")

    @property
    def bird_group(self) -> int:
        """Index in BIRD_GROUPS of a lone kind of bird over water or in a forest, else -1."""
        if self.thing is None or self.thing.category != "bird" or self.second is not None:
            return -1
        if self.background not in (WATER, FOREST):
            return -1
        return 2 * (self.thing.name not in words.WATERBIRDS) + (self.background == FOREST)


ATTRIBUTE_COLUMNS = (
    *("kind", "class", "category", "style", "colour", "fill", "count", "size", "column", "row"),
    *("background", "background colour", "background colour 2", "treatment"),
    *("second kind", "second class", "second style", "second colour", "relation", "bird group"),
)
_CATEGORIES = (*words.CATEGORIES, "shape", "letter", "number")
_STYLES = (*words.STYLES, words.UNSEEN_STYLE)
VOCABULARIES = {
    "kind": words.KINDS,
    "class": words.CLASSES,
    "category": _CATEGORIES,
    "style": _STYLES,
    "colour": words.COLOURS,
    "fill": words.FILLS,
    "size": words.SIZES,
    "column": words.COLUMNS,
    "row": words.ROWS,
    "background": words.BACKGROUNDS,
    "background colour": words.COLOURS,
    "background colour 2": words.COLOURS,
    "treatment": words.TREATMENTS,
    "second kind": words.KINDS,
    "second class": words.CLASSES,
    "second style": _STYLES,
    "second colour": words.COLOURS,
    "relation": words.RELATIONS,
    "bird group": words.BIRD_GROUPS,
}
"""The names behind the indices of each attribute column; `count` is a plain number, -1 means "does not apply"."""


def attributes(scene: Scene) -> tuple[int, ...]:
    """Return the row of the attribute table that describes a scene, in the order of ATTRIBUTE_COLUMNS."""
    first, second = scene.thing, scene.second
    coloured = words.BACKGROUNDS[scene.background] in words.COLOURED_BACKGROUNDS
    plain = words.BACKGROUNDS[scene.background] == "plain"
    return (
        EMPTY if first is None else first.kind,
        -1 if first is None else first.class_index,
        -1 if first is None else _CATEGORIES.index(first.category),
        first.style if first is not None and first.kind == OBJECT else -1,
        OWN_COLOUR if first is None else first.colour,
        first.fill if first is not None and first.kind == SHAPE else -1,
        scene.count if second is None else 2,
        scene.size,
        scene.column,
        scene.row,
        scene.background,
        scene.background_colours[0] if coloured else -1,
        scene.background_colours[1] if coloured and not plain else -1,
        scene.treatment,
        -1 if second is None else second.kind,
        -1 if second is None else second.class_index,
        second.style if second is not None and second.kind == OBJECT else -1,
        -1 if second is None else second.colour,
        scene.relation,
        scene.bird_group,
    )
