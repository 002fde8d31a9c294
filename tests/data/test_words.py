"""Common words, from a stand-in of the package, and what is said where it is missing."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from clipviz.data.words import common_words


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
