"""What the counted proofs share: workers that reach PostgreSQL through an edge, and what they owe afterwards."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from rpa_testkit.ports import HOST
from rpa_testkit.proxy.client import Proxy

from .engine import Engine


@contextmanager
def edges(engine: Engine, count: int) -> Iterator[tuple[Proxy, list[str], list[str]]]:
    """A proxy, the names of its edges to the engine's server, and the database's URL through each."""
    given = urlsplit(engine.dsn)
    with Proxy.spawn(seed=5, env=os.environ) as proxy:
        names = [f"worker-{number}->postgres" for number in range(1, count + 1)]
        urls = []
        for name in names:
            port = proxy.open_edge(name, (HOST, given.port or 5432))
            user = f"{given.username}@" if given.username else ""
            urls.append(urlunsplit(given._replace(netloc=f"{user}{HOST}:{port}")))
        yield proxy, names, urls


class Feeder:
    """Keeps a flow supplied: records come whenever fewer than `least` wait. `n` is how many there are."""

    def __init__(self, engine: Engine, make: Callable[[int], dict[str, Any]], *, least: int, chunk_size: int) -> None:
        self.n = 0
        self._engine = engine
        self._make = make
        self._least = least
        self._chunk_size = chunk_size
        self._stop = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def __enter__(self) -> Feeder:
        self._feed()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.1):
                if self._engine.unfinished() < self._least:
                    self._feed()
        except Exception as error:  # noqa: BLE001 - it is raised where the feeder ends
            self._failed = error

    def _feed(self) -> None:
        first, some = self.n, 2 * self._least
        self._engine.enqueue(
            map(self._make, range(first, first + some)), chunk_size=self._chunk_size, key=f"from{first}-"
        )
        self.n += some


def settled_once(engine: Engine, n: int, timeout_s: float = 60) -> None:
    """Every record has one result and one effect."""
    assert engine.settle(timeout_s) == {"done": n}
    effects = engine.effects()
    assert len(effects) == n
    assert set(effects.values()) == {1}
