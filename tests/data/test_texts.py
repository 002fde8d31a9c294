import sys
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipviz import demo
from clipviz.data.texts import (
    BROAD,
    MAX_LENGTH,
    Texts,
    broad,
    class_texts,
    common_words,
    open_texts,
    with_article,
)
from clipviz.demo.world.vocabulary import OBJECT_NAMES
from tools.demo.texts import pool


def pool_of(name):
    return demo.texts() if name == "demo" else open_texts(name)


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# the built-in pools


@pytest.mark.parametrize(("name", "least", "families"), [("general", 3_000, 30), ("demo", 700, 12)])
def test_built_in_pools(name, least, families):
    pool = pool_of(name)
    assert len(pool) >= least
    assert len(set(pool.families)) >= families
    assert pool.name == name
    assert pool.dropped == 0
    assert pool_of(name) is pool
    assert None not in pool.families


@pytest.mark.parametrize("name", ["general", "demo"])
def test_built_in_texts_are_short_and_different(name):
    pool = pool_of(name)
    assert len({text.lower() for text in pool}) == len(pool)
    assert all(1 <= len(text.split()) <= 12 for text in pool)
    assert all(text == " ".join(text.split()) for text in pool)
    assert not any(text.endswith(".") for text in pool)


def test_general_texts_start_with_a_capital_and_demo_texts_are_lower_case():
    assert all(text[0].isupper() or text[0].isdigit() for text in open_texts("general"))
    assert all(text == text.lower() for text in demo.texts())


@pytest.mark.parametrize("name", ["general", "demo"])
def test_articles_agree_with_the_next_word(name):
    for text in pool_of(name):
        words = text.split()
        for word, after in pairwise(words):
            if word.lower() in ("a", "an") and after[:1].isalpha() and len(after) > 1 and not after.isupper():
                spoken = "an" if after == "X-ray" else with_article(after).split()[0]
                assert word.lower() == spoken, text


def test_demo_families_are_balanced():
    """All but the objects, of which every class is named, so that the texts nearest to a picture can name it."""
    sizes = Counter(demo.texts().families)
    assert sizes.pop("object") == len(OBJECT_NAMES)
    assert max(sizes.values()) <= 75
    assert min(sizes.values()) >= 40


def test_every_built_in_family_has_a_broad_family():
    for name in ("general", "demo"):
        assert set(pool_of(name).families) <= set(BROAD)
    assert broad("location") == broad("background texture") == broad("background colour") == "background"
    assert broad("category") == broad("object") == "object"
    assert broad("a family of my own") == "a family of my own"
    assert broad(None) is None


def test_the_demos_pool_is_as_its_grammar_writes_it():
    assert dict(zip(demo.texts(), demo.texts().families, strict=True)) == pool()


# what a pool is


def test_common_names_the_most_frequent_broad_family():
    pool = Texts(
        ["at sea", "on a red background", "a cat", "a dog", "in a wood"],
        ["location", "background colour", "object", "object", "location"],
    )
    assert pool.common([0, 1, 4, 2]) == ("background", 0.75)
    assert pool.common([2, 3]) == ("object", 1.0)
    assert pool.common([]) == (None, 0.0)
    assert Texts(["a", "b"]).common([0, 1]) == (None, 0.0)


def test_fingerprint_follows_the_texts_and_their_order():
    assert Texts("ab").fingerprint == Texts("ab", name="other").fingerprint
    assert len({Texts(texts).fingerprint for texts in ("ab", "ba", "abc")}) == 3


def test_subset_keeps_families():
    pool = Texts(["a", "b", "c"], ["x", "y", None]).subset([2, 0])
    assert list(pool) == ["c", "a"]
    assert pool.families == [None, "x"]


def test_families_must_be_as_many_as_texts():
    with pytest.raises(ValueError, match="a family for each of 2 texts, got 1"):
        Texts("ab", ["x"])


@given(st.lists(st.text(alphabet="ab \t<>&'\"é猫", max_size=6), max_size=8))
def test_a_list_keeps_its_different_texts_in_order(texts):
    clean = list(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))
    if len(clean) < 2:
        with pytest.raises(ValueError, match="at least 2 different texts"):
            open_texts(texts)
    else:
        assert list(open_texts(texts)) == clean


def test_pool_is_returned_as_it_is():
    pool = open_texts(["a", "b"])
    assert open_texts(pool) is pool
    assert repr(pool) == "Texts('texts', 2 texts, 0 families)"


# files


def test_text_file_with_bom_crlf_and_blank_lines(write):
    pool = open_texts(write("mine.txt", b"\xef\xbb\xbfa red car\r\n\r\n  a cat \r\n\r\na red car\r\n"))
    assert list(pool) == ["a red car", "a cat"]
    assert pool.families == [None, None]
    assert (pool.name, pool.dropped) == ("mine", 1)


def test_texts_keep_markup_and_quotes_as_letters(write):
    texts = ["<script>alert('x')</script>", 'a "quoted" cat', "it's, well, & <b>"]
    assert list(open_texts(write("mine.txt", "\n".join(texts)))) == texts
    assert list(open_texts(texts)) == texts
    assert list(open_texts(write("mine.tsv", "text\n" + "\n".join(texts)))) == texts


