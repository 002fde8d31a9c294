"""Pages that panels are saved as: where they may go, and that none is left half-written."""

from __future__ import annotations

from pathlib import Path

from clipviz.data.files import write_whole


def page_path(path: str | Path) -> Path:
    """Where a page will be written. ValueError for a name that does not end in .html, or a missing folder."""
    path = Path(path).expanduser()
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"expected a file name that ends in .html, got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"expected a folder that exists, got {str(path.parent)!r}; make it first")
    return path


def write_page(path: Path, text: str) -> Path:
    """Write the page whole, or not at all."""
    write_whole(path, text.encode())
    return path
