"""CLIP's byte pairs for plain English, read from open_clip's vocabulary without importing open_clip.

A session on the demo starts without open_clip, whose import takes longer than all the rest. Texts with other
characters than plain ASCII are cleaned and split by open_clip's own tokenizer, which is imported for them.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

N_BYTES = 256
N_MERGES = 48894
_PLAIN = re.compile(r"[ !-%'-;=-~]*")
"""Printable ASCII without & and <, with which entities and special tokens begin: open_clip's cleaning leaves it as it
is, apart from spaces and capitals.
"""
_PARTS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")


class BytePairs:
    """Texts to token ids [text, context_length] int64, those of open_clip's SimpleTokenizer."""

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length
        self.vocab_size = 2 * N_BYTES + N_MERGES + 2
        self.sot_token_id, self.eot_token_id = self.vocab_size - 2, self.vocab_size - 1

    def __call__(
        self, texts: str | Sequence[str], context_length: int | None = None
    ) -> Int[Tensor, "text token"]:
        texts = [texts] if isinstance(texts, str) else texts
        length = context_length or self.context_length
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in enumerate(texts):
            sentence = [self.sot_token_id, *self.encode(text)[: length - 2], self.eot_token_id]
            ids[row, : len(sentence)] = torch.tensor(sentence)
        return ids

    def encode(self, text: str) -> list[int]:
        """Return a text's token ids, without those of its start and end."""
        if not _PLAIN.fullmatch(text):
            found: list[int] = self.whole.encode(text)
            return found
        return [token for word in _PARTS.findall(text.lower()) for token in _ids(word)]

    @property
    def whole(self) -> Any:
        """open_clip's tokenizer of this context length."""
        from open_clip.tokenizer import SimpleTokenizer

        return _whole(SimpleTokenizer, self.context_length)


@functools.cache
def _whole(kind: Any, context_length: int) -> Any:
    return kind(context_length=context_length)


@functools.lru_cache(maxsize=100_000)
def _ids(word: str) -> tuple[int, ...]:
    """Return the ids of one word of plain characters, whose neighbours are merged in the order of the list of merges.

    The ids of single characters come first, then those of characters that end a word, then those of merges.
    """
    ranks = _merges()
    parts = [*word[:-1], word[-1] + "</w>"]
    ids = [ord(character) - ord("!") for character in word]
    ids[-1] += N_BYTES
    while len(parts) > 1:
        pairs = [f"{one} {other}" for one, other in itertools.pairwise(parts)]
        best = min(pairs, key=lambda pair: ranks.get(pair, N_MERGES))
        if best not in ranks:
            break
        place = 0
        while place < len(parts) - 1:
            if f"{parts[place]} {parts[place + 1]}" == best:
                parts[place : place + 2] = [best.replace(" ", "")]
                ids[place : place + 2] = [2 * N_BYTES + ranks[best]]
            place += 1
    return tuple(ids)


def merged_ids() -> list[tuple[int, int]]:
    """Return the two token ids that each merge joins, in the list's order: merge i makes id 512 + i.

    The list writes each byte as a character: the printable ones of Latin-1 as themselves, and first.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), N_BYTES)]
    characters = [chr(i) for i in [*printable, *range(N_BYTES, 2 * N_BYTES - len(printable))]]
    words = [*characters, *(f"{character}</w>" for character in characters), *_merges()]
    ids = {word.replace(" ", ""): i for i, word in enumerate(words)}
    return [(ids[one], ids[other]) for one, other in map(str.split, _merges())]


@functools.cache
def _merges() -> dict[str, int]:
    """Return each merge's place in the list, by its two parts with a space between."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise ImportError("byte pairs need the package open_clip_torch; pip install open_clip_torch")
    path = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    return dict(zip(lines[1 : N_MERGES + 1], range(N_MERGES), strict=True))
