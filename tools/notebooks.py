"""Run the notebooks and keep what their cells show: python tools/notebooks.py [NAME ...] [--check].

Each notebook runs in a kernel and a folder of its own. What differs from run to run is left out: times, progress,
stderr, the states of widgets, addresses in memory and paths of this machine. Pictures are kept in few colours or as
JPEG. --check writes nothing. It compares what is kept with what a run gives: texts and tables have to be equal, but for
rounding errors such as 2e-07; of pictures and saved pages the sizes have to be alike. It ends with an error that names
the cells that differ.

A lesson asks before it tells, and what its later cells show gives the answers away. So everything that a lesson shows
after its first question is folded, and is seen once it is opened; questions are kept as they are, unanswered, with the
answers folded below them for those who read the lesson without a kernel.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
LIMIT = 1200  # seconds a cell
ALIKE = 2.0
"""Ratio of the sizes of two pictures or pages up to which they count as alike."""

PAGE = 'class="clipviz-output"'
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
PROGRESS = re.compile(r"\r[^\r\n]*?: [\d,]*\d of [\d,]*\d(, about \d+ (s|min) left)?( +(?=\r|$))?")
ROUNDING = re.compile(r"\d(\.\d+)?e-\d+")
PICTURE = re.compile(r"data:image/\w+;base64,[\w+/=]*")
PICTURES_ONLY = ("chapter2",)
"""Notebooks whose board is kept as pictures: a saved board is large, and `dashboard` has one."""

STILL = "Pictures of the panels. The live board appears when this cell is run."
SUMMARY = "What this cell showed, which answers a question above"
ANSWERS = "What was measured when this notebook was run"
KEYS = """\
import json
from clipviz.lessons import Quiz
print(json.dumps([quiz.key for quiz in Out.values() if isinstance(quiz, Quiz)]))"""
"""Run after a lesson: the answers of its questions, which `answered` takes."""


def run(path: Path) -> Any:
    """Return a notebook as it is after a run in a new kernel. Raises CellExecutionError if a cell fails."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    os.environ["OMP_NUM_THREADS"] = "1"
    is_lesson = path.stem.startswith("lesson")
    if is_lesson:
        notebook.cells.append(nbformat.v4.new_code_cell(KEYS))
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(notebook, timeout=LIMIT, kernel_name="python3", resources=resources).execute()
    if is_lesson:
        answered(notebook.cells)
    return notebook


def answered(cells: list[Any]) -> None:
    """Fold the answers to a lesson's questions below them: what the last cell, KEYS, printed, which is removed."""
    import nbformat

    keys = json.loads(cells.pop().outputs[0].text)
    asking = [cell for cell in code_cells(cells) if any(_is_page(output) for output in cell.outputs)]
    for cell, key in zip(asking, keys, strict=True):
        said = [f"{n}. {one}" for n, one in enumerate(key, 1)] if len(key) > 1 else key
        lines = "".join(f"<p>{html.escape(one)}</p>" for one in said)
        inside = f"<details><summary>{ANSWERS}</summary>{lines}</details>"
        cell.outputs.append(nbformat.v4.new_output("display_data", {"text/html": inside}))


