"""What every chapter's reproduction needs: a Markdown report with figures, and steps that can be resumed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from clipviz.figures import style
from clipviz.files import replacing, write_whole

Result = dict[str, Any]
"""What a step leaves: numpy arrays and values that JSON can hold."""


class Steps:
    """Finished steps of a reproduction, on disk: a second run with the same key takes them from there.

    folder: where they are kept; key: what they depend on (model, data, options). A step with another key, or a
    file cut short, is done again. Files are npz without pickle, written beside and moved into place.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder = folder
        self.key = json.dumps(key, sort_keys=True, default=str)
        self.done: list[str] = []
        self.resumed: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, make: Callable[[], Result]) -> Result:
        """The result of a step, made now unless it is there."""
        path = self.folder / f"{name}.npz"
        kept = self._read(path)
        if kept is not None:
            self.resumed.append(name)
            return kept
        result = make()
        self._write(path, result)
        self.done.append(name)
        return result

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
        except Exception as error:  # zipfile raises its own errors for a file cut short
            if type(error).__name__ == "BadZipFile":
                return None
            raise

    def _write(self, path: Path, result: Result) -> None:
        arrays = {name: value for name, value in result.items() if isinstance(value, np.ndarray)}
        values = {name: value for name, value in result.items() if name not in arrays}
        arrays["values"] = np.array(json.dumps({**values, "key": self.key}))
        with replacing(path) as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]


class Report:
    """A Markdown report that grows by sections; `write` puts it and its figures in a folder."""

    def __init__(self, folder: Path, title: str, lead: str = "") -> None:
        self.folder = folder
        self.started = time.monotonic()
        self._lines = [f"# {title}", "", *([lead, ""] if lead else [])]

    def section(self, title: str, text: str = "") -> None:
        self._lines += [f"## {title}", "", *([text, ""] if text else [])]

    def text(self, text: str) -> None:
        self._lines += [text, ""]

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table; numbers between 0 and 1 that are floats are shown with three digits."""
        self._lines += [
            "| " + " | ".join(map(str, head)) + " |",
            "| " + " | ".join("---" for _ in head) + " |",
        ]
        self._lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
        self._lines += [""]

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """A figure as SVG (shown), PDF and PNG."""
        style.save(figure, self.folder / "figures" / name)
        self._lines += [f"![{caption}](figures/{name}.svg)", "", f"*{caption}*", ""]

    def interactive(self, name: str, figure: Any, caption: str) -> None:
        """A plotly figure as HTML that needs no network (plotly.min.js lies beside it), linked from the report."""
        path = self.folder / "figures" / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.write_html(path, include_plotlyjs="directory")
        self._lines += [f"[{caption}](figures/{name}.html)", ""]

    def write(self, name: str) -> Path:
        """The report as `name`.md, written at once; returns its path."""
        seconds = time.monotonic() - self.started
        text = "\n".join([*self._lines, f"Made in {seconds:.0f} s.", ""])
        path = self.folder / f"{name}.md"
        write_whole(path, text.encode())
        return path


def cell(value: Any) -> str:
    """A table's entry: floats with three digits, missing ones as a dash, bars escaped."""
    if value is None:
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:.3f}"
    return str(value).replace("|", "\\|")
