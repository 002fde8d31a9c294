"""Scripts and style sheets as strings: no bundler, no file that the browser fetches.

kit/ holds what scripts share, plain declarations one after the other; a panel's own file follows them and exports
`render`. The same strings serve notebooks and saved pages.
"""

from __future__ import annotations

from importlib import resources

KIT = ("dom", "figure", "grid", "gallery", "maps", "plane", "points", "protocol", "links")


def text(name: str) -> str:
    """A file of this folder."""
    return (resources.files("clipviz.panels") / name).read_text(encoding="utf-8")


def kit() -> str:
    """The helpers that all scripts share, one after the other."""
    return "".join(text(f"kit/{name}.js") for name in KIT)


def script(name: str) -> str:
    """A panel's script: the kit, then its own file. A string, so that close() frees it."""
    return kit() + text(f"{name}.js")


def style(name: str) -> str:
    """A panel's style sheet: the shared one, then its own where it has one."""
    own = (resources.files("clipviz.panels") / f"{name}.css").is_file()
    return text("base.css") + (text(f"{name}.css") if own else "")
