"""The sources, read as text and as syntax trees; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ci.workspace import MEMBERS, ROOT, files

PACKAGES = {f"rpa_{member}": ROOT / "packages" / member / "src" / f"rpa_{member}" for member in MEMBERS}


def modules(package: str) -> list[Path]:
    """Every module of a package."""
    return sorted(PACKAGES[package].rglob("*.py"))


def python_files() -> list[Path]:
    """Every Python file of the workspace."""
    return [path for path in files() if path.suffix == ".py"]


def tree(path: Path) -> ast.Module:
    """The module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(path: Path) -> str:
    """The module's import name: .../rpa_core/store/ledger.py -> rpa_core.store.ledger."""
    for root in PACKAGES.values():
        if path.is_relative_to(root):
            return ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
    raise ValueError(path)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every absolute module name that `path` imports, at any depth, with its line; `from a import b` gives a.b."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: bodies of functions do not, their defaults and decorators do."""
    if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for part in [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]:
            yield from at_import(part)
        return
    if isinstance(node, ast.Lambda):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from at_import(child)


def where(path: Path, line: int) -> str:
    """For a message."""
    return f"{path.relative_to(ROOT)}:{line}"
