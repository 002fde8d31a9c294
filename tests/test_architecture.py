"""The house stands: arrows run one way, importing is instant, both environment files name the same packages."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import FILES, PACKAGE, called, circles, graph, imports, imports_at_once, syntax

ROOT = Path(__file__).parents[1]

# A room and the clipviz rooms it may import (itself always). CONTRIBUTING.md says what each is for.
ARROWS = {
    "values": set(),
    "version": set(),
    "worker": set(),
    "files": set(),
    "waits": set(),
    "extras": set(),
    "lazily": set(),
    "hub": set(),
    "lens": {"values", "lazily"},
    "data": {"values", "files", "lazily"},
    "figures": {"values", "extras"},
    "models": {"data", "lens", "values", "files", "hub"},
    "analysis": {"models", "data", "lens", "values", "files", "waits", "lazily"},
    "demo": {"analysis", "models", "data", "lens", "values", "files"},
    "loading": {"demo", "models", "files"},
    "indexing": {"loading", "analysis", "models", "data", "lens", "values", "version", "files", "hub"},
    "session": {
        "hub",
        "indexing",
        "loading",
        "analysis",
        "models",
        "data",
        "lens",
        "values",
        "files",
        "worker",
        "version",
        "waits",
    },
    "panels": {"session", "figures", "values", "worker", "files", "waits"},
    "reproduce": {
        "session",
        "indexing",
        "loading",
        "demo",
        "analysis",
        "models",
        "data",
        "lens",
        "figures",
        "values",
        "files",
        "version",
        "extras",
    },
    "page": {
        "panels",
        "session",
        "loading",
        "analysis",
        "data",
        "models",
        "lens",
        "values",
        "files",
        "version",
        "extras",
    },
    "lessons": {"panels", "session", "figures", "lens", "values", "files", "extras"},
    "first_run": set(),
    "cli": {
        "page",
        "panels",
        "reproduce",
        "indexing",
        "loading",
        "models",
        "data",
        "version",
        "files",
        "extras",
    },
}
ARROWS["__init__"] = set(ARROWS) - {"cli", "first_run"}
# What a room may touch outside the standard library; None = anything declared.
OUTSIDE = {
    "values": {
        "torch",
        "numpy",
        "PIL",
        "jaxtyping",
        "typing_extensions",
        "pandas",
        "polars",
        "pyarrow",
        "xarray",
    },
    "worker": set(),
    "files": set(),
    "waits": set(),
    "extras": set(),
    "lens": {"torch", "numpy", "scipy", "sklearn", "jaxtyping"},
    "data": {"numpy", "PIL", "scipy", "h5py", "pyarrow", "wordfreq", "safetensors", "platformdirs", "fsspec"},
    "figures": {"numpy", "matplotlib", "plotly"},
    "page": {"torch", "numpy", "PIL", "onnx"},
    "lessons": {"torch", "numpy", "matplotlib", "nbformat"},
    "panels": {"anywidget", "ipywidgets", "traitlets", "numpy", "PIL", "matplotlib", "typing_extensions"},
}
ROOMS_WITH_A_COMMAND = {"clipviz.indexing.command", "clipviz.page.command", "clipviz.reproduce.command"}
# Imports by a variable, and what it can be.
BY_VARIABLE = {
    ("clipviz.cli", "options.room"): ROOMS_WITH_A_COMMAND,
    ("clipviz.cli", "room"): ROOMS_WITH_A_COMMAND,
    ("clipviz.lazily", "f'{package}.{name}'"): set(),
    ("clipviz.values.tables", "package"): {"pandas", "polars", "pyarrow", "xarray"},
}


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """What was parsed is not kept for the tests after these."""
    yield
    syntax.cache_clear()


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(name: str, types: bool = True) -> set[str]:
    """What a module imports, those by a variable included; types: those for a type checker alone, too."""
    found = set()
    for module in imports(FILES[name], types):
        found |= BY_VARIABLE[name, module[1:]] if module.startswith("?") else {module}
    return found


@pytest.mark.parametrize("name", FILES)
def test_arrows_run_one_way(name):
    room = room_of(name)
    for module in imports_of(name):
        top = module.split(".")[0]
        if top == "clipviz":
            target = room_of(module)
            assert target in ARROWS[room] | {room}, f"{name} imports {module}: {room} -> {target}"
    for module in imports_of(name, types=False):
        top = module.split(".")[0]
        if room in OUTSIDE and top != "clipviz" and top not in sys.stdlib_module_names:
            assert top in OUTSIDE[room], f"{name} imports {module}, which is not for {room}"


def test_no_room_and_no_file_lies_on_a_circle():
    assert circles(ARROWS) == []
    arrows = graph()
    for (name, _), targets in BY_VARIABLE.items():
        arrows[name] |= targets & set(FILES)
    assert circles(arrows) == []


def test_demo_is_reached_through_loading_and_by_the_reports_alone():
    reaching = {
        room_of(name) for name, targets in graph().items() if any(room_of(t) == "demo" for t in targets)
    }
    assert reaching <= {"__init__", "demo", "loading", "reproduce"}


def test_what_makes_the_demo_stands_outside_of_the_package():
    for name, path in FILES.items():
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"^ *(from|import) tools\b", source, re.MULTILINE), name
        if room_of(name) == "demo":
            assert not re.search(r"\.optim\b|\.backward\(", source), f"{name} trains"


def private(path):
    """Names with an underscore that a file takes from elsewhere: imported, or asked of anything but itself."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if re.match("_[a-z]", alias.name))
        elif isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls") and node.attr not in ("_asdict", "_replace"):
                yield f"{owner}.{node.attr}"


