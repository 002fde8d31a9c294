"""What is said of an edit: by its true scene, by a locator, by the maps."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from clipviz.lens import verdicts


def seen(count=1, x=0.4, y=0.5, area=0.1):
    return SimpleNamespace(count=[count], centroid=[np.array([x, y])], area=[area])


@pytest.mark.parametrize(
    ("change", "after", "wrong"),
    [
        ("remove", seen(0), set()),
        ("remove", seen(1), {"number"}),
        ("copy", seen(2), set()),
        ("copy", seen(1), {"number"}),
        ("zoom", seen(x=0.65), set()),
        ("zoom", seen(), {"place"}),
        ("zoom", seen(2, x=0.65), {"number"}),
        ("zoom", seen(x=0.65, area=0.16), {"size"}),
    ],
)
def test_a_locator_sees_what_is_wrong(change, after, wrong):
    found = verdicts.by_locator(seen(), after, change, 0.25, 0.0, 1.0)
    assert {part for part, right in found.items() if not right} == wrong
    verdict = verdicts.of_parts(found, change, verdicts.LOCATOR, 0.7)
    assert verdict.done == (not wrong)
    assert verdict.words.startswith(
        "Not done, according to the locator: " if wrong else "Done, according to the locator."
    )


def test_a_zoom_moves_away_from_the_middle_and_grows():
    found = verdicts.by_locator(seen(), seen(x=0.3, area=0.4), "zoom", 0.0, 0.0, 2.0)
    assert all(found.values())


def test_what_cannot_be_seen_is_left_to_the_maps():
    assert verdicts.by_locator(seen(0), seen(0), "zoom", 0.2, 0.0, 1.0) is None
    assert verdicts.by_locator(seen(2), seen(2), "copy", 0.0, 0.0, 1.0) is None
    assert verdicts.by_locator(seen(), seen(), "amplify", 0.0, 0.0, 1.6) is None
    assert verdicts.by_maps(0.8).words == "The maps came 80% of the way to the requested ones."
    assert verdicts.by_maps(0.004).words == "Not done. The maps came 0% of the way to the requested ones."
    assert not verdicts.by_maps(-0.3).done


def test_every_part_has_its_words():
    parts = {"number": [True], "place": [False], "size": [True], "ground": [False]}
    verdict = verdicts.of_parts(parts, "shift", verdicts.TRUTH, 0.2)
    assert verdict.words == (
        "Not done, according to the true scene: "
        "the object is not where it was requested and the background has changed."
    )
    gone = verdicts.of_parts({"number": [False]}, "remove", verdicts.TRUTH, 0.9)
    assert gone.wrong == ("the object, or part of it, is still there",)
