"""Published folders that tests open: what a session carries, without the board."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipviz.extras import lacking
from clipviz.page import carrying, packing, vendor
from clipviz.session import Session

NEEDS_EXPORTER = pytest.mark.skipif(bool(lacking("web")), reason=lacking("web"))

DESK = "words"
"""A desk that is published and computes with Python."""


def site(session: Session, folder: Path) -> Path:
    """A folder with the session's contents and the runtime."""
    (folder / "parts").mkdir(parents=True)
    parts = packing.Folder(folder / "parts")
    manifest = carrying.carry(session, parts, "float32")
    manifest["contents"]["runtime"] = parts.add(vendor.runtime())
    packing.manifest(folder / "manifest.json", manifest)
    return folder
