"""Shared parts of every chapter's reproduction: a report with figures, and resumable steps."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from clipviz.figures import style
from clipviz.files import replacing, write_whole

Result = dict[str, Any]
"""The result of a step: NumPy arrays and values that JSON can hold."""
Block = dict[str, Any]
"""A block of a report, of one kind: section, text, needs, table, figure, interactive."""


class Steps:
    """Finished steps of a reproduction on disk; a second run with the same key reuses them.

    folder: their location; key: what they depend on (model, data, options). A step with another key, or a
    truncated file, is repeated. Files are npz without pickle, and are written atomically.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder = folder
        self.key = json.dumps(key, sort_keys=True, default=str)
        self.done: list[str] = []
        self.resumed: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, make: Callable[[], Result]) -> Result:
        """Return the result of a step, computed now unless it is stored."""
        return self.get_all([name], lambda _: [make()])[0]

    def get_all(self, names: Sequence[str], make: Callable[[list[int]], Iterable[Result]]) -> list[Result]:
        """Return the results of several steps; make(places): computes those that are missing, one by one."""
        kept = [self._read(self.folder / f"{name}.npz") for name in names]
        lacking = [place for place, result in enumerate(kept) if result is None]
        self.resumed += [name for name, result in zip(names, kept, strict=True) if result is not None]
        for place, made in zip(lacking, make(lacking) if lacking else (), strict=True):
            self._write(self.folder / f"{names[place]}.npz", made)
            self.done.append(names[place])
            kept[place] = made
        return [result for result in kept if result is not None]

    def forget(self, pattern: str) -> None:
        """Remove steps by a pattern of their names, once another step holds their combined result."""
        for path in self.folder.glob(f"{pattern}.npz"):
            path.unlink()

    def _read(self, path: Path) -> Result | None:
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as archive:
                values = json.loads(str(archive["values"]))
                if values.pop("key") != self.key:
                    return None
                return {**{name: archive[name] for name in archive.files if name != "values"}, **values}
        except (OSError, ValueError, KeyError, EOFError, json.JSONDecodeError):
            return None
        except Exception as error:  # zipfile raises its own errors for a truncated file
            if type(error).__name__ == "BadZipFile":
                return None
            raise

    def _write(self, path: Path, result: Result) -> None:
        arrays = {name: value for name, value in result.items() if isinstance(value, np.ndarray)}
        values = {name: value for name, value in result.items() if name not in arrays}
        arrays["values"] = np.array(json.dumps({**values, "key": self.key}))
        with replacing(path) as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]


class Needed(ValueError):
    """Raised if a chapter cannot be measured without an option. args: the option, and what it should hold."""

    def __str__(self) -> str:
        return f"needs {self.args[0]}, {self.args[1]}"


class Report:
    """A report that consists of blocks; `write` saves it and its figures to a folder, as Markdown and as blocks.

    device: the device used, which is reported with the time. prefix: prefix of its figures' names, which
    separates reports in one folder. started: when the work began (time.monotonic), default now. Blocks are plain
    values, which `page` shows in a browser.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        lead: str = "",
        device: Any = None,
        prefix: str = "",
        started: float | None = None,
    ) -> None:
        self.folder, self.title, self.device, self.prefix = folder, title, device, prefix
        self.started = time.monotonic() if started is None else started
        self.blocks: list[Block] = [{"kind": "text", "text": lead}] if lead else []

    def section(self, title: str, text: str = "") -> None:
        self.blocks += [{"kind": "section", "title": title}]
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        self.blocks += [{"kind": "text", "text": text}]

    def needs(self, option: str, what: str, about: str = "") -> None:
        """State what is needed for this section to be measured: an option, and what it should hold.

        about: the tables and figures that need it, if these are not all of the section.
        """
        text = f"{about + ': n' if about else 'N'}eeds `{option}`, {what}."
        self.blocks += [{"kind": "needs", "option": option, "about": about, "text": text}]

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Add a table; floats between 0 and 1 are shown with three digits."""
        cells = [[cell(value) for value in row] for row in rows]
        values = [[plain(value) for value in row] for row in rows]
        self.blocks += [{"kind": "table", "head": list(map(str, head)), "rows": cells, "values": values}]

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """Add a figure as SVG (shown), PDF and PNG."""
        name = f"{self.prefix}{name}"
        style.save(figure, self.folder / "figures" / name)
        self.blocks += [{"kind": "figure", "file": f"figures/{name}.svg", "caption": caption}]

    def interactive(self, name: str, figure: Any, caption: str) -> None:
        """Add a plotly figure as HTML that works offline (with plotly.min.js beside it), linked from the report."""
        name = f"{self.prefix}{name}"
        path = self.folder / "figures" / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.write_html(path, include_plotlyjs="directory")
        plot = json.loads(figure.to_json())
        self.blocks += [
            {"kind": "interactive", "file": f"figures/{name}.html", "caption": caption, "plot": plot}
        ]

    def write(self, name: str) -> Path:
        """Write the report atomically as `name`.md, and its blocks to `blocks`; return the first path."""
        seconds = time.monotonic() - self.started
        on = "" if self.device is None else f" on {described(self.device)}"
        text = "\n".join(
            [f"# {self.title}", "", *map(_markdown, self.blocks), f"Made in {seconds:.0f} s{on}.", ""]
        )
        path = self.folder / f"{name}.md"
        write_whole(path, text.encode())
        kept = {"title": self.title, "seconds": seconds, "blocks": self.blocks}
        blocks_of(self.folder, name).parent.mkdir(exist_ok=True)
        write_whole(blocks_of(self.folder, name), json.dumps(kept).encode())
        return path


