"""The correction: what a variable wants to be, in words, from its field's type and limits."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from rpa_core.config.fields import Variable, leaf_types
from rpa_core.config.models import FLOW_PATTERN, LABEL_PATTERN
from rpa_core.config.units import parse_bytes, parse_seconds

PATTERNS = {
    LABEL_PATTERN: "letters, digits, '.', '_' and '-', at most 63 of them",
    FLOW_PATTERN: "a lower-case letter, then such letters, digits, '_', '.' and '-', at most 41 in all",
}


def expects(variable: Variable) -> str:
    """One clause such as `give a whole number (at least 1, at most 1000)`."""
    return f"give {wanted(variable)}"


def wanted(variable: Variable) -> str:
    """The form alone: `a whole number (at least 1, at most 1000)`."""
    leaves = leaf_types(variable.field.annotation)
    return f"{_kind(leaves, variable)}{_bounds(variable)}".replace(") (", ", ")


def literals(leaf: Any) -> tuple[str, ...]:
    """The allowed texts of a Literal, else nothing."""
    return tuple(map(str, typing.get_args(leaf))) if typing.get_origin(leaf) is typing.Literal else ()


def _kind(leaves: tuple[Any, ...], variable: Variable) -> str:
    choices = [choice for leaf in leaves for choice in literals(leaf)]
    if choices:
        return f"one of {', '.join(choices)}"
    validators = {getattr(item, "func", None) for item in variable.metadata}
    if parse_seconds in validators:
        return "a duration in seconds or with a unit (2.5, 10s, 5m)"
    if parse_bytes in validators:
        return "a size in bytes or with a unit (65536, 64KiB, 1GiB)"
    kinds = {typing.get_origin(leaf) or leaf for leaf in leaves}
    for kind, words in (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        (dict, "a JSON object"),
        (list, "a list with commas or in JSON"),
        (tuple, "a list with commas or in JSON"),
    ):
        if kind in kinds:
            return words
    if SecretStr in kinds and variable.name == "URL":
        return "postgresql://user@host:5432/database (the password may come as ..._PASSWORD or ..._PASSWORD_FILE)"
    if variable.name.endswith("URL"):
        return "http://host:port/path or https://..." + (" or tcp://host:port" if variable.name == "URL" else "")
    if Path in kinds:
        return "the path of a folder"
    if any(getattr(item, "pattern", None) for item in variable.metadata):
        return "a name"
    return "a text"


def _bounds(variable: Variable) -> str:
    low = high = pattern = None
    for item in variable.metadata:
        for name in ("ge", "gt"):
            bound = getattr(item, name, None)
            if bound is not None:
                low = f"above {bound}" if name == "gt" else f"at least {bound}"
        for name in ("le", "lt"):
            bound = getattr(item, name, None)
            if bound is not None:
                high = f"below {bound}" if name == "lt" else f"at most {bound}"
        pattern = getattr(item, "pattern", None) or pattern
    limits = ", ".join(part for part in (low, high) if part)
    if pattern:
        limits = ", ".join(part for part in (limits, PATTERNS.get(pattern, f"matching {pattern}")) if part)
    return f" ({limits})" if limits else ""