def strip(notebook: Any, stem: str) -> None:
    """Leave of a run what the next run gives too, and fold what answers the questions of a lesson."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["clipviz"] = {"ran": code_of(notebook)}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    for cell, outputs in zip(code_cells(notebook.cells), shown(notebook.cells, stem), strict=True):
        cell.outputs = outputs


def code_cells(cells: list[Any]) -> list[Any]:
    return [cell for cell in cells if cell.cell_type == "code"]


def code_of(notebook: Any) -> str:
    """Return a hash of the code of a notebook."""
    code = "\0".join(cell.source for cell in code_cells(notebook.cells))
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def shown(cells: list[Any], stem: str) -> list[list[Any]]:
    """Return what each code cell shows, in the form in which it is kept."""
    asked, found = False, []
    for cell in code_cells(cells):
        outputs = _told(cell.outputs)
        if stem in PICTURES_ONLY:
            outputs = [_without_page(one) if _is_page(one) else one for one in outputs]
        asked = asked or (stem.startswith("lesson") and any(_is_page(one) for one in outputs))
        found.append(_folded(outputs) if asked else outputs)
        for one in found[-1]:
            if one.output_type == "execute_result":
                one.execution_count = cell.execution_count
    return found


def _told(outputs: list[Any]) -> list[Any]:
    """Return the outputs of a cell without progress, stderr, addresses, paths, and widgets that have no page."""
    import nbformat

    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stdout":
                if kept and kept[-1].output_type == "stream":
                    kept[-1].text += output.text
                else:
                    kept.append(nbformat.from_dict(output))
        elif output.output_type in ("display_data", "execute_result"):
            data = {
                name: value if PAGE in value or not name.startswith("text/") else _plain(value)
                for name, value in output.data.items()
                if "widget" not in name
            }
            kept.append(nbformat.from_dict({**output, "data": data}))
        else:
            kept.append(output)
    for one in kept:
        _shrink(one)
        if one.output_type == "stream":
            lines = PROGRESS.sub("", _plain(one.text)).split("\n")
            one.text = "\n".join(line.rpartition("\r")[2] for line in lines)
    return [one for one in kept if one.get("text") != ""]


def _shrink(output: Any) -> None:
    """Keep a picture in 256 colours or as JPEG, whichever is smaller, and once."""
    data = output.get("data", {})
    if "image/png" not in data:
        return
    data.pop("image/jpeg", None)
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as picture:
        if picture.mode == "P":
            return
        whole = picture.convert("RGB")
    drawn, photo = io.BytesIO(), io.BytesIO()
    whole.quantize(256, dither=Image.Dither.NONE).save(drawn, "PNG", optimize=True)
    whole.save(photo, "JPEG", quality=75, optimize=True)
    kind, stored = min(("png", drawn), ("jpeg", photo), key=lambda one: len(one[1].getvalue()))
    del data["image/png"]
    data[f"image/{kind}"] = base64.b64encode(stored.getvalue()).decode()
    sizes = output.metadata.pop("image/png", None)
    if sizes:
        output.metadata[f"image/{kind}"] = sizes


def _without_page(output: Any) -> Any:
    """Return the output of a board without its saved page: pictures, and how to see more."""
    import nbformat

    seen = re.search(r"<div data-picture>(.*?)<p><small>", output.data["text/html"], re.DOTALL)
    told = f"<div>{seen[1]}<p><small>{STILL}</small></p></div>"
    return nbformat.from_dict({**output, "data": {**output.data, "text/html": told}})


def _plain(value: str) -> str:
    value = ADDRESS.sub("", value)
    for path, name in ((str(ROOT), "."), (str(Path.home()), "~")):
        value = value.replace(f"{path}/", f"{name}/")
    return re.sub(rf"{re.escape(tempfile.gettempdir())}/\w+", "TEMPORARY", value)


def _is_page(output: Any) -> bool:
    return PAGE in output.get("data", {}).get("text/html", "")


def _folded(outputs: list[Any]) -> list[Any]:
    """Return outputs with the questions as they are, and all else folded."""
    import nbformat

    found = []
    for output in outputs:
        data = output.get("data", {})
        if _is_page(output):
            found.append(output)
        elif data.get("text/html", "").startswith("<details>"):
            found.append(nbformat.from_dict({**output, "data": {"text/html": data["text/html"]}}))
        else:
            inside = f"<details><summary>{SUMMARY}</summary>{_as_html(output)}</details>"
            found.append(nbformat.v4.new_output("display_data", {"text/html": inside}))
    return found


def _as_html(output: Any) -> str:
    from nbconvert.filters import markdown2html

    data = output.get("data", {})
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            width = output.metadata.get(kind, {}).get("width")
            size = f' width="{width}"' if width else ""
            content = data[kind].replace("\n", "")
            return f'<img alt="Figure"{size} src="data:{kind};base64,{content}">'
    if "text/html" in data:
        return data["text/html"]
    if "text/markdown" in data:
        return markdown2html(data["text/markdown"])
    return f"<pre>{html.escape(output.get('text', data.get('text/plain', '')))}</pre>"


def differences(kept: list[Any], found: list[Any], sizes: bool = True) -> dict[int, str]:
    """Return what differs, by the number of the code cell, counted from 1.

    kept: what each code cell shows as it is stored. found: what it shows in a run, as `shown` gives it. sizes: False
    compares pictures and pages only by whether they are there.
    """
    differ = {}
    for place, (before, now) in enumerate(zip(kept, found, strict=True), start=1):
        old, new = ([_seen(output) for output in cell] for cell in (before, now))
        if [one[0] for one in old] != [one[0] for one in new]:
            differ[place] = f"it shows {_names(new)}, and what is kept shows {_names(old)}"
            continue
        for (kind, text, size), (_, text_now, size_now) in zip(old, new, strict=True):
            if text != text_now:
                differ[place] = f"the {kind} differs: {_first(text, text_now)}"
            elif sizes and max(size, size_now) > ALIKE * min(size, size_now):
                differ[place] = f"the {kind} has {size_now:,} letters, and what is kept {size:,}"
    return differ


def _seen(output: Any) -> tuple[str, str, int]:
    """Return the kind of an output, its text as it is compared, and the size of the pictures and pages in it."""
    if output.output_type in ("stream", "error"):
        text = re.sub(r"(?m)^ +| +$|(?<= ) +", "", output.get("text", output.get("evalue")))
        return output.output_type, ROUNDING.sub("e", text), 0
    data = output.data
    if _is_page(output):
        return "saved page", "", len(data["text/html"])
    picture = data.get("image/png") or data.get("image/jpeg")
    if picture:
        return "picture", "", len(picture)
    kind = next((one for one in ("text/html", "text/markdown") if one in data), "text/plain")
    text = str(data.get(kind, ""))
    size = sum(map(len, PICTURE.findall(text)))
    return kind, ROUNDING.sub("e", re.sub(r' width="\d+"', "", PICTURE.sub("picture", text))), size


def _names(seen: list[tuple[str, str, int]]) -> str:
    return ", ".join(one[0] for one in seen) or "nothing"


def _first(old: str, new: str) -> str:
    """Return the surroundings of the first letter that differs."""
    at = next((i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(old))
    start = max(0, at - 20)
    return f"expected {old[start : at + 40]!r}, got {new[start : at + 40]!r}"


def told(stem: str, differ: dict[int, str]) -> str:
    """Return the message about a notebook whose outputs are not those of a run."""
    lines = [f"{stem}.ipynb, code cell {place}: {what}" for place, what in differ.items()]
    return "\n".join([*lines, f"To write the outputs anew, run: python tools/notebooks.py {stem}"])


def main(arguments: list[str] | None = None) -> None:
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these notebooks, such as lesson1_sum")
    parser.add_argument("--check", action="store_true", help="compare with what is kept, and write nothing")
    options = parser.parse_args(arguments)
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    names = [Path(name).stem for name in options.names] or [*known]
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(f"expected names among {', '.join(known)}, got {', '.join(unknown)}")
    stale = False
    for name in names:
        notebook = run(known[name])
        strip(notebook, name)
        if options.check:
            cells = [
                [cell.outputs for cell in code_cells(one.cells)]
                for one in (nbformat.read(known[name], as_version=4), notebook)
            ]
            differ = differences(*cells)
            stale = stale or bool(differ)
            print(told(name, differ) if differ else f"{name}.ipynb is as a run gives it", flush=True)
        else:
            known[name].write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
            print(f"{name}.ipynb: {known[name].stat().st_size / 1e6:.2f} MB", flush=True)
    sys.exit(stale)


if __name__ == "__main__":
    main()
