"""A topology that runs in containers."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rpa_testkit.drivers.container.engine import Engine
from rpa_testkit.drivers.container.handle import EngineError
from rpa_testkit.drivers.container.node import ContainerNode
from rpa_testkit.drivers.container.postgres import ContainerDatabase
from rpa_testkit.drivers.protocol import Node
from rpa_testkit.drivers.settings import LEDGER
from rpa_testkit.ports import HOST
from rpa_testkit.proxy.client import Proxy
from rpa_testkit.scenario.model import POSTGRES
from rpa_testkit.waits import WaitTimeoutError, until

_ASK_S = 1.0
_END_S = 20.0


class ContainerSystem:
    """A started topology; `programs` are its workers and dependencies."""

    def __init__(
        self,
        database: ContainerDatabase,
        proxy: Proxy,
        programs: Sequence[ContainerNode],
        *,
        run_id: str,
        spool: Path,
        secret: Path | None,
        published: Mapping[str, int],
    ) -> None:
        """`published` are the ports of the dependencies on this machine's loopback."""
        self.spool = spool
        self.secret = secret
        self.stand_ins: Mapping[str, str] = {}
        self._published = published
        self.database = database
        self.proxy = proxy
        self.dsn = database.dsn(LEDGER)
        self._programs = {program.name: program for program in programs}
        self._run_id = run_id

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Programs by name, and PostgreSQL."""
        return {**self._programs, POSTGRES: self.database}

    def url(self, name: str) -> str:
        """A dependency's base URL, past the proxy."""
        return f"http://{HOST}:{self._published[name]}"

    def leftovers(self) -> Sequence[str]:
        """Containers, networks and volumes of the run."""
        with Engine.connect(self._run_id) as engine:
            return engine.leftovers()


def clear(engine: Engine) -> None:
    """Remove all of the run, again while something is in the way; EngineError names what stays."""
    kept: list[str] = []

    def gone() -> bool:
        kept[:] = engine.remove_all()
        return not engine.leftovers()

    try:
        until(gone, _END_S, "the run's containers to be removed", every_s=0.2)
    except WaitTimeoutError as error:
        raise EngineError(f"{', '.join(engine.leftovers())} cannot be removed: {'; '.join(kept)}") from error


def answers(url: str) -> Callable[[], bool]:
    """Whether `url` answers 200 within a second."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=_ASK_S) as answer:  # noqa: S310 - a port of ours on loopback
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError, ValueError):
            return False

    return ask
