"""Drivers by name."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rpa_testkit.drivers.protocol import Driver, NotPossible

NAMES = ("process", "docker")


def expand(names: Iterable[str]) -> tuple[list[str], str]:
    """The drivers meant, and why docker is missing where `both` had to do without; in CI that is an error.

    ValueError says which names there are; NotPossible, in CI alone, what to do about the engine.
    """
    wanted: list[str] = []
    missing = ""
    for name in names:
        if name != "both":
            wanted.append(name)
            continue
        wanted.append("process")
        missing = choose("docker").cannot("crash") or ""
        if missing and os.environ.get("CI"):
            raise NotPossible(missing)
        wanted += [] if missing else ["docker"]
    for name in wanted:
        if name not in NAMES:
            raise ValueError(f"no driver is called {name!r}; there are {', '.join(NAMES)}, and both")
    return list(dict.fromkeys(wanted)), missing


def choose(name: str) -> Driver:
    """The driver; ValueError says which there are."""
    match name:
        case "process":
            from rpa_testkit.drivers.process.driver import ProcessDriver

            return ProcessDriver()
        case "docker":
            from rpa_testkit.drivers.container.driver import ContainerDriver

            return ContainerDriver()
    raise ValueError(f"no driver is called {name!r}; there are {', '.join(NAMES)}")
