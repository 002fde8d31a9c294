"""Pools of texts: the built-in "general", common words, a .txt, .csv or .tsv file, or a list of strings.

A pool is an immutable sequence of distinct texts, each with a family (the kind of property it names) or None.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, overload

from clipviz.data.paths import path_of, shown
from clipviz.values import check_characters

BUILT_IN = "general"
WORDS = re.compile(r"words:([1-9]\d*)")
"""Pattern of a pool's name that stands for the most common English words."""
MAX_LENGTH = 1_000
TEMPLATES = ("{a}", "a photo of {a}", "an image of {a}", "a picture of {a}")

_FAMILIES = {
    "colour": ("colour",),
    "background": ("background colour", "background texture", "location"),
    "image quality": ("treatment", "image quality"),
    "count": ("count",),
    "writing": ("letter or number", "letter", "digit", "written words", "symbol"),
    "texture": ("texture", "pattern", "material"),
    "shape": ("shape", "fill"),
    "place": ("indoor place", "outdoor place", "geography", "building"),
    "season and light": ("season", "weather", "light"),
    "feeling": ("mood", "emotion"),
    "people": ("people", "profession", "body part", "clothing"),
    "animal": ("mammal", "bird", "sea life", "insect", "reptile"),
    "plant": ("plant",),
    "food": ("food", "drink"),
    "object": (
        *("object", "category", "vehicle", "tool", "household object", "furniture", "electronics", "toy"),
        "musical instrument",
    ),
    "action": ("sport", "event", "action", "interaction"),
    "composition": ("composition", "camera angle"),
    "style": ("style", "medium", "art style"),
    "size and position": ("size", "position", "relation"),
}
# family of a pool -> the broad family used in summaries of several texts
BROAD: dict[str, str] = {family: name for name, families in _FAMILIES.items() for family in families}


class Texts(Sequence[str]):
    """An immutable sequence of distinct texts.

    families: [text] the kind of property that each text names, or None; name: the pool's name; dropped: how many
    repeated texts were left out; fingerprint: the hash of the texts in their order.
    """

    def __init__(
        self, texts: Iterable[str], families: Iterable[str | None] | None = None, name: str = "texts"
    ) -> None:
        given = list(texts)
        labels = [None] * len(given) if families is None else list(families)
        if len(labels) != len(given):
            raise ValueError(
                f"expected a family for each of {len(given)} texts, got {len(labels)}; use None for "
                "a text without a family"
            )
        kept: dict[str, str | None] = {}
        for text, family in zip(given, labels, strict=True):
            kept.setdefault(text, family)
        self._texts = tuple(kept)
        self.families: list[str | None] = list(kept.values())
        self.name = name
        self.dropped = len(given) - len(kept)

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"Texts({self.name!r}, {len(self):,} texts, {len(set(self.families) - {None})} families)"

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self._texts[index]

    @functools.cached_property
    def fingerprint(self) -> str:
        return hashlib.blake2b("\n".join(self._texts).encode(), digest_size=6).hexdigest()

    def subset(self, indices: Iterable[int]) -> Texts:
        """Return the texts at `indices`, in that order, with their families."""
        chosen = list(indices)
        return Texts((self._texts[i] for i in chosen), (self.families[i] for i in chosen), self.name)

    def common(self, indices: Iterable[int]) -> tuple[str | None, float]:
        """Return the most frequent broad family of some texts and its share in 0..1 (None, 0 without)."""
        chosen = list(indices)
        counts = Counter(broad(self.families[i]) for i in chosen)
        counts.pop(None, None)
        if not counts:
            return None, 0.0
        family, n_texts = counts.most_common(1)[0]
        return family, n_texts / len(chosen)


def open_texts(source: Any) -> Texts:
    """Open a pool from "general", "words:10000" (the most common words), a .txt file (one text per line), a .csv or
    .tsv file (text[, family]) or a list.

    Blank lines are ignored; repeated texts are dropped and counted in `.dropped`. Raises ValueError for fewer
    than two different texts, for a text that is not a string or is too long, and for a file that is not UTF-8.
    """
    source = getattr(source, "opened", source)  # the texts of a session
    if isinstance(source, Texts):
        return source
    if isinstance(source, str) and source == BUILT_IN:
        return _general()
    if isinstance(source, str) and (common := WORDS.fullmatch(source)):
        return common_words(int(common[1]))
    if isinstance(source, (str, os.PathLike)):
        path = _file(source)
        rows = _rows(path)
        unit = "line 1" if path.suffix.lower() == ".txt" else "row 1"
        return _pool(
            [text for text, _ in rows], [family for _, family in rows], path.stem, repr(str(path)), unit
        )
    listed = isinstance(source, Iterable) and getattr(source, "ndim", 1) == 1
    if listed and not isinstance(source, (bytes, bytearray, dict)):
        return _pool(source, None, "texts", "the list", "text 0")
    raise ValueError(
        f"expected 'general', a .txt, .csv or .tsv file or a list of texts, got {type(source).__name__}"
    )


def class_texts(names: Iterable[str], templates: Sequence[str] | None = None) -> list[list[str]]:
    """Return the prompts of each class, for zero-shot classification: one list per name, one prompt per template.

    A template holds {} for the name or {a} for the name with its article: "a photo of {a}" gives "a photo of
    an owl". Underscores in names become spaces.
    """
    if isinstance(names, str):
        raise ValueError(f"expected a list of class names, got the one string {names!r}; put it into a list")
    names = [_class_name(name) for name in names]
    if not names:
        raise ValueError("expected at least one class name, got none; pass names such as ['cat', 'dog']")
    templates = (
        TEMPLATES if templates is None else [templates] if isinstance(templates, str) else list(templates)
    )
    for template in templates:
        if not isinstance(template, str) or not ("{}" in template or "{a}" in template):
            raise ValueError(
                f"expected a template with {{}} or {{a}} in it, got {template!r}; 'a photo of {{a}}' is one"
            )
    return [[t.replace("{a}", with_article(name)).replace("{}", name) for t in templates] for name in names]


