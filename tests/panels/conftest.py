"""Every view that a panel of the package shows in these tests is what its sent.py says."""

from __future__ import annotations

import pytest

from clipviz.panels.core.base import Panel
from panels.views import faults, kinds, view_faults


@pytest.fixture(autouse=True)
def views_as_declared(monkeypatch):
    found, show = [], Panel._show

    def checked(panel, selection, view, arrays):
        declared = kinds(panel)
        if declared is not None and "compute" not in vars(panel):  # a test's own is no view of the package
            found.extend(view_faults(view, declared[0]) + faults(arrays, declared[1], "arrays"))
        return show(panel, selection, view, arrays)

    monkeypatch.setattr(Panel, "_show", checked)
    yield
    assert found == []
