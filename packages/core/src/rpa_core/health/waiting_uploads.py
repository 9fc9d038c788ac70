"""Which uploads wait in the spools of this process: by key, so that a repeated one is known, and how many records."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress

from rpa_core.health.spooled_upload import Head, UnknownFormat, read_head
from rpa_core.resilience.spool.directory import Spools
from rpa_core.resilience.spool.model import DeadEntry
from rpa_core.resilience.spool.spool import Spool

KIND = "intake"
_SLICE = 16  # of which up to 256 KiB are read


class WaitingUploads:
    """In memory, beside the spools; an adopted spool is looked through once. Thread-safe."""

    def __init__(self, spools: Spools) -> None:
        self._spools = spools
        self._lock = threading.Lock()
        self._heads: dict[str, Head] = {}
        self._by_key: dict[tuple[str, str], Head] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        self._known: weakref.WeakSet[Spool] = weakref.WeakSet((spools.own,))

    def add(self, name: str, head: Head) -> None:
        """An upload was put under the id `name`."""
        with self._lock:
            self._add(name, head)

    def drop(self, name: str) -> None:
        """It waits no more."""
        with self._lock:
            head = self._heads.pop(name, None)
            if head is None:
                return
            uploads, records = self._counts[head.flow]
            self._counts[head.flow] = uploads - 1, records - head.n
            if head.idempotency_key is not None and self._by_key.get((head.flow, head.idempotency_key)) is head:
                del self._by_key[head.flow, head.idempotency_key]

    def drop_dead(self, dead: DeadEntry) -> None:
        """It will never be loaded by itself."""
        self.drop(dead.entry.id)

    def find(self, flow: str, key: str) -> Head | None:
        """The upload that waits under an idempotency key."""
        with self._lock:
            self._look_through()
            return self._by_key.get((flow, key))

    def count(self, flow: str) -> tuple[int, int]:
        """How many uploads to `flow` wait, and the records in them."""
        with self._lock:
            self._look_through()
            return self._counts.get(flow, (0, 0))

    def _add(self, name: str, head: Head) -> None:
        if name in self._heads:
            return
        self._heads[name] = head
        uploads, records = self._counts.get(head.flow, (0, 0))
        self._counts[head.flow] = uploads + 1, records + head.n
        if head.idempotency_key is not None:
            self._by_key.setdefault((head.flow, head.idempotency_key), head)

    def _look_through(self) -> None:
        for spool in self._spools.adopted():
            if spool in self._known:
                continue
            self._known.add(spool)
            last = 0
            while entries := spool.entries(KIND, limit=_SLICE, after=last):
                last = entries[-1].seq
                for entry in entries:
                    with suppress(UnknownFormat):  # refused when it is delivered
                        self._add(entry.id, read_head(entry.body))
