"""A folder of images that several tests open."""

from __future__ import annotations

import pytest

from tests.data.pictures import plain


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    plain().save(tmp_path / "b" / "two.png")
    plain().save(tmp_path / "one.jpg")
    plain().save(tmp_path / ".hidden" / "no.png")
    plain().save(tmp_path / ".no.png")
    return tmp_path
