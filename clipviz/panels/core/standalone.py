"""Panels saved as one HTML file that works without a kernel or a network: the same scripts on a stand-in model.

The file contains the current traits of each panel, its script, and its answers for other images, texts and heads
(`stored`). Everything that a panel does in the browser still works there (hovering, blending, colour scales, sums
over heads, removing heads from one image). Stored answers are available; controls for anything else are disabled.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from clipviz.files import path_of, write_whole
from clipviz.panels.core.scripts import Scripted, alone, text
from clipviz.panels.core.stored import Kept, Store, Stored, at_rest
from clipviz.session import Board, Session


class Saveable(Protocol):
    """The attributes of a panel that a page needs."""

    name: str
    session: Session
    board: Board
    view: Any
    error: Any
    _esm: Any
    _css: Any

    def trait_names(self, **metadata: Any) -> Any: ...

    def class_trait_names(self, **metadata: Any) -> Any: ...

    def stored(self, kept: Kept) -> list[Stored] | None: ...


POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src blob: data:"
)
"""The page's content security policy: nothing is loaded from anywhere."""


PROGRESS: dict[str, Any] = {"doing": "", "work": "", "progress": (0, 0)}
"""The values of a page for the traits that report progress, since no work continues in it."""


def traits(panel: Saveable) -> dict[str, Any]:
    """Return the synced traits that the panel's script reads, without work in progress; bytes as {"base64": text}."""
    own = (
        set(panel.trait_names(sync=True))
        - set(Scripted.class_trait_names(sync=True))
        - {"request", *panel.class_trait_names(chosen=True)}
    )
    shown = {name: packed(getattr(panel, name)) for name in sorted(own) if not name.startswith("_")}
    return {
        **shown,
        **{name: PROGRESS[name] for name in PROGRESS if name in shown},
        "view": at_rest(panel.view),
    }


def packed(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes | memoryview) else value


def page(panels: Sequence[Saveable], title: str, extra: Iterable[str] = (), kept: Kept | None = None) -> str:
    """Return the HTML of the panels in the dashboard's arrangement, with answers for the kept choices (default: the
    selection).

    extra: names of panels below the board. A panel without stored answers shows this view only.
    """
    session = panels[0].session
    kept = Kept.of(session) if kept is None else kept
    store = Store()
    own = dict.fromkeys(panel._css for panel in panels)
    sheet = "\n".join(
        [
            text("core/base.css"),
            *own,
            *(text(name) for name in ("dashboard/style.css", "core/standalone.css")),
        ]
    )
    below, parts = set(extra), []
    for panel in panels:
        answers = store.add(panel, kept, session.selection, panels[0].board.progress)
        drawn = traits(panel)
        if answers is not None:
            drawn |= (
                {"blob": packed(b""), "picture": packed(b"")} if "picture" in drawn else {"blob": packed(b"")}
            )
        parts.append(
            {
                "name": panel.name,
                "script": panel._esm,
                "traits": drawn,
                "below": panel.name in below,
                "parts": answers,
            }
        )
    about = {
        "selection": session.selection.to_dict(),
        "images": kept.images,
        "texts": kept.texts,
        "heads": kept.heads,
        "told": kept.told(session),
    }
    said, content = store.packed(parts, about)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{sheet}\n</style>\n</head>\n<body>\n"
        f"<main><h1>{html.escape(title)}</h1></main>\n"
        f'<script type="application/octet-stream" id="panels">{said}</script>\n'
        f'<script type="application/octet-stream" id="arrays">{content}</script>\n'
        f'<script type="module">\n{alone("core/standalone.js")}</script>\n</body>\n</html>\n'
    )


def page_path(path: str | Path) -> Path:
    """Return where a page will be written. Raises ValueError unless that is an .html file in an existing folder."""
    path = path_of(path, "the name of a file that ends in .html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"expected a file name that ends in .html, got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"expected a folder that exists, got {str(path.parent)!r}; create it first")
    return path


def save(
    path: str | Path,
    panels: Sequence[Saveable],
    title: str,
    extra: Iterable[str] = (),
    kept: Kept | None = None,
) -> Path:
    """Write the page once the panels show the newest selection; return the path.

    Raises ValueError for a name that does not end in .html, a missing folder, or a panel that has nothing to show
    yet.
    """
    place = page_path(path)
    wait_for(panels)
    write_whole(place, page(panels, title, extra, kept).encode())
    return place


def wait_for(panels: Sequence[Saveable]) -> None:
    """Wait until the panels show the newest selection. Raises ValueError for a panel that has nothing to show yet."""
    panels[0].session.wait(None)
    empty = [panel.name for panel in panels if not panel.view]
    if empty:
        raise ValueError(
            f"panel {empty[0]!r} shows nothing to save: "
            f"{panels[0].error.get('message') or 'it has not been drawn yet'}; select what it needs "
            "and save again"
        )
