"""A flow's effects inside the completing transaction: what they may do to it, and what follows from what they may not.

    they raise, or leave the transaction aborted        rolled back to a savepoint, halved, the culprit set aside
    they are slow, in Python or in SQL                  the same
    they end the transaction, or break the connection   begun anew; that call is not made again, its halves are
    something they need is away                         nothing is blamed: the outcomes are committed later

PostgreSQL itself refuses a COMMIT or PREPARE TRANSACTION of theirs: a cursor WITH HOLD, which is read at the commit,
raises until `close` says that it is ours. A ROLLBACK is seen by the transaction's id. What they change in the session
is taken back: settings before anything else is written, the rest after the transaction.
"""

from __future__ import annotations

import inspect
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from rpa_core.errors import TransientError, describe
from rpa_core.store.connect import is_transient

T = TypeVar("T")
STATEMENT_TIMEOUT = "20s"
IDLE_TIMEOUT = "10s"
LIMIT_S = 10.0  # between two statements; PostgreSQL ends the session only some time later, so that the limit is ours
_IDLE_IN_EFFECTS = "30s"
_BROKEN_CALLS = 3  # a connection may break by chance; after so many times, the call is to blame
_LOCAL = (
    "SELECT set_config('statement_timeout', '{}', true), set_config('idle_in_transaction_session_timeout', '{}', true)"
)
_BEGIN = (
    "DECLARE rpa_commit NO SCROLL CURSOR WITH HOLD FOR"
    " SELECT CASE WHEN current_setting('rpa.commit', true) = '{token}' THEN 0"
    " ELSE left('the flow''s effects must not end the transaction' || random()::text, 48)::integer END;"
    + _LOCAL.format(STATEMENT_TIMEOUT, _IDLE_IN_EFFECTS)
    + ", pg_current_xact_id()::text, current_user::text"
)
_CHECK = (
    "SAVEPOINT rpa_check; SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK TO rpa_check; RELEASE rpa_check; RESET ALL;"
    + _LOCAL.format(STATEMENT_TIMEOUT, _IDLE_IN_EFFECTS)
    + ", pg_current_xact_id()::text, current_user::text, current_setting('transaction_read_only')"
)
_END = _LOCAL.format(STATEMENT_TIMEOUT, IDLE_TIMEOUT) + ", set_config('rpa.commit', '{token}', true)"


class EffectFailed(Exception):
    """The effects of these records failed; a savepoint takes back what they did."""


class TransactionEnded(Exception):
    """The effects ended the transaction: begin it anew, this call is not made again."""


class Effects:
    """A flow's effects for one completion, however often it has to be tried.

    `write` gets the connection and the ids of records that get a result. `beat` is called before each call. `limit_s`
    is the longest time between two statements. `learned` counts calls that are known to break their transaction.
    """

    def __init__(
        self,
        write: Callable[[psycopg.Connection[Any], Sequence[int]], object],
        beat: Callable[[], object] = lambda: None,
        limit_s: float = LIMIT_S,
    ) -> None:
        self.learned = 0
        self.write = write
        self._beat = beat
        self._limit_s = limit_s
        self._known: dict[tuple[int, ...], str] = {}
        self._broken: dict[tuple[int, ...], int] = {}

    def known(self, ids: Sequence[int]) -> str | None:
        """Why this call must not be made again, if so."""
        return self._known.get(tuple(ids))

    def _learn(self, ids: Sequence[int], reason: str) -> None:
        self._known[tuple(ids)] = reason
        self.learned += 1

    def begin(self, connection: psycopg.Connection[Any]) -> Calls:
        """Prepare the transaction that the connection is in."""
        return Calls(self, connection)

    def call(self, calls: Calls, ids: Sequence[int]) -> None:
        """Let the effects of these records happen. Raises EffectFailed, TransactionEnded, or what is away."""
        self._beat()
        guarded = calls.guarded
        guarded.start()
        failed: BaseException | None = None
        answer: object = None
        try:
            answer = self.write(guarded, ids)
        except BaseException as error:  # noqa: BLE001 - the boundary between a flow's code and the other records
            failed = error
        finally:
            guarded.finish()
        connection = calls.connection
        too_slow = guarded.gap_s > self._limit_s
        slow = f"it took {guarded.gap_s:.1f} s between two statements, more than {self._limit_s:g} s"
        if connection.closed:
            self._broke(ids, slow if too_slow else None, failed)
        status = connection.pgconn.transaction_status
        if guarded.ended or status == TransactionStatus.IDLE:
            self._end(ids, failed)
        if isinstance(failed, TransientError):
            raise failed
        if too_slow:
            raise EffectFailed(slow) from failed
        if isinstance(failed, psycopg.Error):
            raise self._meaning(failed, guarded, own=status == TransactionStatus.INERROR) from failed
        if failed is not None:
            raise EffectFailed(describe(failed)) from failed
        if status == TransactionStatus.INERROR:
            cause = f" ({_line(guarded.failed)})" if guarded.failed is not None else ""
            raise EffectFailed(
                f"it left the transaction aborted by a database error that it caught{cause}; put a savepoint around "
                "such a statement: with connection.transaction()"
            )
        if inspect.isawaitable(answer):
            getattr(answer, "close", lambda: None)()
            raise EffectFailed("it returned a coroutine that nothing awaits; effects must be a plain function")
        if not calls.check():
            self._end(ids, None)

    def _broke(self, ids: Sequence[int], slow: str | None, failed: BaseException | None) -> None:
        key = tuple(ids)
        self._broken[key] = self._broken.get(key, 0) + 1
        if slow is not None or self._broken[key] >= _BROKEN_CALLS:
            self._learn(ids, slow or f"the connection broke in each of {self._broken[key]} calls")
        if isinstance(failed, psycopg.Error) and is_transient(failed):
            raise failed
        raise psycopg.OperationalError("the connection was lost while the flow's effects ran") from failed

    def _end(self, ids: Sequence[int], failed: BaseException | None) -> None:
        reason = "it ended the transaction (COMMIT, ROLLBACK or PREPARE TRANSACTION), which is not its own"
        self._learn(ids, reason)
        raise TransactionEnded(reason) from failed

    def _meaning(self, error: psycopg.Error, guarded: _Guarded, *, own: bool) -> BaseException:
        """Of an error of PostgreSQL's: `own` if it is this transaction's, not that of another connection."""
        if isinstance(error, errors.QueryCanceled) and ("timeout" in str(error) or guarded.statement_s > 0.9 * 20):
            return EffectFailed(f"a statement took longer than it may, {guarded.statement_s:.1f} s: {_line(error)}")
        if own and is_transient(error) and not isinstance(error, errors.ReadOnlySqlTransaction):
            return error
        if not own and is_transient(error) and not isinstance(error, psycopg.InterfaceError):
            return TransientError(f"what the flow's effects need is away: {_line(error)}")
        return EffectFailed(_line(error))


