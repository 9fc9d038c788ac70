"""Durations and sizes as people write them: `10`, `2.5s`, `5m`, `64MiB`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AllowInfNan, BeforeValidator

_NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*$")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1000,
    "m": 1000**2,
    "mb": 1000**2,
    "g": 1000**3,
    "gb": 1000**3,
    "ki": 1024,
    "kib": 1024,
    "mi": 1024**2,
    "mib": 1024**2,
    "gi": 1024**3,
    "gib": 1024**3,
}


def parse_seconds(value: object) -> object:
    """`"5m"` -> 300.0. Values that are not text pass through; bad text raises ValueError without repeating it."""
    if not isinstance(value, str):
        return value
    found = _NUMBER.match(value)
    if not found or found[2].lower() not in _SECONDS:
        raise ValueError("is not a duration: write seconds (10, 2.5) or a unit (500ms, 10s, 5m, 2h, 7d)")
    return float(found[1]) * _SECONDS[found[2].lower()]


def parse_bytes(value: object) -> object:
    """`"64MiB"` -> 67108864. Kubernetes' `64Mi` works too. Fractions must come out at whole bytes."""
    if not isinstance(value, str):
        return value
    found = _NUMBER.match(value)
    if not found or found[2].lower() not in _BYTES:
        raise ValueError("is not a size: write bytes (1048576) or a unit (64KiB, 64MiB, 1GiB, 10MB)")
    unit = _BYTES[found[2].lower()]
    size = int(found[1]) * unit if found[1].isdigit() else float(found[1]) * unit
    if size != int(size):
        raise ValueError("is not a whole number of bytes")
    return int(size)


Seconds = Annotated[float, AllowInfNan(False), BeforeValidator(parse_seconds)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
