"""Write clipviz/demo/assets/texts/demo.tsv: the demo world's own attributes in the phrasing of its captions.

Object and category names are those of the embedded collection, so run this again (from the repository's root)
whenever that collection is replaced. Families are of similar size, about 60 texts, because a family with many
texts wins by its number.
"""

import csv
import json
import zipfile
from collections import Counter
from itertools import product
from pathlib import Path

COLLECTION = Path("clipviz/demo/assets/collection.zip")
TARGET = Path("clipviz/demo/assets/texts/demo.tsv")
SIZE = 60

COLOURS = "red|orange|yellow|green|cyan|blue|purple|pink|brown|black|white|gray"
SHAPES = "circle|square|triangle|star|heart|diamond|pentagon|hexagon|cross|ring|crescent|arrow"
NUMBERS = ["two", "three", "four", "five", "six"]
PLACES = [
    "on the water|in the sea|on the ocean|at the lake|in a forest|in the woods|among trees|in a meadow|on the grass",
    "in a field of grass|in the desert|on the sand|in the sky|in a cloudy sky|among clouds|at night",
    "under a starry night sky|in the night sky|in the snow|in a snowy winter scene|in the city|in front of buildings",
    "on a city skyline|at sunset|in front of a sunset|in the mountains|in front of mountains|on a road|on the street",
]
TEXTURES = [
    "on a gradient background|on a striped background|on a background with stripes|on a checkerboard background",
    "on a checkered background|on a polka dot background|on a dotted background|in front of a brick wall",
    "on a wooden surface|on a wooden table|on a grid background|on graph paper|on a zigzag background",
    "on a zigzag pattern|on a plain background",
]
TREATMENTS = (
    "black and white|grayscale|sepia|vintage|blurry|out of focus|dark|dimly lit|grainy|noisy|pixelated"
    "|low resolution"
)
STYLES = "a 3d render of|a 3d image of|a flat icon of|a flat drawing of|a cartoon of|a cartoon drawing of"
SPOTS = [
    "on the left|on the right|at the top|at the bottom|in the center|in the middle|in the top left corner",
    "in the top right corner|in the bottom left corner|in the bottom right corner",
]
UNCOUNTED = {"bread", "popcorn", "spaghetti", "sushi", "corn", "garlic", "broccoli", "grapes", "french fries"}


PLURALS_ALREADY = (
    "pancakes|cherries|blueberries|peanuts|glasses|sunglasses|jeans"
    "|gloves|socks|skis|dice|maracas|books|scissors|fries"
)
PLURALS = {"clothing item": "clothes", "aircraft": "aircraft"}


def article(noun):
    if noun in UNCOUNTED or noun.split()[-1] in PLURALS_ALREADY.split("|"):
        return noun
    vowel = noun[0] in "aeiou" and not noun.startswith(("uni", "ufo"))
    return f"{'an' if vowel else 'a'} {noun}"


def objects_and_categories():
    with zipfile.ZipFile(COLLECTION) as archive:
        table = json.loads(archive.read("attributes.json"))
    words, column = table["vocabularies"], {name: k for k, name in enumerate(table["columns"])}
    found = {}
    for row in table["rows"]:
        kind, name, category = (row[column[key]] for key in ("kind", "class", "category"))
        if kind is not None and words["kind"][kind] == "object":
            found[words["class"][name]] = words["category"][category]
    order = {name: k for k, name in enumerate(words["class"])}
    return dict(sorted(found.items(), key=lambda pair: order[pair[0]]))


def spread(found):
    """About SIZE objects, the same share of every category, in the vocabulary's order."""
    share = SIZE / len(found)
    taken, chosen = Counter(), []
    for category in dict.fromkeys(found.values()):
        names = [name for name in found if found[name] == category]
        n = max(1, round(share * len(names)))
        chosen += [names[int((k + 0.5) * len(names) / n)] for k in range(n)]
        taken[category] = n
    return chosen


def plural(noun):
    if noun in PLURALS:
        return PLURALS[noun]
    return noun + ("es" if noun.endswith("s") else "s")


