"""The page that carries the model: export, packing and the board as a folder of static files."""

from clipviz.page.export import CannotExport
from clipviz.page.publishing import publish

__all__ = ["CannotExport", "publish"]
