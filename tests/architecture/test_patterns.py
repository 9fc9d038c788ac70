"""Regular expressions keep to what every supported patch release of Python reads the same way."""

from __future__ import annotations

import ast
import re
import re._parser as parser  # type: ignore[import-not-found]  # where the opcodes are
from collections.abc import Iterator
from typing import Any

import pytest
from ci.sources import python_files, tree, where

_CALLS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "finditer", "findall"}
_KINDS = {"POSSESSIVE_REPEAT", "ATOMIC_GROUP"}


def _texts(module: ast.Module) -> Iterator[tuple[int, str | bytes]]:
    """Every piece of text that a call of `re` gets, directly, through a name of the module, or as `pattern=`."""
    named: dict[str, ast.expr] = {}
    for statement in module.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                named[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                named[name] = value
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        given = [keyword.value for keyword in node.keywords if keyword.arg == "pattern"]
        if isinstance(node.func, ast.Attribute) and node.func.attr in _CALLS and ast.unparse(node.func.value) == "re":
            given += node.args[:1]
        for argument in given:
            for part in ast.walk(named.get(argument.id, argument) if isinstance(argument, ast.Name) else argument):
                if isinstance(part, ast.Constant) and isinstance(part.value, (str, bytes)):
                    yield node.lineno, part.value


def _possessive(pattern: str | bytes) -> bool:
    """Whether it has a possessive quantifier or an atomic group; a piece of a pattern is judged by its text."""
    try:
        return _has(parser.parse(pattern))
    except (re.error, OverflowError):
        text = pattern if isinstance(pattern, str) else pattern.decode("latin-1")
        return re.search(r"(?<!\\)[*+?}]\+|\(\?>", text) is not None


def _has(parsed: Any) -> bool:
    if isinstance(parsed, parser.SubPattern | list | tuple):
        return any(_has(each) for each in parsed)
    return str(parsed) in _KINDS


@pytest.mark.requirement("R8.7")
def test_no_pattern_is_possessive() -> None:
    """Python 3.11.4 and before read nested possessive quantifiers wrongly: they match more than they should."""
    wrong = [where(path, line) for path in python_files() for line, text in _texts(tree(path)) if _possessive(text)]
    assert not wrong, f"written without possessive quantifiers and atomic groups, please: {wrong}"


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("code", "found"),
    [
        (r"re.compile(r'a++b')", True),
        (r"re.compile(rb'(?:[^,]++|x)*')", True),
        (r"re.search(r'(?>a|b)', text)", True),
        (r"re.fullmatch(r'a{2,3}+', text)", True),
        ("P = r'a?+'\nQ = re.compile(P)", True),
        (r"re.compile(r'(' + name + r'a*+)')", True),
        (r"Field(pattern=r'^\d++$')", True),
        (r"re.compile(r'a\++[+]+C\+\+')", False),
        (r"re.compile(r'(?:[^,]+|x)*?')", False),
        (r"print('C++ and (?> more')", False),
    ],
)
def test_possessive_patterns_are_found(code: str, found: bool) -> None:
    """Wherever they are given; escaped plus signs and other texts are not patterns of that kind."""
    assert any(_possessive(text) for _, text in _texts(ast.parse(code))) is found
