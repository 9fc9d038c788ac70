"""Producers: they enqueue numbered records and write down what they were told."""

from __future__ import annotations

import importlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import psycopg

from rpa_core.errors import RpaError
from rpa_core.store.connect import connect
from rpa_core.store.intake import NewRecord, enqueue
from rpa_testkit.history.entries import Kind
from rpa_testkit.history.writer import HistoryWriter
from rpa_testkit.scenario.model import Workload
from rpa_testkit.scenario.plan import Draws

Payload = Callable[[int, random.Random], Any]
_AGAIN_S = 0.25
_FASTEST = 20_000.0
_TICK_S = 0.01
_KEPT_SHARE = 0.1


def key_of(serial: int) -> str:
    """A record's key; `serial_of` is the reverse."""
    return f"t{serial}"


def serial_of(key: str | None) -> int | str | None:
    """The serial, or the key itself where it is none of ours."""
    return int(key[1:]) if key and key[0] == "t" and key[1:].isdigit() else key


class Producers:
    """Enqueues `workload.records` records, numbered from 0.

    `remaining_s` tells how long the faults will go on; where no rate is given, records are spread over that time, and
    what is left when the faults are over comes at once. `to_come` tells how many faults have yet to strike: with each
    strike each producer enqueues a batch at once, which was kept for it, so that also a short fault and the last one,
    however long it had to wait for its turn, meet work.
    """

    def __init__(
        self,
        workload: Workload,
        dsn: str,
        history: HistoryWriter,
        draws: Draws,
        remaining_s: Callable[[], float],
        to_come: Callable[[], int],
    ) -> None:
        self._workload = workload
        self._dsn = dsn
        self._history = history
        self._draws = draws
        self._remaining_s = remaining_s
        self._to_come = to_come
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._next = 0
        self.enqueued = 0
        """Records whose commit was acknowledged."""
        self._pool = ThreadPoolExecutor(workload.producers, thread_name_prefix="producer")
        self._work = [self._pool.submit(self._run, number) for number in range(1, workload.producers + 1)]

    @property
    def done(self) -> bool:
        """Whether all is enqueued, or a producer has failed."""
        return all(work.done() for work in self._work)

    def finish(self) -> None:
        """Wait for the producers; raises what one of them raised."""
        for work in self._work:
            work.result()
        self._pool.shutdown()

    def stop(self) -> None:
        """Enqueue no more; returns when the last transaction has ended."""
        self._stop.set()
        self._pool.shutdown()

    def _run(self, number: int) -> None:
        actor = f"producer-{number}"
        make, rand = payload_maker(self._workload), self._draws(f"payloads:{number}")
        delays, pace = self._draws(f"delays:{number}"), _Pace(self._rate, self._to_come, self._stop)
        connection: psycopg.Connection[Any] | None = None
        while not self._stop.is_set() and (batch := self._take()) is not None:
            first, n = batch
            records = [NewRecord(orjson.dumps(make(first + i, rand)), key_of(first + i)) for i in range(n)]
            while not self._stop.is_set():
                self._history.add(actor, Kind.INVOKE, "enqueue", first, n)
                committing = False
                try:
                    connection = connection or connect(self._dsn, application_name="rpa-testkit producer")
                    with connection.transaction():
                        enqueue(connection, self._workload.flow, records)
                        if self._workload.commit_delay_ms:
                            self._stop.wait(self._workload.commit_delay_ms / 1000 * delays.uniform(0.5, 1.5))
                        committing = True
                except (psycopg.Error, RpaError) as error:
                    refused = isinstance(error, psycopg.errors.ReadOnlySqlTransaction)
                    kind = Kind.INFO if committing and not refused else Kind.FAIL
                    self._history.add(actor, kind, "enqueue", first, n)
                    if connection is not None:
                        connection.close()
                        connection = None
                    self._stop.wait(_AGAIN_S)
                    continue
                self._history.add(actor, Kind.OK, "enqueue", first, n)
                with self._guard:
                    self.enqueued += n
                break
            pace.spend(n)
        if connection is not None:
            connection.close()

    def _take(self) -> tuple[int, int] | None:
        """The first serial and the size of the next batch; None when all are taken, or this is to stop."""
        while not self._stop.is_set():
            kept = self._kept()
            with self._guard:
                left = self._workload.records - self._next
                if left <= 0:
                    return None
                if left > kept:
                    n = min(self._workload.batch, left)
                    first, self._next = self._next, self._next + n
                    return first, n
            self._stop.wait(_TICK_S)
        return None

    def _kept(self) -> int:
        """Records for the faults that are to come, a small part of all."""
        each = self._workload.batch * self._workload.producers
        return min(self._to_come() * each, int(self._workload.records * _KEPT_SHARE))

    def _rate(self) -> float:
        """One producer's, in records/s, right now."""
        rate = self._workload.rate
        if not rate:
            left_s = self._remaining_s()
            left = self._workload.records - self._next
            rate = _FASTEST if left_s <= 0 else min(_FASTEST, max(1.0, left / left_s))
        return rate / self._workload.producers


class _Pace:
    """Keeps one producer at a rate that may change while it waits; time spent enqueueing counts.

    A fault that strikes is waited for no longer: what comes too early then is waited for later.
    """

    def __init__(self, rate: Callable[[], float], to_come: Callable[[], int], stop: threading.Event) -> None:
        self._rate = rate
        self._to_come = to_come
        self._stop = stop
        self._answered = to_come()
        self._earned = 0.0
        self._since = time.monotonic()

    def spend(self, n: int) -> None:
        """Wait until `n` records more are due."""
        self._earn()
        while self._earned < n and not self._struck():
            if self._stop.wait(min(_TICK_S, (n - self._earned) / self._rate())):
                break
            self._earn()
        self._earned = min(self._earned - n, float(n))  # what was missed in an outage is not made up for at once

    def _struck(self) -> bool:
        before, self._answered = self._answered, self._to_come()
        return self._answered < before

    def _earn(self) -> None:
        now = time.monotonic()
        self._earned += (now - self._since) * self._rate()
        self._since = now


def payload_maker(workload: Workload) -> Payload:
    """The workload's own, or the probe's; ValueError if it cannot be loaded."""
    if workload.payload is None:
        return _probe_payload(workload)
    module, _, name = workload.payload.partition(":")
    try:
        made: Payload = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"payload {workload.payload!r} cannot be loaded: {error}; give module:function") from error
    return made


def _probe_payload(workload: Workload) -> Payload:
    def make(serial: int, rand: random.Random) -> dict[str, Any]:
        payload: dict[str, Any] = {"n": serial}
        if workload.work_ms:
            payload["ms"] = workload.work_ms
        chance = rand.random()
        if chance < workload.reject_share:
            payload["do"] = "reject"
        elif chance < workload.reject_share + workload.retry_share:
            payload["do"] = "retry"
        return payload

    return make
