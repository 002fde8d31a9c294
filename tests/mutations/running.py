"""Runs tests on a copy of the package in which one text is replaced, one process for each, forked with torch loaded."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
COPIED = ("clipviz", "tests", "docs", "pyproject.toml", "README.md")
LOADED = (
    "torch",
    "numpy",
    "sklearn.linear_model",
    "matplotlib.figure",
    "PIL.Image",
    "open_clip",
    "transformers",
    "beartype",
    "hypothesis",
    "jaxtyping",
    "pytest",
)
"""What every test imports or might: loaded once, before the processes part."""
SECONDS = 300
"""After which a test is given up."""


@dataclass(frozen=True)
class Outcome:
    """How the named tests ended: "passed", "failed" by an assertion, or "broken" otherwise, and what was said."""

    verdict: str
    said: str
    seconds: float


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the package and its tests, gone afterwards. The checkout itself is never written to."""
    with tempfile.TemporaryDirectory(prefix="clipviz-mutations-") as folder:
        tree = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, symlinks=True)
            else:
                shutil.copy2(source, tree / name)
        yield tree


def replaced(text: str, old: str, new: str) -> str:
    """A text with its only `old` replaced; ValueError where there is none or are several."""
    n = text.count(old)
    if n != 1:
        raise ValueError(f"expected exactly one {old!r} to replace, got {n}; quote more of the line")
    return text.replace(old, new)


@contextmanager
def mutated(tree: Path, file: str, old: str, new: str, stamp: int) -> Iterator[None]:
    """The copy with one text replaced. stamp: the file's time, another for each, so that no compiled file fits it."""
    path = tree / file
    kept, times = path.read_bytes(), path.stat()
    path.write_bytes(replaced(kept.decode(), old, new).encode())
    os.utime(path, (stamp, stamp))
    try:
        yield
    finally:
        path.write_bytes(kept)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def warm() -> None:
    """Loads what the tests import, once for all of them."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in LOADED:
        with suppress(ImportError):
            importlib.import_module(name)


def outcome(tree: Path, tests: Sequence[str]) -> Outcome:
    """How some tests of the copy end, in a process of their own. tests: below tests/, "lens/test_edits.py::test_x"."""
    began = time.monotonic()
    said = tree / "said.json"
    said.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        code = 1
        try:
            code = _run(tree, tests, said)
        except BaseException:
            said.write_text(json.dumps(["broken", traceback.format_exc()[-800:]]))
        finally:
            os._exit(code)
    ended = _waited(child)
    seconds = time.monotonic() - began
    if not ended:
        return Outcome("broken", f"no end after {SECONDS} s", seconds)
    verdict, words = json.loads(said.read_text()) if said.is_file() else ("broken", "the process died")
    return Outcome(verdict, words, seconds)


def _waited(child: int) -> bool:
    """Waits for a process; False where it had to be ended."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.02)
    os.killpg(child, 9)
    os.waitpid(child, 0)
    return False


def _run(tree: Path, tests: Sequence[str], said: Path) -> int:
    """In the child: pytest on the copy, its package instead of any that is installed."""
    os.setsid()
    os.chdir(tree)
    sys.dont_write_bytecode = True
    for name in [
        name for name in os.environ if name.startswith("PYTEST_")
    ]:  # of a run that this one is within
        del os.environ[name]
    os.environ.update(PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "clipviz")]:
        del sys.modules[name]
    sys.path[:] = [str(tree), *(one for one in sys.path if Path(one or ".").resolve() != ROOT)]
    with open(tree / "output.txt", "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    import pytest

    seen = _Seen(pytest)
    flags = ["-x", "-q", "-p", "no:cacheprovider", "--rootdir", str(tree), "--tb=no"]
    flags += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of plugins that were loaded before
    code = int(pytest.main([*flags, *(f"{tree}/tests/{test}" for test in tests)], plugins=[seen]))
    where = getattr(sys.modules.get("clipviz"), "__file__", None)
    if where is None or not Path(where).is_relative_to(tree):
        seen.broken = f"clipviz was imported from {where}, not from the copy"
    elif code not in (0, 1) and not seen.broken:
        seen.broken = f"pytest ended with {code}: {(tree / 'output.txt').read_text()[-400:]}"
    if seen.broken:
        verdict = "broken", seen.broken
    elif seen.failed:
        verdict = "failed", seen.failed
    else:
        verdict = ("passed", "") if seen.n_passed else ("broken", "nothing was run")
    said.write_text(json.dumps(verdict))
    return code


class _Seen:
    """What pytest reports: a test that an assertion fails is one thing, an error on the way to it another."""

    def __init__(self, pytest: Any) -> None:
        self.asserted = (AssertionError, pytest.fail.Exception)
        self.n_passed, self.failed, self.broken = 0, "", ""

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        if call.excinfo is None:
            self.n_passed += call.when == "call"
            return
        if call.excinfo.errisinstance(_skip()):
            return
        words = f"{item.nodeid.split('::', 1)[1]}: {call.excinfo.exconly()[:300]}"
        if call.when == "call" and call.excinfo.errisinstance(self.asserted):
            self.failed = words
        else:
            self.broken = f"{call.when} of {words}"


def _skip() -> type[BaseException]:
    import pytest

    found: type[BaseException] = pytest.skip.Exception
    return found
