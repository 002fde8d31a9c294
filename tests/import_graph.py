"""The import graph of the package, read from the source: lazy imports and those for types alone included."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "clipviz"
TABLES = ("_NAMES", "_MODULES")
"""Literal tables that a package's lazy __getattr__ reads: its way to other modules, followed like an import."""


def module_name(path: Path) -> str:
    """clipviz/lens/cues.py -> "clipviz.lens.cues"; a package's __init__.py -> the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def syntax(path: Path) -> ast.Module:
    """A file's syntax, parsed once; the syntax of the whole package is large, so forget it afterwards."""
    return ast.parse(path.read_text(encoding="utf-8"))


def nodes(path: Path, types: bool) -> Iterator[ast.AST]:
    """A file's syntax, at any depth; types: with what only a type checker reads."""
    waiting: list[ast.AST] = [syntax(path)]
    while waiting:
        node = waiting.pop()
        yield node
        if not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


@functools.cache
def imports(path: Path, types: bool = True) -> frozenset[str]:
    """Modules that a file imports, at any depth; `from clipviz import lens` is clipviz.lens.

    types: also for a type checker alone, since whoever reads a file has to know these modules as well.

    Names that a package serves lazily count as the module that they come from.
    """
    found: set[str] = set()
    for node in nodes(path, types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            served = {name for alias in node.names if (name := serves(node.module, alias.name))}
            found |= served or {node.module}
        elif isinstance(node, ast.Call) and called(node) == "import_module":
            found |= imported_by_name(path, node.args[0])
    return frozenset(found)


def called(node: ast.Call) -> str:
    """The last name of what is called: `import_module` of `importlib.import_module(...)`."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def imports_at_once(path: Path) -> set[str]:
    """Modules that a file imports when it is imported itself, not when something in it is called."""
    found: set[str] = set()
    for node in syntax(path).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def serves(module: str, name: str) -> str | None:
    """The module behind `from module import name`: a submodule, or the place of a lazily served name."""
    if f"{module}.{name}" in FILES:
        return f"{module}.{name}"
    tables = lazy_tables(FILES[module]) if module in FILES else {}
    target = tables.get("_NAMES", {}).get(name) if isinstance(tables.get("_NAMES"), dict) else None
    return target if target is None or target in FILES else f"{module}.{target}"


@functools.cache
def lazy_tables(path: Path) -> dict[str, object]:
    """The literal tables of a lazy package."""
    return {
        target.id: ast.literal_eval(node.value)
        for node in syntax(path).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in TABLES
    }


def imported_by_name(path: Path, argument: ast.expr) -> set[str]:
    """Modules that importlib.import_module may load: a literal, those below an f-string's prefix, or the tables of a
    lazy package. Another argument is returned as "?argument", to be listed in the test."""
    tables = lazy_tables(path) if path.name == "__init__.py" else {}
    if tables:
        return {target for table in tables.values() for target in table_targets(module_name(path), table)}
    if isinstance(argument, ast.Constant):
        return {str(argument.value)}
    if isinstance(argument, ast.JoinedStr) and isinstance(argument.values[0], ast.Constant):
        prefix = str(argument.values[0].value)
        return {name for name in FILES if name.startswith(prefix)}
    return {f"?{ast.unparse(argument)}"}


def table_targets(package: str, table: object) -> set[str]:
    """The modules that a lazy table names, in full or within its package."""
    names = table.values() if isinstance(table, dict) else table
    return {name if name in FILES else f"{package}.{name}" for name in names}  # type: ignore[union-attr]


def graph() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, itself left out."""
    arrows = {}
    for name, path in FILES.items():
        found = {target for target in imports(path) if target.split(".")[0] == "clipviz"}
        arrows[name] = {owner for target in found if (owner := owning(target)) != name}
    return arrows


def owning(target: str) -> str:
    """The file that a dotted name lies in."""
    while target not in FILES:
        target = target.rpartition(".")[0]
    return target


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other: strongly connected components of more than one (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(arrows[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in arrows:
        if name not in index:
            visit(name)
    return sorted(found)
