"""The words of the demo world: the things that can be drawn, and their names.

Every index used in the attribute table is a position in one of the tuples below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from clipviz.data import texts

IMAGE_SIZE = 96
"""Side of a rendered image in pixels."""

SPRITE_SIZES = (22, 28, 36, 46, 58, 72)
"""Longest side of a sprite in pixels; two neighbouring sizes share a word: small, medium, large."""


@dataclass(frozen=True)
class ObjectClass:
    """One drawable object: its noun, its plural and the name of its category."""

    name: str
    plural: str
    category: str


_CATALOGUE = {
    "mammal": "monkey dog fox cat lion tiger horse zebra cow pig giraffe elephant rabbit hedgehog bear koala panda "
    "kangaroo",
    "bird": "turkey hen rooster chick robin penguin dove eagle duck swan owl flamingo peacock parrot crow goose",
    "reptile": "frog crocodile turtle snake dragon dinosaur",
    "sea creature": "whale dolphin tropical_fish pufferfish shark octopus jellyfish crab lobster",
    "insect": "snail butterfly bee ladybug spider scorpion",
    "flower": "rose sunflower tulip",
    "plant": "pine_tree palm_tree cactus mushroom",
    "fruit": "grapes watermelon lemon banana pineapple apple cherries strawberry kiwi",
    "vegetable": "avocado eggplant carrot corn broccoli",
    "food": "croissant pancakes hamburger french_fries pizza taco egg popcorn sushi",
    "dessert": "ice_cream doughnut cookie birthday_cake lollipop",
    "drink": "coffee_cup teapot cocktail beer_mug",
    "household item": "fork chair bed door toilet broom",
    "building": "house office_building castle church",
    "vehicle": "train bus ambulance fire_truck car motorcycle bicycle traffic_light",
    "boat": "anchor sailboat ship",
    "aircraft": "airplane parachute helicopter rocket ufo",
    "clock": "hourglass alarm_clock",
    "weather symbol": "moon sun cloud rainbow umbrella lightning_bolt snowflake snowman",
    "party item": "christmas_tree balloon gift_box",
    "sport item": "soccer_ball basketball american_football tennis_racket boxing_glove ice_skate",
    "toy": "kite dice puzzle_piece teddy_bear",
    "stationery item": "book pencil scissors",
    "clothing item": "glasses necktie t-shirt jeans gloves dress backpack sneaker crown top_hat",
    "musical instrument": "saxophone trumpet guitar piano violin drum",
    "gadget": "phone laptop keyboard television camera candle light_bulb",
    "tool": "key hammer axe bomb ladder magnet",
}
_SAME_PLURAL = frozenset(
    {
        "tropical fish",
        "pufferfish",
        "jellyfish",
        "grapes",
        "cherries",
        "pancakes",
        "french fries",
        "popcorn",
        "sushi",
    }
    | {"broccoli", "corn", "glasses", "jeans", "gloves", "scissors", "dice"}
)
_IRREGULAR = {"goose": "geese", "cactus": "cacti"}
PLURAL_ONLY = frozenset(
    {"grapes", "cherries", "pancakes", "french fries", "glasses", "jeans", "gloves", "scissors", "dice"}
    | {"popcorn", "sushi", "corn", "broccoli"}
)
"""Nouns written without an article in the singular."""


def plural_of(noun: str) -> str:
    """Return the plural of one of the world's nouns."""
    if noun in _SAME_PLURAL:
        return noun
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


_NAMED_GLYPH = re.compile(r"\b(?:letter|number) [a-z0-9]$")


def with_article(noun_phrase: str) -> str:
    """Return 'an apple' for 'apple' and 'the red letter a' for 'red letter a'; nouns without an article are
    unchanged.

    A named letter takes a definite article.
    """
    if any(noun_phrase == noun or noun_phrase.endswith(" " + noun) for noun in PLURAL_ONLY):
        return noun_phrase
    return f"the {noun_phrase}" if _NAMED_GLYPH.search(noun_phrase) else texts.with_article(noun_phrase)


OBJECTS = tuple(
    ObjectClass(name, plural_of(name), category)
    for category, names in _CATALOGUE.items()
    for name in (word.replace("_", " ") for word in names.split())
)
OBJECT_NAMES = tuple(item.name for item in OBJECTS)
CATEGORIES = tuple(_CATALOGUE)
CATEGORY_PLURALS = {
    name: {"aircraft": "aircraft", "clothing item": "clothes"}.get(name, plural_of(name))
    for name in CATEGORIES
}
ANIMAL_CATEGORIES = frozenset({"mammal", "reptile", "sea creature", "insect"})
WATERBIRDS = frozenset({"duck", "swan", "flamingo", "penguin", "goose"})
BIRDS = frozenset(item.name for item in OBJECTS if item.category == "bird")

