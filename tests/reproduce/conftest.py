"""Reports draw their figures once, as SVG, but for chapter 2's, which are drawn in every format."""

from __future__ import annotations

from functools import partial

import pytest

from clipviz.figures import style


@pytest.fixture(scope="package")
def every_format():
    """The function that saves a figure as the command does."""
    return style.save


@pytest.fixture(scope="package", autouse=True)
def one_format(every_format):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", partial(every_format, formats=("svg",)))
        yield
