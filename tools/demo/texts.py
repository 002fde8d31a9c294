"""The texts of the demo: short sentences about its world, in families of one property each.

    python -m tools.demo.texts

Writes clipviz/demo/assets/texts/demo.tsv. Every sentence is one that a person would say of a picture, is true of some
pictures and false of others, and can be read by the world's grammar, so that `clipviz.demo.world.truth` knows of which
pictures it is true.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from clipviz.demo.shipped import ASSETS
from clipviz.demo.world import vocabulary as words

FORMS = ("a photo of {}", "an image of {}", "a picture of {}")
TEXTURES = (
    *("gradient", "striped", "checkerboard", "polka dot", "brick wall", "wood", "grid", "zigzag"),
    "plain",
)
KINDS = ("shape", "letter", "number", "animal")
STYLED = (
    *("something", "two objects", "three objects", "an animal", "a bird", "a plant", "a vehicle"),
    *("a building", "a tool", "a fruit"),
)
COUNTED = ("things", "shapes", "letters", "numbers", "birds", "animals")
SPOTS = (
    *("on the left", "on the right", "at the top", "at the bottom", "in the center", "in the middle"),
    *("in the top left corner", "in the top right corner"),
    *("in the bottom left corner", "in the bottom right corner"),
)
PAIRS = (
    ("an object", "a shape"),
    ("an object", "a letter"),
    ("an object", "a number"),
    ("a shape", "a letter"),
    ("an animal", "an object"),
)


def families() -> Iterator[tuple[str, list[str]]]:
    """Yield each family with its sentences, in the order of the file."""
    article = words.with_article
    yield "object", [article(name) for name in words.OBJECT_NAMES]
    general = {**words.CATEGORY_PLURALS}
    general.update({name: words.plural_of(name) for name in ("animal", "waterbird", "landbird")})
    yield "category", [text for name, plural in general.items() for text in (article(name), plural)]
    yield (
        "colour",
        [
            text
            for colour in words.COLOURS
            for text in (
                f"something {colour}",
                f"a photo of something {colour}",
                *(article(f"{colour} {kind}") for kind in ("shape", "letter", "number")),
            )
        ],
    )
    yield (
        "shape",
        [
            text
            for shape in words.SHAPES
            for text in (
                article(shape),
                words.plural_of(shape),
                *(form.format(article(shape)) for form in FORMS),
            )
        ],
    )
    glyphs = [article(words.glyph_name(index)) for index in range(len(words.GLYPHS))]
    yield (
        "letter or number",
        [
            *glyphs,
            *(f"an image of {glyph}" for glyph in glyphs[::2]),
            *("a letter", "letters", "a number", "numbers"),
        ],
    )
    yield (
        "fill",
        [
            text
            for fill in words.FILLS[1:]
            for text in (
                f"a {fill} shape",
                f"{fill} shapes",
                f"an image of a {fill} shape",
                f"a photo of a {fill} shape",
                f"a large {fill} shape",
                f"two {fill} shapes",
                *(f"a {fill} {shape}" for shape in words.SHAPES),
            )
        ],
    )
    coloured = [f"on {article(colour)} background" for colour in words.COLOURS]
    yield "background colour", _with(("", "something ", "an object ", "a shape ", "a letter "), coloured)
    textures = [phrase for name in TEXTURES for phrase in words.BACKGROUND_PHRASES[name]]
    yield "background texture", _with(("", "something ", "an object ", "a shape "), textures)
    places = [
        phrase
        for name, phrases in words.BACKGROUND_PHRASES.items()
        if name not in TEXTURES
        for phrase in phrases
    ]
    yield "location", _with(("", "something "), places)
    yield (
        "treatment",
        [
            text
            for treatment in words.TREATMENT_PHRASES
            for word in treatment
            for text in (
                article(f"{word} photo"),
                article(f"{word} image"),
                article(f"{word} picture"),
                article(f"{word} photo of an object"),
                article(f"{word} picture of a shape"),
            )
        ],
    )
    yield "style", [f"{style} {thing}" for style in sum(words.STYLE_PHRASES, ()) for thing in STYLED]
    numbers = (*words.NUMBERS[2:], "several", "many", "a group of")
    yield "count", [*(f"{number} {thing}" for number in numbers for thing in COUNTED), "an empty scene"]
    yield (
        "size",
        [
            text
            for size in sum(words.SIZE_WORDS, ())
            for text in (
                f"something {size}",
                *(article(f"{size} {kind}") for kind in ("object", *KINDS)),
                f"a photo of {article(f'{size} object')}",
                f"an image of {article(f'{size} shape')}",
                f"a picture of {article(f'{size} letter')}",
            )
        ],
    )
    things = (
        "something",
        "an object",
        "a shape",
        "a letter",
        "a photo of something",
        "an image of something",
    )
    yield "position", [f"{thing} {spot}" for spot in SPOTS for thing in things]
    relations = ("to the left of", "to the right of", "above", "below")
    yield (
        "relation",
        [
            *(f"{first} and {second}" for first, second in PAIRS),
            *(
                f"{one} {relation} {other}"
                for relation, pair in product(relations, PAIRS)
                for one, other in (pair, pair[::-1])
            ),
        ],
    )


def _with(starts: tuple[str, ...], phrases: list[str]) -> list[str]:
    return [f"{start}{phrase}" for phrase in phrases for start in starts]


def pool() -> dict[str, str]:
    """Sentence to family; a sentence that two families have belongs to the first."""
    found: dict[str, str] = {}
    for family, texts in families():
        for text in texts:
            found.setdefault(text, family)
    return found


def main(path: Path = ASSETS / "texts" / "demo.tsv") -> None:
    """Write the pool with its families, one sentence a line."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        writer.writerows([("text", "family"), *pool().items()])


if __name__ == "__main__":
    main()
