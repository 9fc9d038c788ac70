"""A bounded look-up table in front of a pure function: most answers of a survey come from a small set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LIMIT = 4096


class Memo(dict[Any, Any]):
    """`table[x]` is `function(x)`, remembered for the first `limit` distinct x; beyond them it is computed each time.

    Bounded, so that a worker's memory does not grow with what it reads. Errors are not remembered. Equal keys of
    different types (1, 1.0, True) share an entry: use it only where they mean the same.
    """

    def __init__(self, function: Callable[[Any], Any], limit: int = _LIMIT) -> None:
        super().__init__()
        self._function = function
        self._limit = limit

    def __missing__(self, key: Any) -> Any:
        value = self._function(key)
        if len(self) < self._limit:
            self[key] = value
        return value
