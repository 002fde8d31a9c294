"""A session of few images, for quizzes whose questions are given."""

from __future__ import annotations

import pytest

import clipviz


@pytest.fixture(scope="module")
def session(model):
    made = clipviz.Session(
        model, clipviz.demo.images().subset(range(4)), ["a dog", "a car"], background=False
    )
    yield made
    made.close()
