"""The house stands: arrows run one way, importing is instant, both environment files name the same packages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clipviz"

# A room and the clipviz rooms it may import (itself always).
ARROWS = {
    "values": set(),
    "worker": set(),
    "lens": {"values"},
    "data": {"values"},
    "figures": {"values"},
    "models": {"lens", "values"},
    "demo": {"analysis", "models", "lens", "data", "values"},
    "loading": {"demo", "models"},
    "analysis": {"models", "lens", "data", "values"},
    "indexing": {"loading", "analysis", "models", "lens", "data", "values"},
    "session": {"analysis", "indexing", "loading", "worker", "models", "lens", "data", "values"},
    "panels": {"session", "figures", "values", "worker"},
    "reproduce": {
        "session",
        "analysis",
        "loading",
        "demo",
        "indexing",
        "models",
        "lens",
        "data",
        "figures",
        "values",
    },
    "cli": {"panels", "data", "reproduce", "loading", "indexing", "models", "values"},
    "__init__": {"loading", "demo", "models", "session", "panels", "values", "data", "indexing", "reproduce"},
}
# What a room may touch outside the standard library; None = anything declared.
OUTSIDE = {
    "values": {"torch"},
    "worker": set(),
    "lens": {"torch", "numpy", "sklearn", "jaxtyping"},
    "data": {"numpy", "PIL", "scipy", "h5py", "pyarrow"},
    "figures": {"numpy", "matplotlib", "plotly"},
    "panels": {"anywidget", "ipywidgets", "traitlets", "numpy", "PIL", "matplotlib"},
}
# An index's manifest names the library's version. The rest are arrows still to be turned round.
ALSO = {("indexing", "__init__")}

# Panels write saved pages, whole or not at all.
FILES_OF_PANELS = ("panels", "clipviz.data.files")


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> set[str]:
    """Modules that a file imports at run time, at any depth; TYPE_CHECKING blocks are left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            known = (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "clipviz" else set()
            )
            found |= known if node.module == "clipviz" else {node.module}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(f.relative_to(PACKAGE)) for f in FILES])
def test_arrows_run_one_way(path):
    relative = path.relative_to(PACKAGE)
    room = relative.parts[0].removesuffix(".py")
    for module in imports(path):
        top = module.split(".")[0]
        if top == "clipviz":
            target = room_of(module)
            allowed = ARROWS[room] | {room}
            assert target in allowed or (room, target) in ALSO or (room, module) == FILES_OF_PANELS, (
                f"{relative} imports {module}: {room} -> {target}"
            )
        elif room in OUTSIDE and top not in sys.stdlib_module_names:
            assert top in OUTSIDE[room], f"{relative} imports {module}, which is not for {room}"


def test_only_models_and_demo_know_open_clip():
    knowing = {
        f.relative_to(PACKAGE).parts[0] for f in FILES if any(m.startswith("open_clip") for m in imports(f))
    }
    assert knowing <= {"models", "demo"}


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, clipviz; print([m for m in ('torch', 'open_clip', 'ipywidgets', 'numpy') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_public_names_are_there():
    import clipviz

    for name in ("load", "load_generator", "wrap", "Session", "Dashboard", "Selection", "Ablation"):
        assert getattr(clipviz, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        clipviz.nothing  # noqa: B018
    assert "load" in dir(clipviz)


def bare(requirement: str) -> str:
    return re.split(r"[<>=!\[ ;]", requirement.strip().strip('",- '))[0].lower().replace("_", "-")


def test_both_environment_files_name_the_same_packages():
    project = (ROOT / "pyproject.toml").read_text()
    block = project.split("dependencies = [")[1].split("]\n")[0]
    declared = {bare(line) for line in block.splitlines() if line.strip()}
    lines = (ROOT / "environment.yml").read_text().splitlines()
    wanted = {bare(line) for line in lines if line.strip().startswith("- ")}
    renamed = {"pytorch": "torch"}
    named = {renamed.get(name, name) for name in wanted} - {
        "python",
        "pip",
        "conda-forge",
        "nodefaults",
        "e",
        "pip:",
    }
    assert {name for name in named if name} == declared


def test_requirements_are_ranges():
    block = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]\n")[0]
    assert "==" not in block
    assert "+cpu" not in block


WORDS = ["/work/", "/root/", "issue #", "pypi.org", "registry.npmjs", "huggingface.co"]


@pytest.mark.parametrize("word", WORDS)
def test_the_product_speaks_of_itself_alone(word):
    texts = [
        f for f in ROOT.rglob("*") if f.suffix in {".py", ".js", ".css", ".md", ".toml", ".yml", ".ipynb"}
    ]
    texts = [f for f in texts if not {".venv", ".git", "node_modules"} & set(f.relative_to(ROOT).parts)]
    guilty = [
        str(f.relative_to(ROOT))
        for f in texts
        if f != Path(__file__) and word in f.read_text(errors="replace")
    ]
    assert not guilty


def test_text_files_are_read_and_written_as_utf8_whatever_the_locale():
    guilty = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "attr", "")
            if name in ("read_text", "write_text") and "encoding" not in {word.arg for word in node.keywords}:
                guilty.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert not guilty


# Least versions without a known way in: torch.load that unpickles, decoders that write past their buffers, ...
SAFE = {
    "open-clip-torch": (2, 27),
    "torch": (2, 6),
    "pillow": (12, 3),
    "jupyterlab": (4, 4, 8),
    "tqdm": (4, 66, 3),
}
SAFE |= {"scikit-learn": (1, 5)}


@pytest.mark.parametrize("package", SAFE)
@pytest.mark.parametrize("file", ["pyproject.toml", "environment.yml"])
def test_least_versions_are_safe_ones(file, package):
    renamed = {"pytorch": "torch"}
    found = [
        tuple(map(int, line.split(">=")[1].split(";")[0].strip(' ",').split(".")))
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines()
        if ">=" in line and renamed.get(bare(line.strip("- ")), bare(line.strip("- "))) == package
    ]
    assert found
    assert min(found) >= SAFE[package]
