"""Scripts in the form that a browser needs: ES modules, joined without a bundler.

`kit/` holds what scripts share; its modules become one (`kit`), each after those that it imports. A panel's script,
view.js with the modules of its folder that it imports, is a function of that kit (`script`). A page loads the kit once:
a notebook from the widget `Kit`, to which every panel refers; a saved page from itself (`alone`). A published page
serves the modules as they are written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import anywidget
import ipywidgets
import traitlets
from ipywidgets.widgets.widget_layout import Layout

from clipviz.panels.core.fronts import answered, bare

IMPORT = re.compile(r'^import \{([\w\s,]+)\} from "(\.[\w./-]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:const|let|class|function|async function) (\w+))", re.MULTILINE)
TOP = re.compile(r"^(?:const|let|class|function|async function) (\w+)", re.MULTILINE)
DEFAULT = re.compile(r"^export default ", re.MULTILINE)


class Module(NamedTuple):
    """A script: the names that it imports from each file, those that it exports, and its code."""

    imports: dict[str, list[str]]
    exports: list[str]
    body: str


def text(name: str) -> str:
    """Return a file of the panels' folder."""
    return (resources.files("clipviz.panels") / name).read_text(encoding="utf-8")


@cache
def module(name: str) -> Module:
    """Return a script of the panels' folder. Raises ValueError for an import or export of a form other than `import
    { a } from "./b.js"` and `export const a`, which could not be joined.
    """
    imports: dict[str, list[str]] = {}
    source = text(name)
    for names, path in IMPORT.findall(source):
        place = _within(name, path)
        imports.setdefault(place, []).extend(word.strip() for word in names.split(",") if word.strip())
    body = EXPORT.sub(r"\1", IMPORT.sub("", source))
    odd = re.search(r"^(import\b|export (?!default )).*", body, re.MULTILINE)
    if odd:
        raise ValueError(
            f'expected `import {{ a, b }} from "./file.js";` and `export const a` in {name}, got {odd[0]!r}'
        )
    return Module(imports, [found for _, found in EXPORT.findall(source)], body)


def _within(name: str, path: str) -> str:
    """Return the file that a script imports, as a path within the panels' folder."""
    parts: list[str] = list(PurePosixPath(name).parent.parts)
    for part in PurePosixPath(path).parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def ordered(names: Iterable[str]) -> list[str]:
    """Return the modules and everything that they import, dependencies first. Raises ValueError for a circle, and
    for a name that is imported but not exported.
    """
    done: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"expected scripts without a circle, got {' -> '.join((*above, name))}")
        if name in done:
            return
        for other, wanted in module(name).imports.items():
            visit(other, (*above, name))
            missing = [word for word in wanted if word not in module(other).exports]
            if missing:
                raise ValueError(f"{name} imports {', '.join(missing)}, which {other} does not export")
        done.append(name)

    for name in names:
        visit(name, ())
    return done


def joined(names: Iterable[str]) -> str:
    """The modules and all that they import as one scope."""
    return _one_scope(ordered(names))


def _one_scope(names: Iterable[str]) -> str:
    """The modules one after the other. ValueError for a name that two of them declare."""
    bodies = "\n".join(module(name).body for name in names)
    declared = TOP.findall(bodies)
    twice = sorted({name for name in declared if declared.count(name) > 1})
    if twice:
        raise ValueError(f"expected each name to be declared once, got {', '.join(twice)} twice")
    return bodies


@cache
def _kit_files() -> tuple[str, ...]:
    folder = resources.files("clipviz.panels") / "kit"
    return tuple(sorted(f"kit/{file.name}" for file in folder.iterdir() if file.name.endswith(".js")))


@cache
def kit_names() -> tuple[str, ...]:
    """Return the names that the kit exports."""
    return tuple(sorted(name for file in _kit_files() for name in module(file).exports))


@cache
def kit() -> str:
    """Return the shared scripts as one module, with the shared style sheet as `kitSheet`."""
    sheet = f"const kitSheet = {json.dumps(text('core/base.css'))};"
    return f"{joined(_kit_files())}\n{sheet}\nexport {{ kitSheet, {', '.join(kit_names())} }};\n"


@cache
def kit_key() -> str:
    """Return the kit's version."""
    return hashlib.sha256(kit().encode()).hexdigest()[:16]


