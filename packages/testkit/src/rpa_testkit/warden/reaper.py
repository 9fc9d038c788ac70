"""Looks for what runs have left behind and removes it, again and again, until nothing is found."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass

from rpa_testkit.warden.containers import Containers
from rpa_testkit.warden.processes import kill, marked
from rpa_testkit.warden.servers import guardians, protected, take_down

_EVERY_S = 0.05
_CONTAINERS_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to look.

    quiet_s     how long nothing must be found: what a dying tester was just starting appears a moment later.
    guardian_s  how long a PostgreSQL's guardian is given to stop it.
    limit_s     when to give up.
    """

    quiet_s: float
    guardian_s: float
    limit_s: float


def reap(run_ids: Collection[str], patience: Patience) -> list[str]:
    """Kill and remove; what was found, in words, each thing once."""
    pause = threading.Event()
    containers = Containers()
    found: dict[str, None] = {}
    began = quiet_since = containers_at = time.monotonic()
    while run_ids:
        now = time.monotonic()
        seen = _kill(run_ids, guardians_too=now - began >= patience.guardian_s)
        if now >= containers_at:
            removed = containers.remove(run_ids)
            seen += removed
            containers_at = time.monotonic() + (_EVERY_S if removed else _CONTAINERS_EVERY_S)
        if seen:
            found.update(dict.fromkeys(seen))
            quiet_since = time.monotonic()
        if now - began >= patience.limit_s or now - quiet_since >= patience.quiet_s:
            break
        pause.wait(_EVERY_S)
    return list(found)


def _kill(run_ids: Collection[str], *, guardians_too: bool) -> list[str]:
    processes = marked(run_ids)
    safe = set[int]() if guardians_too else protected(processes)
    for process in processes:
        if process.pid not in safe:
            kill(process)
    if guardians_too:
        for guardian in guardians(processes):
            take_down(guardian)
    return [str(process) for process in processes]
