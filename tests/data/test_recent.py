"""The memory of what was used last."""

from __future__ import annotations

from threads import together

from clipviz.data.recent import Recent


def test_the_last_used_are_kept_within_the_cost():
    made = []

    def make(value):
        made.append(value)
        return value

    recent = Recent(10, cost=lambda value: value)
    for value in (4, 5, 4, 3, 5):
        assert recent.get(value, lambda value=value: make(value)) == value
    assert made == [4, 5, 3, 5]  # 4 was used again, so 5 had to go for 3
    assert len(recent) == 2
    assert recent.get(50, lambda: make(50)) == 50
    assert len(recent) == 1  # one too large for the limit is kept alone
    recent.forget(lambda key: key == 50)
    assert len(recent) == 0
    assert recent.get(6, lambda: make(6)) + recent.get(4, lambda: make(4)) == 10
    assert len(recent) == 2  # what was forgotten costs nothing any more


def test_threads_agree_on_one_value():
    recent, found = Recent(5), []
    together(*[lambda: found.append(recent.get(1, object))] * 8)
    assert len(set(map(id, found))) == 1