def families():
    found = objects_and_categories()
    categories = list(dict.fromkeys(found.values()))
    yield "object", [article(name) for name in spread(found)]
    yield "category", [text for name in categories for text in (article(name), plural(name))]
    yield (
        "colour",
        [
            form.format(name)
            for name in COLOURS.split("|")
            for form in (
                "something {}",
                f"{article(name).split()[0]} {{}} object",
                "a photo of something {}",
                "an image of something {}",
                "a picture of something {}",
            )
        ],
    )
    yield (
        "shape",
        [
            form.format(name)
            for name in SHAPES.split("|")
            for form in (
                f"{article(name).split()[0]} {{}}",
                plural(name),
                *(f"{start} of {article(name)}" for start in ("a photo", "an image", "a picture")),
            )
        ],
    )
    glyphs = [f"letter {c}" for c in "abcdefghijklmnopqrstuvwxyz"] + [f"number {c}" for c in "0123456789"]
    yield (
        "letter or number",
        [f"a {glyph}" for glyph in glyphs]
        + [f"an image of a {glyph}" for glyph in glyphs[::2]]
        + [
            "a letter",
            "letters",
            "a number",
            "numbers",
            "two letters",
            "six letters",
            "two numbers",
            "six numbers",
        ],
    )
    yield (
        "fill",
        [
            f"{start}{fill} {shape}"
            for fill in ("striped", "dotted", "checkered")
            for start, shape in [
                ("a ", "shape"),
                ("an image of a ", "shape"),
                ("a photo of a ", "shape"),
                ("a large ", "shape"),
                *(("a ", name) for name in SHAPES.split("|")),
                *(("two ", "shapes"), ("six ", "shapes")),
            ]
        ],
    )
    colour_forms = (
        "on {} background",
        "something on {} background",
        "nothing on {} background",
        "an empty scene on {} background",
        "a photo of nothing on {} background",
    )
    yield (
        "background colour",
        [form.format(article(name)) for name in COLOURS.split("|") for form in colour_forms],
    )
    textures = "|".join(TEXTURES).split("|")
    yield (
        "background texture",
        [
            f"{start}{text}"
            for text, start in product(textures, ("", "something ", "nothing ", "an empty scene "))
        ],
    )
    places = "|".join(PLACES).split("|")
    yield "location", [f"{start}{text}" for text, start in product(places, ("", "something "))]
    yield (
        "treatment",
        [
            f"{article(name)} {noun}"
            for name in TREATMENTS.split("|")
            for noun in ("photo", "image", "picture", "photo of nothing", "image of an empty scene")
        ],
    )
    yield (
        "style",
        [
            f"{style} {thing}"
            for style in STYLES.split("|")
            for thing in (
                "something",
                "two objects",
                "six objects",
                "an animal",
                "a bird",
                "a plant",
                "a vehicle",
                "a building",
                "a tool",
            )
        ],
    )
    yield (
        "count",
        [
            f"{number} {thing}"
            for number in [*NUMBERS, "several", "many", "a group of"]
            for thing in ("objects", "shapes", "letters", "numbers", "birds", "small objects", "animals")
        ]
        + ["one object", "nothing", "an empty scene"],
    )
    yield (
        "size",
        [
            f"{start}{size} {thing}"
            for size in ("small", "tiny", "medium sized", "large", "big", "huge")
            for start, thing in (
                ("a ", "object"),
                ("a ", "shape"),
                ("a ", "letter"),
                ("a ", "number"),
                ("a ", "animal"),
                ("a photo of a ", "object"),
                ("an image of a ", "object"),
                ("a picture of a ", "object"),
                ("a photo of a ", "shape"),
            )
        ],
    )
    spots = "|".join(SPOTS).split("|")
    yield (
        "position",
        [
            f"{thing} {spot}"
            for spot in spots
            for thing in (
                "something",
                "an object",
                "a shape",
                "a photo of something",
                "an image of something",
                "a picture of something",
            )
        ],
    )
    pairs = [
        ("an object", "a shape"),
        ("a shape", "an object"),
        ("an object", "a letter"),
        ("a letter", "a shape"),
        ("a shape", "a number"),
        ("an object", "an animal"),
        ("an animal", "an object"),
        ("a letter", "an object"),
        ("a number", "a letter"),
        ("a shape", "a letter"),
    ]
    yield (
        "relation",
        [
            f"{first} {relation} {second}"
            for relation in ("and", "to the left of", "to the right of", "above", "below")
            for first, second in pairs
        ],
    )


def main():
    seen, rows = set(), []
    for family, texts in families():
        fresh = [text for text in dict.fromkeys(texts) if text not in seen]
        seen.update(fresh)
        rows += [(text, family) for text in fresh]
        print(f"{len(fresh):4} {family}")
    with TARGET.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        writer.writerows([("text", "family"), *rows])
    print(f"{len(rows)} texts")


if __name__ == "__main__":
    main()
