"""One database of this process: every connection to it, whoever makes it, passes one breaker.

    connect, or a pool's thread -> refused a moment ago?  StoreDenied or StoreRefused again, without asking
                                -> breaker open?          StoreUnavailable, without asking
                                -> connect, ask once      away: the breaker opens; refused: the next try is put off

A connection counts when it has answered: a pooler such as PgBouncer lets clients in while the server behind it is gone.

A refusal is final until the database has let this process in once; from then on it is `StoreDenied`, which is borne
like an outage, because passwords are rotated under running workers. Nothing here is kept on disk.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Self, TypeVar

import psycopg
from psycopg import conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from rpa_core.clock import Clock, SystemClock
from rpa_core.errors import RpaError, StoreDenied, StoreRefused, StoreUnavailable
from rpa_core.resilience.breaker import BreakerPolicy, BreakerState, CircuitBreaker, CircuitOpen
from rpa_core.store.connect import connection_options, pool_options, prepare, translated
from rpa_core.store.lines import Line, LineWatch

Connection = psycopg.Connection[Any]
C = TypeVar("C", bound=Line)
# A server that waits for its client is not running what the client waits for.
_RUNNING = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE pid = ANY(%s) AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'"
)
_REFUSED_S = 1.0  # a server may lock out who tries a wrong password again and again
_OTHER_S = 0.2  # after a refusal, where there is another password to try


def breaker_policy(connect_timeout_s: float) -> BreakerPolicy:
    """One failed connection is enough; looks are 0.25 s apart at first and 1 to 2 s before long."""
    return BreakerPolicy(
        window_s=10.0, min_calls=1, failure_ratio=1e-9, open_s=0.25, open_cap_s=2.0, look_s=2 * connect_timeout_s + 5.0
    )


class Database:
    """Connections to one database, from any thread. `let_in`: it has admitted this process before.

    `on_change` is told of the breaker's changes of state; `on_attempt(name, error)` of every attempt, None when it went
    well, on the thread that made it.
    """

    on_attempt: Callable[[str, RpaError | None], object] | None = None

    def __init__(
        self,
        name: str,
        dsn: str,
        *,
        connect_timeout_s: float = 5.0,
        breaker: CircuitBreaker | None = None,
        let_in: bool = False,
        clock: Clock | None = None,
        on_change: Callable[[str, BreakerState, BreakerState], object] | None = None,
    ) -> None:
        self.name = name
        self.breaker = breaker or CircuitBreaker(
            name, breaker_policy(connect_timeout_s), clock=clock, on_change=on_change
        )
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock or SystemClock()
        self._guard = threading.Lock()
        self._dsns = [dsn]
        self._let_in = let_in
        self._refused_until = 0.0
        self._refusals = 0
        self._trouble: RpaError | None = None
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()

    @property
    def dsn(self) -> str:
        """The connection string that is used now. This is a secret."""
        return self._dsns[0]

    @property
    def trouble(self) -> RpaError | None:
        """Why the last attempt to connect failed; None after one that went well."""
        return self._trouble

    def connect(self, *, application_name: str, autocommit: bool = True) -> Line:
        """One connection, made as by `store.connect.connect`.

        Raises StoreUnavailable, StoreRefused or, once the database has let this process in, StoreDenied; any of them
        also without an attempt (its cause is a CircuitOpen then) while it is not yet time for another one.
        """
        options = connection_options(application_name, self._connect_timeout_s)
        return self._attempt(lambda dsn: Line.connect(dsn, autocommit=autocommit, prepare_threshold=None, **options))

    def pool(self, *, max_size: int, application_name: str, timeout_s: float | None = None) -> Pool:
        """A pool whose connections are made here too; the caller closes it. `timeout_s`: a caller's longest wait.

        Its `connection` raises StoreUnavailable, StoreRefused or StoreDenied instead of PoolTimeout where that is why.
        """
        made = Pool(
            connection_class=self._pooled_class(),
            **pool_options(
                max_size=max_size, timeout_s=timeout_s or self._connect_timeout_s, application_name=application_name
            ),
        )
        made.database = self
        self._pools.add(made)
        return made

    def renew_pools(self) -> int:
        """Replace the connections of every pool, idle ones now and those in use when they come back; how many pools."""
        pools = [pool for pool in self._pools if not pool.closed]
        for pool in pools:
            pool.drain()
        return len(pools)

    def adopt(self, dsn: str) -> bool:
        """Use the password of this connection string too, whichever of both is let in; False if more differs.

        For what is still to be committed when a rotated password has been noticed.
        """
        if _without_password(dsn) != _without_password(self.dsn):
            return False
        with self._guard:
            self._dsns = [dsn, *(known for known in self._dsns if known != dsn)][:2]
            self._refused_until, self._refusals = 0.0, 0
        return True

    def line_watch(self) -> LineWatch:
        """What cuts connections made here that will never get an answer; the caller starts and stops it."""
        return LineWatch(self.name, self.open_lines, self.running)

    def check(self) -> None:
        """Raise what an attempt would raise without being made; nothing if one may be made now."""
        if (refused := self._refused()) is not None:
            raise refused
        if self.breaker.retry_after_s() > 0:
            raise self._away()

    def _attempt(self, make: Callable[[str], C]) -> C:
        if (refused := self._refused(claim=True)) is not None:
            raise refused
        if not self.breaker.allow():
            raise self._away()
        try:
            with translated():
                connection = _answering(make(self.dsn))
        except StoreUnavailable as error:
            self._trouble = error
            self.breaker.failed()
            self._tell(error)
            raise
        except StoreRefused as error:
            self._take_refusal(error)
            self.breaker.succeeded()  # it answered
            self._tell(refusal := self._refusal(error))
            raise refusal from error
        except BaseException:
            self.breaker.failed()
            raise
        with self._guard:
            self._let_in, self._refusals, self._trouble = True, 0, None
            self._lines.add(connection)
        self.breaker.succeeded()
        self._tell(None)
        return connection

    def _tell(self, error: RpaError | None) -> None:
        if self.on_attempt is not None:
            self.on_attempt(self.name, error)

    def open_lines(self) -> list[Line]:
        """The connections made here that are open."""
        with self._guard:
            return [line for line in self._lines if not line.closed]

    def running(self, pids: list[int]) -> set[int]:
        """Which of these processes of the server are busy with a statement; asked over a new connection."""
        with self.connect(application_name="rpa lines") as connection:
            return {pid for (pid,) in connection.execute(_RUNNING, (pids,))}

    def _refused(self, *, claim: bool = False) -> RpaError | None:
        """The last refusal, while it is too early for another try. With `claim` the next try is the caller's."""
        with self._guard:
            if not isinstance(self._trouble, StoreRefused):
                return None
            now = self._clock.monotonic()
            if now < self._refused_until:
                refused = self._refusal(self._trouble)
                refused.__cause__ = CircuitOpen(self.name, self._refused_until - now)
                return refused
            if claim:
                self._refused_until = now + _REFUSED_S
            return None

    def _take_refusal(self, error: StoreRefused) -> None:
        with self._guard:
            self._trouble = error
            self._refusals += 1
            self._dsns.append(self._dsns.pop(0))
            all_tried = self._refusals % len(self._dsns) == 0
            pause_s = _REFUSED_S * len(self._dsns) - _OTHER_S * (len(self._dsns) - 1) if all_tried else _OTHER_S
            self._refused_until = self._clock.monotonic() + pause_s

    def _refusal(self, error: StoreRefused) -> RpaError:
        return StoreDenied(str(error)) if self._let_in else StoreRefused(str(error))

    def _away(self) -> StoreUnavailable:
        """No attempt is made: say why the last one failed and when the next one is due."""
        closed_door = CircuitOpen(self.name, self.breaker.retry_after_s())
        last = self._trouble
        away = StoreUnavailable(f"{last}; {closed_door}" if last is not None else str(closed_door))
        away.__cause__ = closed_door
        return away

    def _pooled_class(self) -> type[Connection]:
        attempt = self._attempt

        class Pooled(Line):
            @classmethod
            def connect(cls, conninfo: str = "", **options: Any) -> Self:
                connect_to = super().connect
                return attempt(lambda dsn: connect_to(dsn, **options))

        return Pooled


class Pool(ConnectionPool[Connection]):
    """A pool that does not let its callers wait for a database that is known to be away."""

    database: Database

    def getconn(self, timeout: float | None = None) -> Connection:
        """As ConnectionPool's, but raises at once what stands against a new connection, if it would need one."""
        if not self.get_stats().get("pool_available", 0):
            self.database.check()
        try:
            return super().getconn(timeout)
        except PoolTimeout:
            self.database.check()
            raise


def _answering(connection: C) -> C:
    """The connection, when it has answered; else it is closed and the error raised."""
    try:
        autocommit, connection.autocommit = connection.autocommit, True
        ((pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    connection.backend = pid if pid == connection.info.backend_pid else None
    prepare(connection)
    return connection


def _without_password(dsn: str) -> dict[str, Any]:
    return {name: value for name, value in conninfo.conninfo_to_dict(dsn).items() if name != "password"}