def common_words(n_words: int = 10_000, language: str = "en") -> Texts:
    """Return the n most common words, most common first; the thesis uses 10,000 and 30,000 English ones.

    Words consist of letters only; single letters except "a" and "i" are omitted. Raises ImportError if wordfreq
    is missing.
    """
    if n_words < 1:
        raise ValueError(f"expected n_words >= 1, got {n_words}; the thesis uses 10,000 or 30,000")
    try:
        wordfreq = importlib.import_module("wordfreq")
    except ImportError as error:
        raise ImportError(
            "common words come from the package wordfreq: pip install 'clipviz[words]', or pass a file of words"
        ) from error
    ranked = wordfreq.top_n_list(language, 2 * n_words + 100)
    words = [word for word in ranked if word.isalpha() and (len(word) > 1 or word in ("a", "i"))]
    return Texts(words[:n_words], None, f"{len(words[:n_words]):,} common words")


def with_article(noun: str) -> str:
    """Return a name with its article, as "an owl" or "a unicorn"; a name that has an article is unchanged."""
    lower = noun.lower()
    if lower.startswith(("a ", "an ", "the ")):
        return noun
    silent = lower.startswith(("hour", "honest", "honour", "heir"))
    spoken_as_consonant = lower.startswith(("uni", "use", "eu", "ufo", "one", "uk"))
    return f"{'an' if silent or (lower[:1] in tuple('aeiou') and not spoken_as_consonant) else 'a'} {noun}"


def broad(family: str | None) -> str | None:
    """Return the broad family of a pool's family; an unknown family is returned itself."""
    return family if family is None else BROAD.get(family, family)


@functools.cache
def _general() -> Texts:
    asset = resources.files("clipviz.data") / "assets" / "texts" / f"{BUILT_IN}.tsv"
    rows = _table(asset.read_text(encoding="utf-8"), "\t", BUILT_IN)
    return Texts([text for text, _ in rows], [family for _, family in rows], BUILT_IN)


def _pool(given: Iterable[Any], families: list[str | None] | None, name: str, where: str, unit: str) -> Texts:
    """Return the pool of the texts that are not blank; `unit` is the word for a text in errors, as in "line 1"."""
    word, first = unit.split()
    texts = list[str]()
    for place, text in enumerate(given, int(first)):
        if not isinstance(text, str):
            raise ValueError(
                f"expected a string as {word} {place} of {where}, got {type(text).__name__} {text!r:.60};"
                " write it as text"
            )
        check_characters(f"{word} {place} of {where}", text)
        if len(text.strip()) > MAX_LENGTH:
            raise ValueError(
                f"expected texts of at most {MAX_LENGTH:,} characters, got {len(text):,} in {word} "
                f"{place} of {where}; shorten it, since CLIP reads only a sentence or two"
            )
        texts.append(text)
    kept = [place for place, text in enumerate(texts) if text.strip()]
    clean = [" ".join(texts[place].split()) for place in kept]
    pool = Texts(clean, None if families is None else [families[place] for place in kept], name)
    if len(pool) < 2:
        got = "none" if not pool else f"only {pool[0]!r:.60}"
        raise ValueError(f"expected at least 2 different texts, got {got} in {where}; add texts to compare")
    return pool


def _file(source: str | os.PathLike[str]) -> Path:
    what = "'general', or a .txt, .csv or .tsv file"
    path = path_of(source, what)
    if path.is_file() and path.suffix.lower() in (".txt", ".csv", ".tsv"):
        return path
    if path.is_file():
        raise ValueError(f"expected a .txt, .csv or .tsv file, got {shown(source)!r}; rename or convert it")
    found = (
        "which is a folder; name a file in it" if path.is_dir() else "which does not exist; check the name"
    )
    raise ValueError(f"expected {what}, got {shown(source)[:200]!r}, {found}")


def _rows(path: Path) -> list[tuple[str, str | None]]:
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected UTF-8 text in {str(path)!r}, got byte 0x{error.object[error.start]:02x} at position"
            f" {error.start}; save the file as UTF-8"
        ) from error
    except OSError as error:
        raise ValueError(
            f"expected a file that can be read, got {str(path)!r} ({error.strerror}); check it"
        ) from error
    if "\0" in content:
        raise ValueError(f"expected text in {str(path)!r}, got binary data; save the file as UTF-8 text")
    if path.suffix.lower() == ".txt":
        return [(line, None) for line in content.splitlines()]
    return _table(content, "," if path.suffix.lower() == ".csv" else "\t", repr(str(path)))


def _table(content: str, delimiter: str, where: str) -> list[tuple[str, str | None]]:
    """Yield (text, family) for each row of a table with a header line; quotes are special in .csv only."""
    reader: csv.DictReader[str] = csv.DictReader(
        io.StringIO(content, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE,
    )
    try:
        columns = [str(name).strip().lower() for name in reader.fieldnames or ()]
        if "text" not in columns:
            got = ", ".join(columns)[:200] if columns else "an empty file"
            raise ValueError(
                f"expected a column named 'text' in the first line of {where}, got {got}; add that line"
            )
        reader.fieldnames = columns
        return [(row["text"] or "", (row.get("family") or "").strip() or None) for row in reader]
    except csv.Error as error:
        raise ValueError(
            f"expected a table in {where}, got one that breaks at line {reader.reader.line_num}: {error}"
        ) from error


def _class_name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"expected class names to be words, got {name!r}; write each as text")
    return name.replace("_", " ").strip()