def test_reports_use_what_is_public():
    """No name with an underscore, and of the session only what its package serves."""
    for name, path in FILES.items():
        if room_of(name) == "reproduce":
            assert not [*private(path)], name
            asked = {module for module in imports_of(name) if room_of(module) == "session"}
            assert asked <= {"clipviz.session"}, f"{name} looks behind a session"


def test_no_file_asks_for_a_models_name():
    guilty = [
        name
        for name, path in FILES.items()
        if re.search(r"\.name [!=]= [\"']demo", path.read_text(encoding="utf-8"))
    ]
    assert guilty == []


def test_the_walk_sees_lazy_imports_and_circles(tmp_path, monkeypatch):
    import import_graph

    package = tmp_path / "clipviz"
    for room in ("low", "high"):
        (package / room).mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "low" / "__init__.py").write_text(
        'import importlib\n_NAMES = {"served": "clipviz.low.inner"}\n'
        "def __getattr__(name):\n    return importlib.import_module(_NAMES[name])\n"
    )
    (package / "low" / "inner.py").write_text("def later():\n    from clipviz.high import top\n")
    (package / "high" / "__init__.py").write_text("")
    (package / "high" / "top.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from clipviz.high import typed\n"
        'import importlib\nfrom clipviz.low import served\nimportlib.import_module(f"clipviz.low.{1}")\n'
    )
    (package / "high" / "typed.py").write_text("")
    monkeypatch.setattr(import_graph, "PACKAGE", package)
    files = {import_graph.module_name(path): path for path in package.rglob("*.py")}
    monkeypatch.setattr(import_graph, "FILES", files)
    arrows = graph()
    assert arrows["clipviz.low"] == {"clipviz.low.inner"}
    assert arrows["clipviz.low.inner"] == {"clipviz.high.top"}
    assert arrows["clipviz.high.top"] == {"clipviz.low.inner", "clipviz.high.typed"}
    assert circles(arrows) == [["clipviz.high.top", "clipviz.low.inner"]]


def test_only_models_and_demo_know_open_clip():
    knowing = {room_of(name) for name in FILES if any(m.startswith("open_clip") for m in imports_of(name))}
    assert knowing <= {"models", "demo"}


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, clipviz; print([m for m in ('torch', 'open_clip', 'ipywidgets', 'numpy') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


SLOW = {"matplotlib", "pandas", "plotly", "scipy", "sklearn", "timm", "transformers"}
"""Packages that take a part of a second to import and that a first look does not need."""


def test_what_a_first_look_does_not_need_is_imported_where_it_is_used():
    for name, path in FILES.items():
        if room_of(name) not in ("figures", "reproduce"):  # which panels import when they print
            at_once = {module.partition(".")[0] for module in imports_at_once(path)}
            assert not at_once & SLOW, name


def test_one_version_everywhere():
    import clipviz

    assert f'version = "{clipviz.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_public_names_are_there():
    import clipviz

    for name in ("load", "load_generator", "wrap", "Session", "Dashboard", "Selection", "Ablation"):
        assert getattr(clipviz, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        clipviz.nothing  # noqa: B018
    assert "load" in dir(clipviz)


def bare(requirement: str) -> str:
    return re.split(r"[<>=!\[ ;]", requirement.strip().strip('",- '))[0].lower().replace("_", "-")


def test_the_conda_environment_is_made_from_the_projects_list():
    tool = runpy.run_path(str(ROOT / "tools" / "environment.py"))
    assert (ROOT / "environment.yml").read_text(encoding="utf-8") == tool["environment"](), (
        "run python tools/environment.py"
    )


def test_requirements_are_ranges():
    block = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]\n")[0]
    assert "==" not in block
    assert "+cpu" not in block


WORDS = ["/work/", "/root/", "issue #", "pypi.org", "registry.npmjs", "huggingface.co"]


NOT_OURS = {".venv", ".git", "node_modules"}
TEXTS = {".py", ".js", ".css", ".md", ".toml", ".yml", ".ipynb"}


@pytest.fixture(scope="module")
def speaking():
    """Word -> the files of the repository that it stands in, each read once."""
    found = {word: [] for word in WORDS}
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS]
        for path in (Path(folder, name) for name in names):
            if path.suffix in TEXTS and path != Path(__file__):
                text = path.read_text(encoding="utf-8", errors="replace")
                for word in WORDS:
                    if word in text:
                        found[word].append(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("word", WORDS)
def test_the_product_speaks_of_itself_alone(speaking, word):
    assert not speaking[word]


def test_text_files_are_read_and_written_as_utf8_whatever_the_locale():
    guilty = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in FILES.values()
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Call)
        and called(node) in ("read_text", "write_text")
        and "encoding" not in {word.arg for word in node.keywords}
    ]
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
    stated = re.findall(r"([A-Za-z0-9_-]+)>=([0-9.]+)", (ROOT / file).read_text(encoding="utf-8"))
    found = [
        tuple(map(int, version.split(".")))
        for name, version in stated
        if renamed.get(bare(name), bare(name)) == package
    ]
    assert found
    assert min(found) >= SAFE[package]


def test_the_embedded_pictures_are_opened_without_torch():
    code = "import sys; from clipviz import demo; images = demo.images(); images[0]; images.masks(0); len(demo.texts())"
    code += "; print([m for m in ('torch', 'open_clip', 'ipywidgets') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
