"""Write environment.yml from pyproject.toml: python tools/environment.py. A test compares the two.

conda installs what the panels, the notebooks and the reports are made of; pip adds clipviz with every extra.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
OF_CONDA = {"torch": "pytorch", "open_clip_torch": "open-clip-torch"}
BY_CONDA = ("lab", "reports")


def environment(root: Path = ROOT) -> str:
    """Return the text of environment.yml."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra in BY_CONDA:
        wanted += project["optional-dependencies"][extra]
    lines = ["name: clipviz", "channels:", "  - conda-forge", "  - nodefaults", "dependencies:"]
    lines += [f"  - python{project['requires-python']}", "  - pip"]
    lines += [f"  - {_for_conda(requirement)}" for requirement in wanted]
    return "\n".join([*lines, "  - pip:", "      - -e .[all]", ""])


def _for_conda(requirement: str) -> str:
    name, version = re.fullmatch(r"([A-Za-z0-9_.-]+?)([<>=!].*)?", requirement).groups()
    return f"{OF_CONDA.get(name, name)}{version or ''}"


if __name__ == "__main__":
    (ROOT / "environment.yml").write_text(environment(), encoding="utf-8")
