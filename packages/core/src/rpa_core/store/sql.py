"""Named statements from the `.sql` files beside this module."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_HEADER = re.compile(rb"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def statements(file: str) -> dict[str, bytes]:
    """Every statement of `sql/<file>.sql`, by the name in its `-- name:` header."""
    text = resources.files("rpa_core.store").joinpath("sql", f"{file}.sql").read_bytes()
    parts = _HEADER.split(text)[1:]
    return {name.decode(): body.strip().rstrip(b";") for name, body in zip(parts[::2], parts[1::2], strict=True)}
