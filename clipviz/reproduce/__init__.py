"""The thesis's tables and figures, chapter by chapter: numbers, a Markdown report, figures.

    clipviz reproduce all [--model ViT-L-14 --pretrained laion2b_s32b_b82k --data FOLDER] [--quick]
    clipviz.reproduce.run("chapter2", "demo", "reproduction").tables
Every chapter is a folder here with `chapter.run(model, out, **options) -> Path of its report`; `everything` runs
all of them and writes one page. Finished steps are stored beside the report, so that an interrupted run continues
where it stopped.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipviz import extras

if TYPE_CHECKING:
    from clipviz.reproduce.report import Written

ALL = "all"
_MODULES = {
    "world": "world.chapter",
    "chapter2": "chapter2.chapter",
    "chapter3": "chapter3.chapter",
    "chapter4": "chapter4.chapter",
    "all": "everything",
}
CHAPTERS = tuple(name for name in _MODULES if name != ALL)


def run(chapter: str, model: Any = "demo", out: str | Path = "reproduction", **options: Any) -> Written:
    """Reproduce one chapter, or all of them.

    Args:
        chapter: One of CHAPTERS, or "all".
        model: A ClipModel, or a name for `clipviz.load` (with pretrained=...).
        out: Folder for the report, its figures and finished steps.
        options: The options of the chapter.

    Returns:
        The written report: its path, and its tables and figures as values.

    Raises:
        ValueError: The chapter or an option does not exist.
        ImportError: The extra `reports` is not installed.
    """
    if chapter not in _MODULES:
        raise ValueError(f"expected a chapter among {', '.join(CHAPTERS)}, or all, got {chapter!r}")
    if lacking := extras.lacking("reports"):
        raise ImportError(f"reports hold interactive charts, and {lacking}")
    reproduce = importlib.import_module(f"clipviz.reproduce.{_MODULES[chapter]}").run
    taken = inspect.signature(reproduce).parameters
    known = [name for name in taken if name not in ("model", "out")]
    judges_itself = any(taken[name].kind is inspect.Parameter.VAR_KEYWORD for name in known)
    unknown = [] if judges_itself else sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"expected options of {chapter} ({', '.join(known)}), got {', '.join(unknown)}; leave them out"
        )
    from clipviz.reproduce.report import Written

    made = reproduce(model, Path(out), **options)
    return made if isinstance(made, Written) else Written.read(Path(out), chapter)
