"""The clock that a container's processes see, where its image preloads libfaketime.

The monotonic clock stays, as it does on a real machine whose clock is set. libfaketime 0.9.10 then breaks `time.sleep`
of Python 3.11 and later (it sleeps until an absolute time); waits on locks and sockets are not concerned.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rpa_testkit.drivers.container.handle import Container
from rpa_testkit.drivers.protocol import NotPossible
from rpa_testkit.warden.undo import Command

_OFFSET = "/tmp/.testkit-clock"  # noqa: S108 - in the container, whose /tmp is its own
ENVIRONMENT: Mapping[str, str] = {
    "FAKETIME_TIMESTAMP_FILE": _OFFSET,
    "FAKETIME_NO_CACHE": "1",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
}
"""For every worker; without libfaketime nobody reads it. A service's own `env` wins."""


def preloaded(environment: Sequence[str]) -> bool:
    """Whether a container's environment (`NAME=value`) preloads libfaketime."""
    return any(entry.startswith("LD_PRELOAD=") and "faketime" in entry for entry in environment)


def skew(container: Container, seconds: float) -> None:
    """Move its clock; 0 takes that back."""
    if not preloaded(container.inspect()["Config"]["Env"] or ()):
        raise NotPossible(
            f"{container.name} sees the machine's clock: install libfaketime in its image and set "
            "LD_PRELOAD=.../libfaketime.so.1 there, or in the service's env"
        )
    argv = ["sh", "-c", f'printf %s "$1" >{_OFFSET}', "sh", f"{seconds:+f}"] if seconds else ["rm", "-f", _OFFSET]
    ran = container.run(argv)
    if ran.code:
        raise NotPossible(f"the clock of {container.name} cannot be moved: {ran.text.strip()}")


def offset(container: Container) -> float:
    """Seconds that its clock is ahead of ours; starting a process there costs up to a tenth of a second."""
    before = time.time()
    ran = container.run(["date", "+%s.%N"])
    try:
        return float(ran.text) - (before + time.time()) / 2
    except ValueError:
        raise NotPossible(f"{container.name} cannot tell its time: {ran.text.strip()}") from None


def undo(container: Container) -> Command:
    """The same as `skew(container, 0)`."""
    return Command(argv=("docker", "exec", container.id, "rm", "-f", _OFFSET))
