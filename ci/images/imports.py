"""What one Python file may import, read from its syntax tree; nothing is run.

Every import counts, wherever it stands: in a function, under TYPE_CHECKING, in a `try`. What cannot be known by reading
(`import_module(name)`) is said as such.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

# Functions that import by a name. With a literal name they are imports like any other.
_BY_NAME = frozenset({"import_module", "__import__", "run_module", "find_spec", "resolve_name", "find_loader"})
# Functions that look for modules, or load one from a file: nothing can be read from their arguments.
_OPEN = frozenset({"iter_modules", "walk_packages", "spec_from_file_location", "SourceFileLoader", "load_module"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """What a file imports. A relative name has its dots in `level`; `names` may be modules or not."""

    plain: tuple[str, ...] = ()  # import a.b
    froms: tuple[tuple[int, str, tuple[str, ...]], ...] = ()  # from .a import b, c
    stars: tuple[tuple[int, str], ...] = ()  # from .a import *
    exported: tuple[str, ...] | None = ()  # __all__, which a star import of a package imports; None: cannot be read
    unknown: tuple[tuple[int, str], ...] = ()  # (line, why): it may import anything


@dataclass(slots=True)
class _Found:
    plain: set[str] = field(default_factory=set)
    froms: set[tuple[int, str, tuple[str, ...]]] = field(default_factory=set)
    stars: set[tuple[int, str]] = field(default_factory=set)
    exported: list[str] | None = field(default_factory=list)
    unknown: list[tuple[int, str]] = field(default_factory=list)


def read(source: bytes) -> Imports:
    """A file that cannot be parsed here (perhaps by a newer Python) may import anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
            nodes = list(ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        return Imports(unknown=((line, f"it cannot be parsed: {getattr(error, 'msg', None) or error}"),))
    found = _Found()
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    aliases = {name: name for name in _BY_NAME | _OPEN} | dict(_aliases(nodes))
    for node in nodes:
        if isinstance(node, ast.Import):
            found.plain.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            _from(node, found)
        elif isinstance(node, ast.Call):
            _call(node, aliases, found)
        elif isinstance(node, ast.Name | ast.Attribute):
            _name(node, aliases, called, found)
        elif isinstance(node, ast.Constant) and node.value in ("import_module", "__import__"):
            found.unknown.append((node.lineno, f'it speaks of "{node.value}"'))
    return Imports(
        plain=tuple(sorted(found.plain)),
        froms=tuple(sorted(found.froms)),
        stars=tuple(sorted(found.stars)),
        exported=_exported(tree, nodes),
        unknown=tuple(sorted(set(found.unknown))),
    )


def _aliases(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """from importlib import import_module as load; and `files` of importlib.resources, which imports its package."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                if alias.name in _BY_NAME | _OPEN:
                    yield alias.asname or alias.name, alias.name
                elif alias.name == "files" and node.module in ("importlib.resources", "importlib_resources"):
                    yield alias.asname or alias.name, "resources.files"


def _from(node: ast.ImportFrom, found: _Found) -> None:
    names = tuple(sorted(alias.name for alias in node.names if alias.name != "*"))
    if len(names) < len(node.names):
        found.stars.add((node.level, node.module or ""))
    else:
        found.froms.add((node.level, node.module or "", names))


def _function(node: ast.expr, aliases: dict[str, str]) -> str | None:
    """Which of the importing functions an expression names."""
    if isinstance(node, ast.Attribute):
        if node.attr == "files" and ast.unparse(node.value).rpartition(".")[2] in ("resources", "importlib_resources"):
            return "resources.files"
        return node.attr if node.attr in _BY_NAME | _OPEN else None
    return aliases.get(node.id) if isinstance(node, ast.Name) else None


def _call(node: ast.Call, aliases: dict[str, str], found: _Found) -> None:
    function = _function(node.func, aliases)
    if function is None:
        return
    first = node.args[0] if node.args else next((one.value for one in node.keywords if one.arg == "name"), None)
    literal = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    others = [*node.args[1:], *(one.value for one in node.keywords if one.arg != "name")]
    if literal is None or function in _OPEN or (others and function not in ("import_module", "find_spec")):
        found.unknown.append((node.lineno, f"{function} with a name known only when it runs"))
    elif literal.startswith("."):
        rest = literal.lstrip(".")
        if len(others) == 1 and isinstance(others[0], ast.Name) and others[0].id == "__package__":
            found.froms.add((len(literal) - len(rest), rest, ()))
        else:
            found.unknown.append((node.lineno, f"{function} relative to something known only when it runs"))
    else:
        name = literal.partition(":")[0]
        found.plain.add(name)
        if function == "run_module":
            found.froms.add((0, name, ("__main__",)))
        elif function == "resolve_name" and "." in name:  # may name an attribute of a module
            found.plain.add(name.rpartition(".")[0])


def _name(node: ast.Name | ast.Attribute, aliases: dict[str, str], called: set[int], found: _Found) -> None:
    if id(node) not in called and isinstance(node.ctx, ast.Load) and (function := _function(node, aliases)):
        found.unknown.append((node.lineno, f"{function} handed on"))


def _exported(tree: ast.Module, nodes: list[ast.AST]) -> tuple[str, ...] | None:
    """The names of one plain `__all__ = [...]`; None where it is made in any other way."""
    uses: list[ast.AST] = [node for node in nodes if isinstance(node, ast.Name) and node.id == "__all__"]
    uses += [node for node in nodes if isinstance(node, ast.alias) and "__all__" in (node.name, node.asname)]
    if not uses:
        return ()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and len(uses) == 1:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            names = _literal_names(node.value)
            if target is uses[0] and names is not None:
                return names
    return None


def _literal_names(value: ast.expr | None) -> tuple[str, ...] | None:
    if not isinstance(value, ast.List | ast.Tuple):
        return None
    names = [one.value for one in value.elts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return tuple(sorted(set(names))) if len(names) == len(value.elts) else None