def _line(error: psycopg.Error) -> str:
    return describe(error).partition("\n")[0]  # the others may hold values of records


class Calls:
    """The calls within one transaction."""

    def __init__(self, effects: Effects, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.guarded = _Guarded(connection)
        self._token = secrets.token_hex(16)
        self._effects = effects
        self._handlers = self.guarded.handlers
        *_, self._transaction, self._role = self._ask(_BEGIN.format(token=self._token))

    def call(self, ids: Sequence[int]) -> None:
        """See `Effects.call`."""
        self._effects.call(self, ids)

    def check(self) -> bool:
        """Whether it is still our transaction. Raises EffectFailed for one that cannot be completed.

        Deferred constraints are checked here, where they name their records. Settings are those of the session.
        """
        try:
            *_, transaction, role, read_only = self._ask(_CHECK)
        except psycopg.Error as error:
            if self.connection.closed or is_transient(error):
                raise
            raise EffectFailed(_line(error)) from error
        if transaction != self._transaction:
            return False
        if role != self._role:
            raise EffectFailed(f"it left the transaction to another role, {role}")
        if read_only == "on":
            raise EffectFailed("it made the transaction read only")
        return True

    def close(self) -> None:
        """No more calls: the transaction may be committed."""
        self._ask(_END.format(token=self._token))

    def leave(self) -> None:
        """After the transaction: the session becomes what it was, whatever effects did to it."""
        self.connection.pgconn.notice_handler, self.connection.pgconn.notify_handler = self._handlers
        if not self.connection.closed and self.connection.pgconn.transaction_status == TransactionStatus.IDLE:
            self.connection.execute("DISCARD ALL")

    def _ask(self, statements: str) -> tuple[Any, ...]:
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(statements.encode())
            while cursor.nextset():
                pass
            row = cursor.fetchone()
        assert row is not None
        return row


class _Guarded(psycopg.Connection[Any]):
    """The connection as effects get it: its session, but an object of its own, and nothing that ends a transaction.

    `gap_s` is the longest time without a statement, `statement_s` the time of the last one, `failed` the last error.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.handlers = connection.pgconn.notice_handler, connection.pgconn.notify_handler
        super().__init__(connection.pgconn)
        self._pool = None  # as one of a pool: it is not to be closed when this object goes
        self._adapters = AdaptersMap(connection.adapters)
        self._defaults = self.row_factory, self.cursor_factory, self.server_cursor_factory
        self._over = True
        self.start()
        self.finish()

    def start(self) -> None:
        """A call begins."""
        self.prepare_threshold = None
        self.row_factory, self.cursor_factory, self.server_cursor_factory = self._defaults
        self.gap_s = self.statement_s = 0.0
        self.failed: psycopg.Error | None = None
        self.ended = False
        self._since = time.monotonic()
        self._over = False

    def finish(self) -> None:
        """It is over, also for a thread that it left behind."""
        with self.lock:
            self._over = True
            self.gap_s = max(self.gap_s, time.monotonic() - self._since)

    def wait(self, *args: Any, **more: Any) -> Any:
        """Every statement comes through here."""
        if self._over:
            raise psycopg.InterfaceError("the effects are over: their connection cannot be used any more")
        if self.ended:
            raise psycopg.ProgrammingError("the transaction has ended: effects must not end it")
        began = time.monotonic()
        self.gap_s = max(self.gap_s, began - self._since)
        try:
            answer = super().wait(*args, **more)
        except psycopg.Error as error:
            self.failed = error
            raise
        finally:
            self._since = time.monotonic()
            self.statement_s = self._since - began
            self.ended = self.pgconn.transaction_status == TransactionStatus.IDLE
        if self.ended:
            raise psycopg.ProgrammingError("effects must not end the transaction that their records' outcomes are in")
        return answer

    def commit(self) -> None:
        """Refused."""
        raise psycopg.ProgrammingError("effects must not commit: their records' outcomes are in this transaction")

    def rollback(self) -> None:
        """Refused."""
        raise psycopg.ProgrammingError("effects must not roll back; for a part: with connection.transaction()")

    def close(self) -> None:
        """Refused."""
        raise psycopg.ProgrammingError("effects must not close the connection: it is the worker's")
