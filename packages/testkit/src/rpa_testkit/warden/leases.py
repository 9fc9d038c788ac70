"""What is to be undone, when a session ends or when its time is up."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from rpa_testkit.warden.execution import carry_out
from rpa_testkit.warden.undo import Undo

Log = Callable[[str], None]
_UNDO_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What is to be undone at `expires_at` on the monotonic clock."""

    id: str
    session: int
    run_id: str
    undo: tuple[Undo, ...]
    expires_at: float


class Leases:
    """All leases; a thread of its own undoes those that run out."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._changed = threading.Condition()
        self._standing: dict[str, Lease] = {}
        self._numbers = itertools.count(1)
        threading.Thread(target=self._expire, name="expiry", daemon=True).start()

    def add(self, session: int, run_id: str, undo: tuple[Undo, ...], expires_s: float) -> str:
        """A new lease's id."""
        expires_at = time.monotonic() + expires_s
        with self._changed:
            lease = Lease(id=str(next(self._numbers)), session=session, run_id=run_id, undo=undo, expires_at=expires_at)
            self._standing[lease.id] = lease
            self._changed.notify()
        return lease.id

    def take(self, chosen: Callable[[Lease], bool]) -> list[Lease]:
        """Take out those that are chosen: each is given to one caller, who undoes it or knows that it was undone."""
        with self._changed:
            taken = [lease for lease in self._standing.values() if chosen(lease)]
            for lease in taken:
                del self._standing[lease.id]
            return taken

    def undo(self, leases: Collection[Lease], why: str) -> list[str]:
        """Carry all out at once and say so; returns after five seconds at most, what takes longer goes on."""
        workers = [threading.Thread(target=self._undo, args=(lease, why), daemon=True) for lease in leases]
        for worker in workers:
            worker.start()
        deadline = time.monotonic() + _UNDO_S
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        return [f"fault in place ({', '.join(type(undo).__name__ for undo in lease.undo)})" for lease in leases]

    def _undo(self, lease: Lease, why: str) -> None:
        for undo in lease.undo:
            self._log(f"run {lease.run_id}, lease {lease.id}: {why}; {undo}")
            try:
                carry_out(undo)
            except Exception as error:  # noqa: BLE001 - the others are to be undone whatever becomes of this one
                self._log(f"run {lease.run_id}, lease {lease.id}: {type(error).__name__}: {error}")

    def _expire(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                next_at = min((lease.expires_at for lease in self._standing.values()), default=None)
                if next_at is None or next_at > now:
                    self._changed.wait(None if next_at is None else next_at - now)
                    continue
            for lease in self.take(lambda lease: lease.expires_at <= time.monotonic()):
                threading.Thread(target=self._undo, args=(lease, "it has run out"), daemon=True).start()
