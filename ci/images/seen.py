"""Keys that were once seen built here: they tell "removed" from "never built" in a reason, and decide nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PLACE = ".rpa/seen.json"
_MOST = 500


def load(root: Path) -> list[str]:
    """The keys, oldest first; none where there is no file that says so."""
    try:
        loaded = json.loads((root / PLACE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return loaded if isinstance(loaded, list) and all(isinstance(key, str) for key in loaded) else []


def add(root: Path, keys: Iterable[str], known: Iterable[str]) -> None:
    """Write `known` and `keys` down, if there is a new one among these."""
    merged = list(dict.fromkeys([*known, *keys]))
    if len(merged) == len(set(known)):
        return
    place = root / PLACE
    fresh = place.with_name(f"{place.name}.{os.getpid()}")
    with suppress(OSError):
        place.parent.mkdir(exist_ok=True)
        fresh.write_text(json.dumps(merged[-_MOST:]), encoding="utf-8")
        fresh.replace(place)
