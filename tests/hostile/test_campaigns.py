"""Every campaign in its short form."""

from __future__ import annotations

import pytest

from .__main__ import campaigns

FOUND = campaigns()
ELSEWHERE = "processes kill points"  # briefly in tests/indexing/test_crash.py


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures(
    "unchecked_shapes"
)  # a wrong argument meets clipviz's own error, as it does for users
@pytest.mark.parametrize("name", [name for name in FOUND if name != ELSEWHERE])
def test_a_short_campaign_ends_without_anything_bad(name):
    tally = FOUND[name](25, 1)
    assert tally.tried >= 20
    assert tally.clean + len(tally.bad) == tally.tried
    assert not tally.bad
