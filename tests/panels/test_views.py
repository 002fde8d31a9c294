"""The views' types: the file for TypeScript is that of the TypedDicts, and a wrong view is noticed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import pytest

from clipviz.panels.core.sent import CodeSizes, Floats, Ints
from clipviz.panels.heads.sent import HeadsArrays, HeadsView
from clipviz.panels.heatmap.sent import BaselineArrays
from clipviz.session import BASELINES, POOLED_BASELINES
from panels.views import faults, view_faults

TOOL = Path(__file__).parents[2] / "tools/js/views.py"
HEADS = {
    "n_layers": 2,
    "n_heads": 3,
    "has_tail": False,
    "kept": [0, 1],
    "cosine": None,
    "cosine_before": 0.25,
    "summaries": {"0,1": {"label": "colour", "p": 0.01, "texts": ["red"], "role": ""}},
    "waits": "",
    "found": [],
}


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("views_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Small(TypedDict, total=False):
    """An example."""

    kind: Literal["a", "b"]
    pairs: list[tuple[int, str]]
    maybe: list[float | None]
    named: dict[str, CodeSizes] | None
    values: Floats


def test_the_file_for_typescript_is_not_old(tool):
    assert tool.TYPES.read_text(encoding="utf-8") == tool.written(), "run python tools/js/views.py"


def test_a_class_by_hand(tool):
    assert tool.interface(Small).splitlines() == [
        "/** An example. */",
        "interface Small {",
        '  kind?: "a" | "b";',
        "  pairs?: [number, string][];",
        "  maybe?: (number | null)[];",
        "  named?: Record<string, CodeSizes> | null;",
        "  values?: Float32Array;",
        "}",
    ]
    assert tool.typescript(Any) == "any"
    assert tool.typescript(Ints) == "Int32Array"
    with pytest.raises(TypeError, match="that JSON or an array has, got <class 'set'>"):
        tool.typescript(set)


def test_a_view_is_compared_with_its_class():
    assert view_faults({**HEADS, "seq": 1, "removed": ""}, HeadsView) == []
    assert (
        faults({"heads": np.zeros((2, 3), np.float32), "mlps": np.zeros(3, np.float32)}, HeadsArrays, "a")
        == []
    )
    for wrong, words in (
        ({**HEADS, "kept": [0, 1.5]}, r"view.kept[1]: expected int, got 1.5"),
        ({**HEADS, "has_tail": 0}, "view.has_tail: expected bool, got 0"),
        ({**HEADS, "cosine": np.float32(1)}, "view.cosine: expected "),
        ({**HEADS, "more": 1}, "view: 'more' is not in HeadsView"),
        ({name: HEADS[name] for name in HEADS if name != "waits"}, "view: 'waits' is missing"),
        ({**HEADS, "summaries": {"0,1": {"label": "colour"}}}, "view.summaries['0,1']: 'p' is missing"),
        ({**HEADS, "seq": "1"}, "view.seq: expected int, got '1'"),
    ):
        found = view_faults(wrong, HeadsView)
        assert any(one.startswith(words) for one in found), (words, found)
    assert faults({"heads": np.zeros(2), "mlps": np.zeros(2, np.float32)}, HeadsArrays, "a") == [
        "a.heads: expected float32, got float64"
    ]


def test_every_baseline_has_an_array():
    assert set(BaselineArrays.__annotations__) == {*BASELINES, *POOLED_BASELINES}