SHAPES = (
    *("circle", "square", "triangle", "star", "heart", "diamond"),
    *("pentagon", "hexagon", "cross", "ring", "crescent", "arrow"),
)
GLYPHS = tuple("abcdefghijklmnopqrstuvwxyz0123456789")
N_LETTERS = 26
KINDS = ("object", "shape", "glyph", "empty")

STYLES = ("3d", "flat", "cartoon")
"""Drawing styles of objects in training; UNSEEN_STYLE is reserved for the second test set."""
UNSEEN_STYLE = "blob"
STYLE_PHRASES = (
    ("a 3d render of", "a 3d image of"),
    ("a flat icon of", "a flat drawing of"),
    ("a cartoon of", "a cartoon drawing of"),
)
COLOURS = (
    *("red", "orange", "yellow", "green", "cyan", "blue"),
    *("purple", "pink", "brown", "black", "white", "gray"),
)
COLOUR_RGB = (
    *((220, 40, 40), (245, 140, 30), (250, 215, 40), (50, 160, 60), (60, 210, 215), (40, 80, 215)),
    *((140, 60, 190), (250, 140, 190), (130, 80, 45), (25, 25, 28), (245, 245, 245), (140, 140, 145)),
)
FILLS = ("solid", "striped", "dotted", "checkered")
SIZES = ("small", "medium", "large")
SIZE_WORDS = (("small", "tiny"), ("medium sized",), ("large", "big", "huge"))
COLUMNS = ("left", "center", "right")
ROWS = ("top", "middle", "bottom")
RELATIONS = ("left of", "above")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
MAX_COUNT = 6

TREATMENTS = ("none", "black and white", "sepia", "blurry", "dark", "grainy", "pixelated")
TREATMENT_PHRASES = (
    (),
    ("black and white", "grayscale"),
    ("sepia", "vintage"),
    ("blurry", "out of focus"),
    ("dark", "dimly lit"),
    ("grainy", "noisy"),
    ("pixelated", "low resolution"),
)

COLOURED_BACKGROUNDS = ("plain", "gradient", "striped", "checkerboard", "polka dot", "zigzag")
"""Backgrounds painted from one or two colours of COLOURS."""
BACKGROUND_PHRASES = {
    "plain": ("on a plain background",),
    "gradient": ("on a gradient background",),
    "striped": ("on a striped background", "on a background with stripes"),
    "checkerboard": ("on a checkerboard background", "on a checkered background"),
    "polka dot": ("on a polka dot background", "on a dotted background"),
    "brick wall": ("in front of a brick wall",),
    "wood": ("on a wooden surface", "on a wooden table"),
    "grid": ("on a grid background", "on graph paper"),
    "zigzag": ("on a zigzag background", "on a zigzag pattern"),
    "water": ("on the water", "in the sea", "on the ocean", "at the lake"),
    "forest": ("in a forest", "in the woods", "among trees"),
    "meadow": ("in a meadow", "on the grass", "in a field of grass"),
    "desert": ("in the desert", "on the sand"),
    "sky": ("in the sky", "in a cloudy sky", "among clouds"),
    "night": ("at night", "under a starry night sky", "in the night sky"),
    "snow": ("in the snow", "in a snowy winter scene"),
    "city": ("in the city", "in front of buildings", "on a city skyline"),
    "sunset": ("at sunset", "in front of a sunset"),
    "mountains": ("in the mountains", "in front of mountains"),
    "road": ("on a road", "on the street"),
}
BACKGROUNDS = tuple(BACKGROUND_PHRASES)
PAINTED_BACKGROUNDS = tuple(name for name in BACKGROUNDS if name not in COLOURED_BACKGROUNDS)
BIRD_GROUPS = ("waterbird/water", "waterbird/forest", "landbird/water", "landbird/forest")
BIRD_GROUP_PHRASES = ("waterbird on water", "waterbird in forest", "landbird on water", "landbird in forest")


def glyph_name(glyph: int) -> str:
    """0 -> 'letter a', 26 -> 'number 0'."""
    return ("letter " if glyph < N_LETTERS else "number ") + GLYPHS[glyph]


CLASSES = OBJECT_NAMES + SHAPES + tuple(glyph_name(index) for index in range(len(GLYPHS)))
"""The `class` column of the attribute table: objects, then shapes, then letters and numbers."""
CLASS_OFFSET = {"object": 0, "shape": len(OBJECT_NAMES), "glyph": len(OBJECT_NAMES) + len(SHAPES)}
