"""Run every benchmark, or those named, and print what was measured beside its budget."""

from __future__ import annotations

import importlib
import platform
import sys
from pathlib import Path


def main() -> int:
    import torch

    here = Path(__file__).parent
    names = sys.argv[1:] or sorted(p.stem for p in here.glob("*.py") if not p.stem.startswith("_"))
    card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {card}, torch {torch.__version__}")
    failed = 0
    for name in names:
        for row in importlib.import_module(f"benchmarks.{name}").run():
            failed += not row["ok"]
            measured = row["measured"]
            shown = measured if isinstance(measured, str) else f"{measured:,.4g}"
            mark = "ok  " if row["ok"] else "OVER"
            print(f"{mark}  {row['what']:78}  {shown:>10}  budget {row['budget']}", flush=True)
    print(f"{failed} over budget" if failed else "all within budget")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
