"""The correction: what a variable wants to be, in words, from its field's type and limits."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import SecretStr

from rpa_core.config.fields import Variable, leaf_types
from rpa_core.config.units import parse_bytes, parse_seconds


def expects(variable: Variable) -> str:
    """One clause such as `give a whole number from 1 to 1000`."""
    leaves = leaf_types(variable.field.annotation)
    words = _kind(leaves, variable)
    bounds = _bounds(variable)
    return f"give {words}{bounds}"


def _kind(leaves: tuple[Any, ...], variable: Variable) -> str:
    choices = [
        choice for leaf in leaves if typing.get_origin(leaf) is typing.Literal for choice in typing.get_args(leaf)
    ]
    if choices:
        return f"one of {', '.join(map(str, choices))}"
    validators = {getattr(item, "func", None) for item in variable.field.metadata}
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
    if SecretStr in kinds and variable.name.endswith("URL"):
        return "postgresql://user@host:5432/database (the password may come as ..._PASSWORD or ..._PASSWORD_FILE)"
    if variable.name.endswith("URL"):
        return "http://host:port/path, https://... or tcp://host:port"
    return variable.description[:1].lower() + variable.description[1:] if variable.description else "a text"


def _bounds(variable: Variable) -> str:
    low = high = pattern = None
    for item in variable.field.metadata:
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
        limits = f"{limits}, matching {pattern}".lstrip(", ")
    return f" ({limits})" if limits else ""
