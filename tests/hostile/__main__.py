"""python -m tests.hostile [NAME ...] [--attempts N] [--seed S]: run the campaigns; exit code 1 when any ended badly."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from .tally import Tally

MEMORY = 12 << 30  # bytes of addresses, of which torch alone takes several GB
HERE = Path(__file__).parent


def campaigns() -> dict[str, Callable[[int, int], Tally]]:
    """Every campaign of every module beside this one, as "module name"."""
    found: dict[str, Callable[[int, int], Tally]] = {}
    for module in pkgutil.iter_modules([str(HERE)]):
        if module.name.startswith(("_", "test_")):
            continue
        loaded = importlib.import_module(f".{module.name}", __package__)
        for name, run in getattr(loaded, "CAMPAIGNS", {}).items():
            found[f"{module.name} {name}"] = run
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="words that a campaign's name must hold")
    parser.add_argument("--attempts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    _bounded()
    n_bad = 0
    print(f"{'campaign':32} {'tried':>7} {'clean':>7} {'bad':>5} {'seconds':>8}")
    for name, run in campaigns().items():
        if not all(word in name for word in options.names):
            continue
        start = time.monotonic()
        tally = run(options.attempts, options.seed)
        seconds = time.monotonic() - start
        print(f"{name:32} {tally.tried:7} {tally.clean:7} {len(tally.bad):5} {seconds:8.1f}", flush=True)
        for line in (*tally.bad[:10], *tally.notes):
            print(f"    {line}", flush=True)
        n_bad += len(tally.bad)
    return 1 if n_bad else 0


def _bounded() -> None:
    """Whatever asks for more memory than a campaign needs fails with MemoryError, and the machine goes on."""
    try:
        import resource
    except ImportError:  # on Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    bound = MEMORY if limit == resource.RLIM_INFINITY else min(limit, MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (bound, limit))


if __name__ == "__main__":
    sys.exit(main())
