"""Run all chapters and write one page that shows them: `clipviz reproduce all`.

Finished chapters are stored beside the report, like finished steps, so that an interrupted run continues where it
stopped.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clipviz.data.images import open_images
from clipviz.loading import load
from clipviz.models.clip import ClipModel
from clipviz.reproduce.evaluation import in_demo_world
from clipviz.reproduce.page import write_page
from clipviz.reproduce.pools import named_pools
from clipviz.reproduce.report import Needed, Report, Steps, Written, blocks_of, described, peak_memory
from clipviz.version import __version__

PAGE = "report.html"
TITLES = {
    "world": "The demo world: a report card",
    "chapter2": "Chapter 2: heads and tokens",
    "chapter3": "Chapter 3: neurons",
    "chapter4": "Chapter 4: Rosetta neurons",
}
QUICK = {"world": 200, "chapter2": 90, "chapter4": 24}
"""Number of images in each chapter's quick version; chapter 3 has its own."""


def run(
    model: ClipModel | str = "demo",
    out: str | Path = "reproduction",
    pretrained: str | None = None,
    data: str | None = None,
    limit: int | None = None,
    quick: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Written:
    """Write every chapter's report, and one HTML page of all of them with the interactive figures; return the page's
    path.

    data: a folder with one subfolder per class; without it the demo world, whose report card comes first. quick:
    use few images. Every chapter uses the options that it has. A chapter that was finished with the same model,
    images and options is not run again. Raises ValueError for an option that no chapter has.
    """
    model = load(model, pretrained) if isinstance(model, str) else model
    folder, started = Path(out), time.monotonic()
    chapters = [name for name in TITLES if name != "world" or (data is None and in_demo_world(model))]
    unknown = set(options) - {name for chapter in chapters for name in options_of(chapter)}
    if unknown:
        known = sorted({name for chapter in chapters for name in options_of(chapter)} - {"quiet"})
        raise ValueError(
            f"expected options among {', '.join(known)}, got {', '.join(sorted(unknown))}; leave them out"
        )
    if options.get("pool"):
        options["pool"] = named_pools(options["pool"])
    images = "" if data is None else open_images(data).fingerprint
    reports = {}
    for chapter in chapters:
        has = options_of(chapter)
        chosen = {**options, "data": data, "limit": limit or (QUICK.get(chapter) if quick else None)}
        chosen |= {"quick": quick} if "quick" in has else {}
        chosen = {name: value for name, value in chosen.items() if name in has and value is not None}
        reports[chapter] = chapter_report(model, folder, chapter, chosen, images, quiet)
    seconds = sum(report.seconds for report in reports.values())
    lead = (
        f"{model.name}{', ' + model.pretrained if model.pretrained else ''} (fingerprint "
        f"{model.fingerprint}) on "
        f"{'the demo world' if data is None else Path(data).name}{', quick version' if quick else ''}: "
        f"{seconds:,.0f} s in all ({time.monotonic() - started:,.0f} s in the last run) on "
        f"{described(model.device)}, at most {peak_memory(model.device)}."
    )
    title = "The thesis's tables and figures, measured"
    path = write_page(folder / PAGE, title, lead, reports)
    return Written(path, title, seconds, [block for report in reports.values() for block in report.blocks])


def chapter_report(
    model: ClipModel, folder: Path, chapter: str, options: Mapping[str, Any], images: str, quiet: bool
) -> Written:
    """Return a chapter's report, written now unless it exists, or what it needs if it cannot be written."""
    key = {**model.identity(), "images": images, "options": identity_of(options), "version": __version__}
    steps = Steps(folder / "steps", key)
    place = blocks_of(folder, chapter)

    def make() -> dict[str, Any]:
        reproduce = run_of(chapter)
        reproduce(model, folder, **options, quiet=quiet)
        return {"blocks": digest_of(place)}

    try:
        if steps.get(f"all-{chapter}", make)["blocks"] != digest_of(
            place
        ):  # it was written again with other options
            (folder / "steps" / f"all-{chapter}.npz").unlink()
            steps.get(f"all-{chapter}", make)
    except Needed as lacking:
        report = Report(folder, TITLES[chapter])
        report.needs(*lacking.args)
        return Written(folder / f"{chapter}.md", report.title, 0.0, report.blocks)
    return Written.read(folder, chapter)


def run_of(chapter: str) -> Callable[..., Path]:
    """Return the function that writes a chapter's report."""
    from clipviz.reproduce.chapter2 import chapter as chapter2
    from clipviz.reproduce.chapter3 import chapter as chapter3
    from clipviz.reproduce.chapter4 import chapter as chapter4
    from clipviz.reproduce.world import chapter as world

    runs: dict[str, Callable[..., Path]] = {
        **{"world": world.run, "chapter2": chapter2.run},
        **{"chapter3": chapter3.run, "chapter4": chapter4.run},
    }
    return runs[chapter]


def options_of(chapter: str) -> set[str]:
    """Return the options of a chapter's run, except model and output folder."""
    taken = inspect.signature(run_of(chapter)).parameters
    named = {name for name, one in taken.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}
    return named - {"model", "out", "pretrained"}


def identity_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as a key: files and folders with their time of change, other values with their name, if any."""
    found = {}
    for name, value in options.items():
        files = value if isinstance(value, Mapping) else {"": value}
        for part, one in files.items():
            path = Path(one) if isinstance(one, str | Path) else None
            written = path.stat().st_mtime_ns if path is not None and path.exists() else None
            said = getattr(one, "name", "") if callable(one) else ""
            found[f"{name} {part}".strip()] = [str(said or one), written]
    return found


def digest_of(path: Path) -> str:
    """Return the hash of a file, or "" if it does not exist."""
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() if path.exists() else ""
