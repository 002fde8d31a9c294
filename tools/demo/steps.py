"""Steps that make files out of files: each is run where what it rests on, or what it made, is not as it was left."""

from __future__ import annotations

import ast
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipviz.files import write_whole


@dataclass(frozen=True)
class Step:
    """One thing that is made.

    rests_on, makes: patterns of files below the root; a change of either asks for the step again. run: makes it.
    long: hours rather than minutes, so that it is run only where it is named.
    """

    name: str
    what: str
    rests_on: tuple[str, ...]
    makes: tuple[str, ...]
    run: Callable[[], None]
    long: bool = False


class Ledger:
    """What the steps rested on and what they made, by content, in one JSON file that is kept in the repository."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root

    @property
    def known(self) -> dict[str, dict[str, str]]:
        """What was recorded until now, by another run beside this one too."""
        return json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}

    def reason(self, step: Step) -> str:
        """Why a step has to be run, "" where nothing of it has changed."""
        known = self.known.get(step.name)
        if known is None:
            return "it was never recorded"
        now = self._now(step)
        if known["rests on"] != now["rests on"]:
            return "what it rests on has changed"
        return "" if known["makes"] == now["makes"] else "what it made is not as it was left"

    def record(self, step: Step) -> None:
        """Keep how the step's files are now."""
        now = self._now(step)
        write_whole(self.path, (json.dumps({**self.known, step.name: now}, indent=1) + "\n").encode())

    def _now(self, step: Step) -> dict[str, str]:
        return {"rests on": digest(self.root, step.rests_on), "makes": digest(self.root, step.makes)}


def digest(root: Path, patterns: Iterable[str]) -> str:
    """Return a hash of the names and contents of all files that the patterns find.

    Of Python files the code counts, and neither layout, comments nor docstrings do. Of safetensors the order of names
    in the header does not count, which differs from one writing to the next.
    """
    total = hashlib.sha256()
    for pattern in patterns:
        paths = sorted(
            path for path in root.glob(pattern) if path.is_file() and "__pycache__" not in path.parts
        )
        for path in paths:
            total.update(path.relative_to(root).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(content_of(path)).digest())
    return total.hexdigest()[:16]


def content_of(path: Path) -> bytes:
    """Return what counts of a file."""
    if path.suffix == ".py":
        return code_of(path.read_text("utf-8")).encode()
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        end = 8 + int.from_bytes(content[:8], "little")
        return json.dumps(json.loads(content[8:end]), sort_keys=True).encode() + content[end:]
    return content


def code_of(source: str) -> str:
    """Return Python code in one layout, without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def run(steps: Sequence[Step], ledger: Ledger, named: Sequence[str] = (), print: Callable = print) -> int:
    """Run the steps that are due, in order, and record each as it ends; returns how many were run.

    named: only these, due or not. A step that fails stops the run, and a later run goes on from there.
    Raises ValueError for a name that no step has.
    """
    unknown = sorted(set(named) - {step.name for step in steps})
    if unknown:
        raise ValueError(
            f"expected steps among {', '.join(step.name for step in steps)}, got {', '.join(unknown)}"
        )
    n_run = 0
    for step in steps:
        why = "it was asked for" if step.name in named else ledger.reason(step)
        if (named and step.name not in named) or not why:
            continue
        if step.long and step.name not in named:
            print(f"{step.name}: not run, since it takes hours ({why}); name it to run it")
            continue
        print(f"{step.name}: {step.what} ({why})")
        started = time.monotonic()
        step.run()
        ledger.record(step)
        n_run += 1
        print(f"{step.name}: {time.monotonic() - started:.0f} s")
    return n_run
