"""The command that makes the demo again: what has changed is made again, in order, and nothing else."""

from __future__ import annotations

import json

import pytest

from tools.demo import __main__ as demo
from tools.demo import cards, steps
from tools.demo.steps import Ledger, Step, run


@pytest.fixture
def kitchen(tmp_path):
    """Dough rests on flour, bread on dough; the log says what was made."""
    made = []

    def step(name, rests_on, makes, **how):
        def work():
            made.append(name)
            text = (tmp_path / rests_on).read_text()
            (tmp_path / makes).write_text(f"{name} of {text}")

        return Step(name, f"make {name}", (rests_on,), (makes,), work, **how)

    (tmp_path / "flour").write_text("flour")
    steps = [step("dough", "flour", "dough"), step("bread", "dough", "bread")]
    return tmp_path, steps, made, lambda: Ledger(tmp_path / "made.json", tmp_path)


def test_a_second_run_does_nothing_and_a_change_runs_what_rests_on_it(kitchen):
    folder, steps, made, ledger = kitchen
    assert run(steps, ledger(), print=lambda _: None) == 2
    assert run(steps, ledger(), print=lambda _: None) == 0
    (folder / "flour").write_text("rye")
    assert run(steps, ledger(), print=lambda _: None) == 2
    assert (folder / "bread").read_text() == "bread of dough of rye"
    (folder / "bread").write_text("stale")
    assert run(steps, ledger(), print=lambda _: None) == 1
    assert made == ["dough", "bread", "dough", "bread", "bread"]


def test_a_run_that_failed_goes_on_where_it_stopped(kitchen):
    _, steps, made, ledger = kitchen

    def burn():
        raise OSError("burnt")

    broken = [steps[0], Step("bread", "make bread", ("dough",), ("bread",), burn)]
    with pytest.raises(OSError, match="burnt"):
        run(broken, ledger(), print=lambda _: None)
    assert run(steps, ledger(), print=lambda _: None) == 1
    assert made == ["dough", "bread"]


def test_two_runs_beside_each_other_keep_what_both_recorded(kitchen):
    folder, steps, _, ledger = kitchen
    (folder / "dough").write_text("dough")
    one, other = ledger(), ledger()
    one.record(steps[0])
    other.record(steps[1])
    one.record(steps[0])
    assert list(ledger().known) == ["dough", "bread"]


def test_long_steps_run_only_where_they_are_named(kitchen):
    _, steps, _, ledger = kitchen
    told = []
    slow = [Step("dough", "knead", ("flour",), ("dough",), steps[0].run, long=True)]
    assert run(slow, ledger(), print=told.append) == 0
    assert "hours" in told[0]
    assert run(slow, ledger(), ["dough"], print=told.append) == 1
    with pytest.raises(ValueError, match="expected steps among dough, got cake"):
        run(slow, ledger(), ["cake"])


def test_every_step_of_the_demo_rests_on_files_that_are_there():
    names = [step.name for step in demo.STEPS]
    assert len(names) == len(set(names))
    recorded = Ledger(demo.ROOT / "tools/demo/made.json", demo.ROOT).known
    for step in demo.STEPS:  # one that was never recorded has made nothing yet
        for pattern in (*step.rests_on, *(step.makes if step.name in recorded else ())):
            assert any(demo.ROOT.glob(pattern)), f"{step.name}: {pattern}"


REPORT = """# A card

## In short

Words.

| what | measured |
| --- | --- |
| colours | 0.99 |

More words.

| what | n |
| --- | --- |
| scenes | 4,000 |

## Elsewhere
"""


def test_words_about_code_are_no_change_of_it_and_code_is(tmp_path):
    path = tmp_path / "made.py"

    def digest(source: str) -> str:
        path.write_text(source)
        return steps.digest(tmp_path, ["*.py"])

    plain = digest("def f(a):\n    return a + 1\n")
    assert digest('"""About."""\n\ndef f(a):\n    """Add."""  # one\n    return (a + 1)\n') == plain
    assert digest("def f(a):\n    return a + 2\n") != plain
    assert digest("def f(a):\n    return a + 1\nX = 'a text'\n") != plain
    assert steps.code_of('class A:\n    """Nothing else."""\n') == "class A:\n    pass"


def test_the_order_of_names_in_a_header_is_no_change_of_a_file_and_a_number_is(tmp_path):
    path = tmp_path / "made.safetensors"

    def digest(names: dict[str, str], number: int) -> str:
        header = json.dumps({"__metadata__": names}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes([number]))
        return steps.digest(tmp_path, ["*.safetensors"])

    plain = digest({"a": "1", "b": "2"}, 7)
    assert digest({"b": "2", "a": "1"}, 7) == plain
    assert digest({"a": "1", "b": "2"}, 8) != plain
    assert digest({"a": "1", "b": "3"}, 7) != plain


def test_tables_of_a_report_take_their_places():
    place = "before\n<!-- table: world / In short / 2 -->\nold\n<!-- end of table -->\nafter\n"
    filled = cards.filled(place, {"world": REPORT})
    assert filled.splitlines() == [
        "before",
        "<!-- table: world / In short / 2 -->",
        *("| what | n |", "| --- | --- |", "| scenes | 4,000 |"),
        "<!-- end of table -->",
        "after",
    ]
    assert cards.filled(filled, {"world": REPORT}) == filled
    two = place.replace("/ 2", "/ 1") + place
    # each place has its own table
    assert cards.filled(two, {"world": REPORT}).count("| scenes | 4,000 |") == 1
    assert cards.filled(two, {"world": REPORT}).count("| colours | 0.99 |") == 1
    with pytest.raises(ValueError, match="expected table 3 of section 'In short'"):
        cards.filled(place.replace("/ 2", "/ 3"), {"world": REPORT})
    with pytest.raises(ValueError, match="expected a report among"):
        cards.filled(place, {"chapter4": REPORT})
    assert cards.filled(place, {"world": None}) == place  # not made: what stands there stays


def test_a_paragraph_takes_its_place():
    place = "before\n<!-- text: repair -->\n*old*\n<!-- end of text -->\nafter\n"
    assert cards.said(place, "repair", "*new*") == place.replace("old", "new")
    with pytest.raises(ValueError, match="expected one place for the text 'first view', got 0"):
        cards.said(place, "first view", "*new*")
