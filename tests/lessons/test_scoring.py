"""Scores against chance, and codes of answers."""

from __future__ import annotations

import itertools
import math

import pytest
from scipy.stats import binomtest

from clipviz.lessons import decode, encode, score
from clipviz.lessons.scoring import SKIPPED


@pytest.mark.parametrize(
    ("n_right", "n", "n_options"), [(0, 12, 4), (3, 12, 4), (9, 12, 4), (7, 12, 2), (300, 500, 2)]
)
def test_a_score_is_the_exact_binomial_test_and_wilsons_interval(n_right, n, n_options):
    found = score([True] * n_right + [False] * (n - n_right), 1 / n_options)
    literal = binomtest(n_right, n, 1 / n_options, alternative="greater")
    assert found.p_value == pytest.approx(literal.pvalue, abs=1e-12)
    wilson = binomtest(n_right, n).proportion_ci(method="wilson")
    assert (found.right.low, found.right.high) == pytest.approx((wilson.low, wilson.high), abs=1e-9)
    assert found.above_chance == (wilson.low > 1 / n_options)
    assert found.chance == 1 / n_options


def test_a_score_says_what_it_is_compared_with():
    assert str(score([True] * 9 + [False] * 3, 0.25)) == (
        "9 of 12 right: 75% (47% to 91%). Guessing gives 25%, which is less."
    )
    assert "Guessing gives 50%, which may explain it." in str(score([True, False], 0.5))
    assert str(score([], 0.25)) == "No question has been answered."
    with pytest.raises(ValueError, match=r"a chance between 0 and 1 for each of 1 answers, got \[1\]"):
        score([True], 1)
    with pytest.raises(ValueError, match="for each of 2 answers, got 1"):
        score([True, True], [0.5])


def test_guesses_at_questions_of_different_chance_are_counted_one_by_one():
    chances = (0.25, 0.5, 0.1, 3 / 7)
    for n_right in range(5):
        right = [place < n_right for place in range(4)]
        literal = sum(
            math.prod(p if hit else 1 - p for p, hit in zip(chances, guesses, strict=True))
            for guesses in itertools.product((False, True), repeat=4)
            if sum(guesses) >= n_right
        )
        found = score(right, chances)
        assert found.p_value == pytest.approx(literal, abs=1e-12)
        assert found.chance == pytest.approx(sum(chances) / 4)


def test_codes_give_the_answers_back_and_notice_mistyped_letters():
    answers = [0, 3, SKIPPED, 2, 1, 0, 0, 3, 3, 1, SKIPPED, 2]
    code = encode(answers, "head-12ab34")
    assert decode(f" {code.upper()} ", "head-12ab34") == answers
    assert decode(encode([], "q"), "q") == []
    with pytest.raises(ValueError, match="mistyped or answers another quiz"):
        decode(code, "head-12ab35")
    missed = 0
    for at, letter in enumerate(code):
        if letter != "-":
            changed = code[:at] + ("a" if letter != "a" else "b") + code[at + 1 :]
            try:
                missed += decode(changed, "head-12ab34") != answers
            except ValueError:
                continue
    assert missed == 0
    for bad in ("", "!!!", "a", code[:-1]):
        with pytest.raises(ValueError, match="expected a code of the quiz"):
            decode(bad, "head-12ab34")
    with pytest.raises(ValueError, match=r"within -1..254, got \[255\]"):
        encode([255], "q")