@cache
def script(name: str) -> str:
    """A panel's script: its modules, with view.js as the last, as a function of the kit. A string, so that close()
    frees it."""
    own = [file for file in ordered([f"{name}/view.js"]) if file not in _kit_files()]
    imported = [module(file).imports.items() for file in own]
    names = sorted(
        {word for items in imported for place, words in items if place not in own for word in words}
    )
    body = _one_scope(own)
    if len(DEFAULT.findall(body)) != 1:
        raise ValueError(f"expected one `export default` in {name}/view.js")
    body = DEFAULT.sub("return ", body)
    frame = module("core/loader.js").body
    return f'{frame}\nexport default withKit("{kit_key()}", ({{ {", ".join(names)} }}) => {{\n{body}}});\n'


def alone(name: str) -> str:
    """Return a script for a page that contains the kit, for itself and for the panels imported there."""
    kits = f'new Map([["{kit_key()}", Promise.resolve({{ {", ".join(kit_names())} }})]])'
    ready = f'globalThis[Symbol.for("clipviz.kits")] = {kits};'
    own = [module(other).body for other in ordered([name]) if other not in _kit_files()]
    return "\n".join([joined(_kit_files()), ready, *own])


def style(name: str) -> str:
    """Return a panel's own style sheet, or "" if it has none; the shared one is core/base.css."""
    own = (resources.files("clipviz.panels") / f"{name}/style.css").is_file()
    return text(f"{name}/style.css") if own else ""


class Kit(ipywidgets.Widget):
    """The shared scripts of all panels in a notebook, sent and stored once, however many panels there are."""

    script = traitlets.Unicode().tag(sync=True)

    _shown: Kit | None = None

    def get_state(self, *which: Any, **how: Any) -> Any:
        """Return what is sent, which is next to nothing where no front end answers."""
        state = super().get_state(*which, **how)
        return state if answered() else bare(state)

    @classmethod
    def shared(cls) -> Kit:
        """Return this process's kit, created again if it has been closed."""
        if cls._shown is None or cls._shown.comm is None:
            cls._shown = cls(script=kit())
        return cls._shown


def reference(widget: ipywidgets.Widget | None) -> str | None:
    """Return how a script finds a widget, by `host.getWidget`."""
    return None if widget is None else f"anywidget:{widget.model_id}"


REFERENCE: dict[str, Any] = {"to_json": lambda widget, _: reference(widget)}
"""Metadata of a trait that holds a widget to be drawn within another."""

REFERENCES: dict[str, Any] = {
    "to_json": lambda widgets, _: {name: reference(widget) for name, widget in widgets.items()}
}
"""Metadata of a trait that holds such widgets by name."""

LayoutLike = Layout | Mapping[str, Any] | None


class Scripted(anywidget.AnyWidget):
    """A widget whose script needs the kit.

    layout: an ipywidgets.Layout, or its values, which the widget makes into a Layout of its own and closes with
    itself. Where no front end answers when it is made, it sends next to nothing, and is displayed as `in_cell`.
    """

    _esm: str
    _css: str
    if TYPE_CHECKING:
        layout: Any

    kit = traitlets.Instance(Kit, help="the widget that holds what scripts share").tag(
        sync=True, **ipywidgets.widget_serialization
    )

    def __init__(self, *, layout: LayoutLike = None, **traits: Any) -> None:
        self._answered = answered()
        self._lent = layout if isinstance(layout, Layout) else None
        super().__init__(layout=self._lent or Layout(**(layout or {})), **traits)

    @traitlets.default("kit")
    def _kit_of_process(self) -> Any:
        return Kit.shared()

    def in_cell(self) -> str | None:
        """Return what a cell's output carries where no front end answers, as HTML; None for the widget itself."""
        return None

    def get_state(self, *which: Any, **how: Any) -> Any:
        """Return what is sent, which is next to nothing where no front end answers."""
        state = super().get_state(*which, **how)
        return state if self._answered else bare(state)

    def _repr_mimebundle_(self, **how: Any) -> Any:
        shown = None if self._answered else self.in_cell()
        return (
            super()._repr_mimebundle_(**how)
            if shown is None
            else {"text/html": shown, "text/plain": repr(self)}
        )

    def close(self) -> None:
        layout = self.layout if self.comm is not None else None
        super().close()
        if layout is not None and layout is not self._lent:
            layout.close()
