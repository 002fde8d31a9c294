"""The most common words of a language as a pool of texts (thesis 3.4), from the optional package wordfreq."""

from __future__ import annotations

import importlib

from clipviz.data.texts import Texts


def common_words(n_words: int = 10_000, language: str = "en") -> Texts:
    """The n most common words, most common first; the thesis takes 10,000 and 30,000 English ones.

    Only words of letters; single letters but "a" and "i" are left out. Raises ImportError where wordfreq is missing.
    """
    if n_words < 1:
        raise ValueError(f"expected n_words >= 1, got {n_words}; the thesis takes 10,000 or 30,000")
    try:
        wordfreq = importlib.import_module("wordfreq")
    except ImportError as error:
        raise ImportError(
            "common words come from the package wordfreq: pip install 'clipviz[words]', or pass a file of words"
        ) from error
    ranked = wordfreq.top_n_list(language, 2 * n_words + 100)
    words = [word for word in ranked if word.isalpha() and (len(word) > 1 or word in ("a", "i"))]
    return Texts(words[:n_words], None, f"{len(words[:n_words]):,} common words")
