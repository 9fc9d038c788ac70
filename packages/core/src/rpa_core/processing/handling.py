"""Calling the flow's handler: one outcome for each record, whatever the handler does.

The handler gets Records and a list made for the call, and what it returns is taken at once: results as the bytes that
are to be stored, reasons as text. So nothing that it does to any of these objects reaches another record or the ledger.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence, Set, Sized
from itertools import islice, repeat
from typing import Any, TypeVar, cast

import orjson
import psycopg

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.clock import Clock, SystemClock
from rpa_core.errors import RecordRejected, RpaError, TransientError, describe
from rpa_core.processing.encoding import BACKSLASH, HAS_NULL, NotStorable
from rpa_core.processing.flow import Flow, FlowContext, Record, records_of
from rpa_core.processing.outcome import Done, Emit, Retry, SetAside
from rpa_core.processing.taking import Encoded, Taken, check, close_if_coroutine, taken, texts, unstorable
from rpa_core.store.connect import is_transient
from rpa_core.store.values import StoredRecord

logger = logging.getLogger("rpa.processing")
T = TypeVar("T")
_NO_EMITS: tuple[Emit, ...] = ()
_LOOK_S = 0.001


class Handling:
    """Runs a flow's handler over records, in order, until `go_on` says no.

    `go_on` is asked before a record if its last answer is a millisecond old: before each one that follows a slow
    one, and now and then among quick ones, where asking would cost as much as handling. `encoded_bytes` is up to date
    then: the size of the results taken since it was last set to 0.

    The answer covers a prefix of the records: what was not begun has no outcome. Whatever a handler raises becomes a
    Retry, SystemExit too; RecordRejected a SetAside. A TransientError, or a psycopg error that says the database is
    away, concerns none of the records: it ends the prefix, and is raised where that would be empty.
    """

    def __init__(
        self,
        flow: Flow,
        context: FlowContext,
        go_on: Callable[[], bool],
        loop: asyncio.Runner | None = None,
        checkpoints: Checkpoints | None = None,
        clock: Clock | None = None,
    ) -> None:
        if flow.is_async and loop is None:
            raise ValueError(f"flow {flow.name} is async: it needs a loop to run in")
        self.encoded_bytes = 0
        self._flow = flow
        self._context = context
        self._handle = cast("Callable[[Any, FlowContext], Any]", flow.handle)
        self._bare = flow.effects is None  # results need nothing but their bytes
        self._go_on = go_on
        self._loop = loop
        self._monotonic = (clock or SystemClock()).monotonic
        self._checkpoints = checkpoints or Checkpoints()
        self._forked = self._rich = False  # `_rich`: some outcome was more than bytes
        own = weakref.WeakMethod(self._in_child)
        os.register_at_fork(after_in_child=lambda: (mark := own()) and mark())

    def run(self, rows: Sequence[StoredRecord], attempts: Sequence[int] | None = None) -> list[Taken]:
        """Outcomes of the first records, as many as could be begun. `attempts` counts each record's tries, from 1."""
        if self._flow.batch:
            return self._batch(rows, attempts or [1] * len(rows)) if self._go_on() else []
        if self._flow.is_async:
            return self._in_loop(self._concurrently(rows, attempts))
        return self._one_by_one(rows, attempts)

    def run_singly(self, row: StoredRecord, attempt: int = 1) -> Taken:
        """One record by itself: how the records of a chunk that ended a worker are run."""
        if self._flow.batch:
            return self._batch([row], [attempt])[0]
        (record,) = records_of([row], [attempt])
        if self._flow.is_async:
            return self._in_loop(self._one_async(record))
        return self._one(record)

    def _one_by_one(self, rows: Sequence[StoredRecord], attempts: Sequence[int] | None) -> list[Taken]:
        outcomes: list[Taken] = []
        middle = len(rows) // 2
        tries = attempts or repeat(1)
        records = records_of(rows, tries)
        if self._in_turn(islice(records, middle), outcomes):
            self._checkpoints.reach(Point.MID_BATCH)
            self._in_turn(records, outcomes)
        return outcomes

    def _in_turn(self, records: Iterable[Record], outcomes: list[Taken]) -> bool:
        """Add to `outcomes`; whether every record was handled."""
        handle, context, bare, monotonic = self._handle, self._context, self._bare, self._monotonic
        look_at, counted, add = float("-inf"), len(outcomes), outcomes.append
        dumps, has_null = orjson.dumps, HAS_NULL
        try:
            for record in records:
                if (now := monotonic()) >= look_at:
                    self._count(outcomes[counted:])
                    counted = len(outcomes)
                    if not self._go_on():
                        return False
                    look_at = now + _LOOK_S
                try:
                    outcome = handle(record, context)
                except BaseException as error:  # noqa: BLE001 - the boundary between a handler and the other records
                    add(self._failed(record, error))
                    continue
                if bare and type(outcome) is Done and outcome[1] is _NO_EMITS and not self._forked:
                    try:  # the shortest way, for nearly all: as `_kept`, without its calls
                        data = dumps(outcome[0])
                    except Exception:  # noqa: BLE001, S110 - `_kept` says what it is
                        pass
                    else:
                        if not has_null(data) and BACKSLASH not in data:
                            add(data)
                            continue
                add(self._kept(record, outcome))
        except (TransientError, psycopg.Error):
            if not outcomes:
                raise
            return False
        finally:
            self._count(outcomes[counted:])
        return True

    def _count(self, outcomes: Sequence[Taken]) -> None:
        self.encoded_bytes += sum([len(outcome) for outcome in outcomes if type(outcome) is bytes])
        for outcome in outcomes if self._rich else ():
            if type(outcome) is Encoded:
                self.encoded_bytes += len(outcome.data) + sum(len(new.payload) for _, new in outcome.emits)

    def _one(self, record: Record) -> Taken:
        try:
            outcome = self._handle(record, self._context)
        except BaseException as error:  # noqa: BLE001 - the boundary between a handler and the other records
            return self._failed(record, error)
        return self._kept(record, outcome)

    def _kept(self, record: Record, outcome: Any) -> Taken:
        """What a handler returned for the record, as it is kept."""
        self._end_child()
        try:
            return self._take(outcome)
        except NotStorable as error:
            return unstorable(error)
        except BaseException as error:  # noqa: BLE001 - as above: what it returned may raise when it is read
            return self._failed(record, error)

    def _batch(self, rows: Sequence[StoredRecord], attempts: Sequence[int]) -> list[Taken]:
        """A batch that raises is halved until the culprit stands alone; the handler may see a record twice."""
        try:
            outcomes = self._handle(list(records_of(rows, attempts)), self._context)
            if self._flow.is_async:
                outcomes = self._in_loop(_awaited(outcomes))
            given = self._each(outcomes, len(rows))
            self._end_child()
            taken = list(map(self._taken_or_not, given))
        except BaseException as error:  # noqa: BLE001 - the boundary between a handler and the other records
            if len(rows) == 1:
                (record,) = records_of(rows, attempts)
                return [self._failed(record, error)]
            self._end_child()
            _raise_if_transient(error)
            middle = len(rows) // 2
            return self._batch(rows[:middle], attempts[:middle]) + self._batch(rows[middle:], attempts[middle:])
        self._count(taken)
        return taken

    def _each(self, outcomes: Any, n: int) -> list[Any]:
        """A batch's outcomes one by one; raises TypeError where they are not one for each record, in order."""
        close_if_coroutine(outcomes)
        odd = isinstance(outcomes, (Done, Retry, SetAside, Emit, Mapping, Set, str, bytes))
        if odd or not isinstance(outcomes, Iterable):
            raise TypeError(
                f"the handler returned {_kind(outcomes)} for {n} records; with batch=True it must return a list with "
                "one Done, Retry or SetAside for each record"
            )
        given = list(islice(outcomes, n + 1))
        if len(given) != n:
            number = len(outcomes) if isinstance(outcomes, Sized) else f"{len(given)} or more"
            raise TypeError(f"the handler returned {number} outcomes for {n} records")
        for outcome in given:
            check(outcome)
        return given

    def _taken_or_not(self, outcome: Any) -> Taken:
        try:
            return self._take(outcome)
        except NotStorable as error:
            return unstorable(error)

    async def _concurrently(self, rows: Sequence[StoredRecord], attempts: Sequence[int] | None) -> list[Taken]:
        limit = asyncio.Semaphore(self._flow.concurrency)
        away = asyncio.Event()
        running: list[asyncio.Task[Taken]] = []

        async def bounded(record: Record) -> Taken:
            try:
                outcome = await self._one_async(record)
            except BaseException:
                away.set()
                raise
            finally:
                limit.release()
            self._count((outcome,))
            return outcome

        try:
            for record in records_of(rows, attempts or repeat(1)):
                await limit.acquire()
                if away.is_set() or not self._go_on():
                    break
                running.append(asyncio.create_task(bounded(record)))
            return _prefix(await asyncio.gather(*running, return_exceptions=True))
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _one_async(self, record: Record) -> Taken:
        try:
            outcome = await _awaited(self._handle(record, self._context))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._failed(record, error)  # nobody cancelled us: the handler let one of its own out
        except BaseException as error:  # noqa: BLE001 - the boundary between a handler and the other records
            return self._failed(record, error)
        return self._kept(record, outcome)

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it to its end, also where a task that a handler has begun stops the loop with SystemExit."""
        assert self._loop is not None
        loop = self._loop.get_loop()
        task = loop.create_task(work)
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done():
                    raise
                self._end_child()
                logger.warning(
                    "a task of a handler raised %s, which is ignored", _kind(error), extra={"event.action": "task.exit"}
                )

    def _take(self, outcome: Any) -> Taken:
        kept = taken(outcome, bare=self._bare)
        self._rich = self._rich or type(kept) is Encoded
        return kept

    def _failed(self, record: Record, error: BaseException) -> Taken:
        self._end_child()
        if isinstance(error, RecordRejected):
            return SetAside(texts(getattr(error, "reasons", ())))
        _raise_if_transient(error)
        logger.warning(
            "handler failed on record %s",
            record.id,
            exc_info=error,
            extra={"event.action": "record.failed", "record.id": record.id, "record.attempt": record.attempt},
        )
        return Retry(describe(error))

    def _in_child(self) -> None:
        self._forked = True

    def _end_child(self) -> None:
        """End a process that a handler forked and that came back from it: it must not go on as a second worker."""
        if self._forked:
            os.write(2, f"rpa: process {os.getpid()}, forked by a handler of {self._flow.name}, ends here\n".encode())
            os._exit(RpaError.exit_code)


async def _awaited(outcome: Any) -> Any:
    return await outcome if inspect.isawaitable(outcome) else outcome


def _prefix(answers: Sequence[Taken | BaseException]) -> list[Taken]:
    """The outcomes before the first error; raises it where there are none."""
    outcomes: list[Taken] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            if not outcomes or not isinstance(answer, TransientError | psycopg.Error):
                raise answer
            break
        outcomes.append(answer)
    return outcomes


def _raise_if_transient(error: BaseException) -> None:
    if isinstance(error, TransientError) or (isinstance(error, psycopg.Error) and is_transient(error)):
        raise error


def _kind(value: object) -> str:
    return type(value).__name__
