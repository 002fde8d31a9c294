"""Byte pairs read without open_clip are open_clip's, for any text."""

from __future__ import annotations

import string
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipviz.data.texts import open_texts
from clipviz.models.byte_pairs import N_MERGES, BytePairs, _ids, _merges
from clipviz.models.tokens import tokens_of

OURS = BytePairs(24)


@pytest.fixture(scope="module")
def theirs():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=24)


@given(st.text(string.printable, max_size=150))
def test_every_printable_text_has_open_clips_ids(theirs, text):
    assert OURS.encode(text) == theirs.encode(text)


@given(st.text("abdeghilnorstwEST' -.,109", max_size=80))
def test_every_english_text_has_open_clips_ids(theirs, text):
    assert OURS.encode(text) == theirs.encode(text)


@pytest.mark.parametrize(
    "text", ["", "naïve café", "a &amp; b", "x <end_of_text> y", "日本", "don’t", "tab\tand\nline", "a\x7fb"]
)
def test_what_is_not_plain_is_read_by_open_clip_itself(theirs, text):
    assert OURS.encode(text) == theirs.encode(text)


def test_a_pool_has_open_clips_rows_and_length(theirs):
    from open_clip.tokenizer import SimpleTokenizer

    texts = [*list(open_texts("general"))[::40], "word " * 90]
    for length in (6, 24, 77):
        expected = SimpleTokenizer(context_length=length)(texts)
        assert torch.equal(BytePairs(length)(texts), expected)
        assert torch.equal(OURS(texts, length), expected)
    assert torch.equal(OURS("a dog"), theirs("a dog"))


def test_tokens_of_start_and_end_and_the_number_of_tokens_are_open_clips(theirs):
    for name in ("sot_token_id", "eot_token_id", "vocab_size", "context_length"):
        assert getattr(OURS, name) == getattr(theirs, name), name


def test_what_is_exported_is_what_open_clips_tokenizer_exports(theirs):
    ours, other = (tokens_of(SimpleNamespace(tokenizer=one)) for one in (OURS, theirs))
    assert ours == other
    assert (ours.kind, len(ours.files["merges"])) == ("byte pairs", 4 * N_MERGES)


def test_one_vocabulary_serves_all_models():
    assert _merges() is _merges()
    BytePairs(6)("duck"), BytePairs(77)("duck")
    assert _ids("duck") is _ids("duck")