def test_csv_with_families_and_quotes(write):
    pool = open_texts(write("mine.csv", 'Family, Text\nplace,"a town, at night"\n,a cat\nplace,\n'))
    assert list(pool) == ["a town, at night", "a cat"]
    assert pool.families == ["place", None]


def test_tsv_without_families(write):
    assert open_texts(str(write("mine.tsv", "id\ttext\n1\ta\n2\tb\n"))).families == [None, None]


# bad input


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", r"at least 2 different texts, got none in '.*empty\.txt'; add texts"),
        ("blank.txt", "\n \n\t\n", "at least 2 different texts, got none"),
        ("one.txt", "a cat\n", "got only 'a cat' in"),
        ("same.txt", "a cat\na cat\n", "got only 'a cat' in"),
        (
            "latin.txt",
            "caf\xe9 au lait".encode("latin-1"),
            "expected UTF-8 text in .*byte 0xe9 at position 3; save",
        ),
        ("wide.txt", "a cat\na dog".encode("utf-16"), "expected UTF-8 text"),
        ("binary.txt", b"a\0b\nc", "got binary data"),
        ("long.txt", "a cat\n" + "x" * (MAX_LENGTH + 1), "at most 1,000 characters, got 1,001 in line 2 of"),
        (
            "head.csv",
            "word,family\na,b\n",
            "a column named 'text' in the first line of .*, got word, family; add",
        ),
        ("none.csv", "", "a column named 'text' .* got an empty file"),
        ("huge.csv", "text\n" + "x" * 140_000 + "\n", "breaks at line 2: field larger"),
        ("mine.docx", "a\nb\n", r"a \.txt, \.csv or \.tsv file, got '.*mine\.docx'; rename or convert"),
    ],
)
def test_bad_files(write, name, content, message):
    with pytest.raises(ValueError, match=message):
        open_texts(write(name, content))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("genral", "expected 'general', or .* got 'genral', which does not exist; check the name"),
        ("/", "which is a folder; name a file in it"),
        ("a\0b", "got 'a"),
        (None, "a list of texts, got NoneType"),
        (b"a\nb", "got bytes"),
        (7, "got int"),
        ({"a": 1}, "got dict"),
        ([], "got none in the list"),
        (["a cat"], "got only 'a cat' in the list"),
        (["a cat", 3], "a string as text 1 of the list, got int 3; write it as text"),
        (["a cat", None], "got NoneType None"),
        (["a", "x" * 5000], "got 5,000 in text 1 of the list; shorten it"),
    ],
)
def test_what_is_not_a_pool_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        open_texts(source)


# prompts of classes


def test_class_texts_fill_templates():
    assert class_texts(["owl", "fire_truck"], ["a photo of {a}", "{}s", "the {} and {a}"]) == [
        ["a photo of an owl", "owls", "the owl and an owl"],
        ["a photo of a fire truck", "fire trucks", "the fire truck and a fire truck"],
    ]
    assert class_texts(["cat"], "just {}") == [["just cat"]]
    assert [len(texts) for texts in class_texts(["cat", "dog"])] == [4, 4]


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("owl", "an owl"),
        ("cat", "a cat"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"),
        ("UFO", "a UFO"),
        ("a cat", "a cat"),
        ("The Hague", "The Hague"),
    ],
)
def test_articles(noun, expected):
    assert with_article(noun) == expected


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        ("cat", None, "got the one string 'cat'; put it into a list"),
        ([], None, "at least one class name, got none"),
        (["cat", 3], None, "class names to be words, got 3"),
        ([" "], None, "class names to be words, got ' '"),
        (["cat"], ["a photo"], r"a template with \{\} or \{a\} in it, got 'a photo'"),
        (["cat"], [None], "got None"),
    ],
)
def test_bad_classes(names, templates, message):
    with pytest.raises(ValueError, match=message):
        class_texts(names, templates)


# common words


def test_words_in_order_without_numbers_and_letters(monkeypatch):
    ranked = ["the", "of", "a", "s", "2", "it's", "dog", "i", "café", "cat"]
    stand_in = SimpleNamespace(top_n_list=lambda language, n: ranked[:n])
    monkeypatch.setitem(sys.modules, "wordfreq", stand_in)
    assert list(common_words(5)) == ["the", "of", "a", "dog", "i"]
    assert common_words(5).name == "5 common words"
    with pytest.raises(ValueError, match="expected n_words >= 1"):
        common_words(0)


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(ImportError, match=r"pip install 'clipviz\[words\]'"):
        common_words(10)


def test_an_array_of_texts_is_a_list_of_them():
    pool = open_texts(np.array(["a dog", "a cat"]))
    assert list(pool) == ["a dog", "a cat"]
    assert all(type(text) is str for text in pool)
    for wrong in (np.array("a dog"), np.array([["a dog", "a cat"]])):
        with pytest.raises(ValueError, match="a list of texts, got ndarray"):
            open_texts(wrong)
    with pytest.raises(ValueError, match="a string as text 0 of the list, got int64"):
        open_texts(np.array([1, 2]))
