"""A pool that two threads encode at once, a notebook's and the worker's, holds every text once."""

from __future__ import annotations

import time

import torch
from threads import together

from clipviz.analysis.collection.text_pool import BATCH, TextPool
from clipviz.data.cache import Cache
from clipviz.data.texts import open_texts


class Slow:
    """A model that encodes a text as its number, and takes its time."""

    device = torch.device("cpu")
    name = "slow"

    def encode_texts(self, texts):
        time.sleep(0.01)
        return torch.tensor([[float(text.split()[1])] for text in texts])


def test_two_threads_encode_every_text_once():
    texts = open_texts([f"number {i}" for i in range(4 * BATCH + 5)])
    pool, found = TextPool(Slow(), texts, Cache(None)), []
    together(*[lambda: found.append(pool.directions())] * 3)
    expected = torch.arange(len(texts), dtype=torch.float32)[:, None]
    assert len(found) == 3
    assert all(torch.equal(one, expected) for one in found)
