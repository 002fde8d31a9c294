"""python -m tests.mutations [ROW ...]: apply the mutations of some lines of docs/thesis.md, or of all, to a copy.

The test that a line names has to fail by an assertion; a mutation that it lets pass is a finding, and the exit code
is 1. What was found is kept in build/mutations.jsonl, from which an interrupted run goes on; --fresh forgets it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from . import running
from .table import MUTATIONS, Mutation, named_by, tenth

Finding = dict[str, Any]
"""verdict, said and seconds, as running.Outcome has them."""

KEPT = running.ROOT / "build" / "mutations.jsonl"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help='lines, such as "Equation 3.1" or Figure')
    parser.add_argument("--fresh", action="store_true", help="run again what was found before")
    parser.add_argument(
        "--tenth", type=int, metavar="DAY", help="a tenth of all, another each day, nothing kept"
    )
    options = parser.parse_args(arguments)
    chosen = MUTATIONS if options.tenth is None else tenth(options.tenth)
    if options.rows:
        chosen = [
            one for one in chosen if any(_meant(word, row) for word in options.rows for row in one.rows)
        ]
    kept = {} if options.fresh or options.tenth is not None else _kept()
    running.warm()
    began, n_killed, checked = time.monotonic(), 0, set()
    with running.copied() as tree:
        for place, one in enumerate(chosen):
            key, tests = _key(tree, one), named_by(one)
            if key not in kept:
                if options.tenth is None and tests not in checked:  # else make test runs them beside these
                    _check(tree, tests)
                    checked.add(tests)
                kept[key] = _found(tree, one, place)
                if options.tenth is None:
                    _keep(key, kept[key])
            n_killed += kept[key]["verdict"] == "failed"
            print(_line(one, kept[key]), flush=True)
    seconds, n_left = time.monotonic() - began, len(chosen) - n_killed
    n_rows = len({row for one in chosen for row in one.rows})
    print(f"{n_rows} rows, {len(chosen)} mutations, {n_killed} killed, {n_left} not, {seconds:.0f} s")
    return 1 if n_left else 0


def _line(one: Mutation, found: Finding) -> str:
    word = {"failed": "killed", "passed": "SURVIVED", "broken": "BROKEN"}[found["verdict"]]
    said = found["said"].splitlines() or [""]
    return f"{word:9} {found['seconds']:6.1f} s  {', '.join(one.rows)}: {one.lie}\n{'':20}{said[0][:160]}"


def _meant(word: str, row: str) -> bool:
    return row == word or row.startswith(f"{word} ") or row.endswith(f" {word}")


def _check(tree: Path, tests: tuple[str, ...]) -> None:
    """The named tests pass on the copy as it is: else their failing says nothing."""
    found = running.outcome(tree, tests)
    if found.verdict != "passed":
        raise SystemExit(f"{', '.join(tests)} {found.verdict} without a mutation: {found.said}")


def _found(tree: Path, one: Mutation, place: int) -> Finding:
    with running.mutated(tree, one.file, one.old, one.new, stamp=1_000_000 + 10 * place):
        found = running.outcome(tree, named_by(one))
    return {"verdict": found.verdict, "said": found.said, "seconds": round(found.seconds, 1)}


def _key(tree: Path, one: Mutation) -> str:
    """What a finding rests on: the mutation, the file that it changes and those of its tests, as they were copied."""
    files = [one.file, *(f"tests/{test.split('::')[0]}" for test in named_by(one))]
    told = [one.old, one.new, *named_by(one), *((tree / file).read_text() for file in files)]
    return hashlib.blake2b("\n".join(told).encode(), digest_size=12).hexdigest()


def _kept() -> dict[str, Finding]:
    lines = KEPT.read_text().splitlines() if KEPT.is_file() else []
    return {found.pop("key"): found for found in map(json.loads, lines)}


def _keep(key: str, found: Finding) -> None:
    KEPT.parent.mkdir(exist_ok=True)
    with KEPT.open("a") as stream:
        stream.write(json.dumps({"key": key, **found}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
