"""Write clipviz/data/assets/texts/general.tsv: short image descriptions, one characteristic each, in families.

The words and phrasings are in general_words.txt. Item k of a group takes its phrasings in turn, starting at the
k-th, so that neighbours in a list are worded differently. Run it from the repository's root.
"""

import csv
import re
from pathlib import Path

WORDS = Path("tools/demo/general_words.txt")
TARGET = Path("clipviz/data/assets/texts/general.tsv")
VOWEL = re.compile(r"\b([Aa]) (?=[aeio]|u(?!ni|k)|[AEIO]|U(?!n))(?!one|eu)")


def groups():
    """(family, phrasings an item, phrasings, items) of each group."""
    for block in re.split(r"\n\n+", WORDS.read_text(encoding="utf-8").strip()):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        if lines:
            family, per_item = re.fullmatch(r"\[(.+)\] (\d+)", lines[0]).groups()
            phrasings = split(line[2:] for line in lines[1:] if line.startswith("= "))
            yield (
                family,
                int(per_item),
                phrasings,
                split(line for line in lines[1:] if not line.startswith("= ")),
            )


def split(lines):
    return [part.strip() for part in " ".join(lines).split(" | ")]


def phrases(per_item, phrasings, items):
    for k, item in enumerate(items):
        for j in range(per_item):
            text = phrasings[(k + j * (len(phrasings) // per_item)) % len(phrasings)].format(item)
            yield VOWEL.sub(r"\1n ", text[0].upper() + text[1:])


def main():
    families = {}
    seen = set()
    for family, per_item, phrasings, items in groups():
        for text in phrases(per_item, phrasings, items):
            if text.lower() in seen:
                print(f"twice: {text}")
            else:
                families.setdefault(family, []).append(text)
            seen.add(text.lower())
    rows = [(text, family) for family, texts in families.items() for text in texts]
    with TARGET.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        writer.writerows([("text", "family"), *rows])
    print(f"{len(rows)} texts in {len(families)} families")


if __name__ == "__main__":
    main()