class Table(NamedTuple):
    """One table of a report: its section, its head, and rows of numbers and texts."""

    section: str
    head: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True, eq=False)
class Written:
    """A written report. path: the file to read; seconds: its duration; blocks: its pieces, in order."""

    path: Path
    title: str
    seconds: float
    blocks: list[Block]

    @classmethod
    def read(cls, folder: Path, name: str) -> Written:
        """Return the report that `Report.write(name)` left in a folder."""
        kept = json.loads(blocks_of(folder, name).read_bytes())
        return cls(folder / f"{name}.md", kept["title"], kept["seconds"], kept["blocks"])

    @property
    def tables(self) -> list[Table]:
        """Its tables, in order, with every number as measured."""
        found, section = [], ""
        for block in self.blocks:
            if block["kind"] == "section":
                section = block["title"]
            elif block["kind"] == "table":
                found.append(Table(section, block["head"], block["values"]))
        return found

    @property
    def figures(self) -> dict[str, Path]:
        """Maps captions to the files of figures."""
        kinds = ("figure", "interactive")
        return {one["caption"]: self.path.parent / one["file"] for one in self.blocks if one["kind"] in kinds}


def blocks_of(folder: Path, name: str) -> Path:
    """Return the path of a written report's blocks."""
    return folder / "blocks" / f"{name}.json"


def described(device: Any) -> str:
    """Return a description of a device: its card, or the number of threads."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        found: str = device.type
        return found
    n_threads = torch.get_num_threads()
    return f"cpu, {n_threads} thread{'s' if n_threads > 1 else ''}"


def peak_memory(device: Any) -> str:
    """Return the peak memory of this process, if the system reports it, and that of a GPU."""
    held = []
    if importlib.util.find_spec("resource") is not None:  # not available on Windows
        unit = 1 if sys.platform == "darwin" else 1024
        usage = importlib.import_module("resource")
        held.append(f"{usage.getrusage(usage.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB of memory")
    if torch.device(device).type == "cuda":
        held.append(f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB on the GPU")
    return " and ".join(held) or "memory unknown"


def _markdown(block: Block) -> str:
    """Return a block as Markdown, with the blank line after it."""
    kind = block["kind"]
    if kind == "section":
        return f"## {block['title']}\n"
    if kind == "table":
        rows = [block["head"], ["---"] * len(block["head"]), *block["rows"]]
        return "\n".join("| " + " | ".join(_escaped(row)) + " |" for row in rows) + "\n"
    if kind == "figure":
        return f"![{block['caption']}]({block['file']})\n\n*{block['caption']}*\n"
    if kind == "interactive":
        return f"[{block['caption']}]({block['file']})\n"
    return f"{block['text']}\n"


def _escaped(row: Sequence[str]) -> list[str]:
    return [entry.replace("|", "\\|") for entry in row]


def plain(value: Any) -> Any:
    """Return a table's entry as JSON holds it: a number, a text, or None."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def cell(value: Any) -> str:
    """Return a table's entry: floats with three digits, missing ones as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:.3f}"
    return str(value)
