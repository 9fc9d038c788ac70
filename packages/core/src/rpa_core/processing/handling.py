"""Calling the flow's handler: one outcome for each record, whatever the handler does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import psycopg

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.clock import Clock, SystemClock
from rpa_core.errors import RecordRejected, TransientError
from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.outcome import Done, Outcome, Retry, SetAside
from rpa_core.store.connect import is_transient

logger = logging.getLogger("rpa.processing")
_OUTCOMES = (Done, Retry, SetAside)
_LOOK_S = 0.001


class Handling:
    """Runs a flow's handler over records, in order, until `go_on` says no.

    `go_on` is asked before a record if its last answer is a millisecond old: before each one that follows a slow
    one, and now and then among quick ones, where asking would cost as much as handling.

    The answer covers a prefix of the records: what was not begun has no outcome. An exception of the handler
    becomes a Retry, RecordRejected a SetAside. A TransientError, or a psycopg error that says the database is
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
        self._flow = flow
        self._context = context
        self._handle = cast("Callable[[Record, FlowContext], Outcome]", flow.handle)  # the one-record form
        self._go_on = go_on
        self._loop = loop
        self._monotonic = (clock or SystemClock()).monotonic
        self._checkpoints = checkpoints or Checkpoints()

    def run(self, records: Sequence[Record]) -> list[Outcome]:
        """Outcomes of the first records, as many as could be begun."""
        if self._flow.is_async:
            assert self._loop is not None
            return self._loop.run(self._concurrently(records))
        if self._flow.batch:
            return self._batch(records) if self._go_on() else []
        return self._one_by_one(records)

    def run_singly(self, record: Record) -> Outcome:
        """One record by itself: how the records of a chunk that ended a worker are run."""
        if self._flow.is_async:
            assert self._loop is not None
            return self._loop.run(self._one_async(record))
        if self._flow.batch:
            return self._batch([record])[0]
        return self._one(record)

    def _one_by_one(self, records: Sequence[Record]) -> list[Outcome]:
        middle = len(records) // 2
        outcomes: list[Outcome] = []
        if self._in_turn(records[:middle], outcomes):
            self._checkpoints.reach(Point.MID_BATCH)
            self._in_turn(records[middle:], outcomes)
        return outcomes

    def _in_turn(self, records: Sequence[Record], outcomes: list[Outcome]) -> bool:
        """Add to `outcomes`; whether every record was handled."""
        one, monotonic, look_at = self._one, self._monotonic, float("-inf")
        try:
            for record in records:
                if (now := monotonic()) >= look_at:
                    if not self._go_on():
                        return False
                    look_at = now + _LOOK_S
                outcomes.append(one(record))
        except (TransientError, psycopg.Error):
            if not outcomes:
                raise
            return False
        return True

    def _one(self, record: Record) -> Outcome:
        try:
            outcome = self._handle(record, self._context)
            return outcome if type(outcome) is Done else self._checked(outcome)
        except Exception as error:  # noqa: BLE001 - the boundary between a handler and the other records
            return self._failed(record, error)

    def _batch(self, records: Sequence[Record]) -> list[Outcome]:
        """A batch that raises is halved until the culprit stands alone; the handler may see a record twice."""
        try:
            outcomes = cast("Sequence[Any]", self._flow.handle(records, self._context))  # type: ignore[arg-type]  # batch form
            if len(outcomes) != len(records):
                raise TypeError(f"the handler returned {len(outcomes)} outcomes for {len(records)} records")
            return [self._checked(outcome) for outcome in outcomes]
        except Exception as error:  # noqa: BLE001 - the boundary between a handler and the other records
            if len(records) == 1:
                return [self._failed(records[0], error)]
            _raise_if_transient(error)
            middle = len(records) // 2
            return self._batch(records[:middle]) + self._batch(records[middle:])

    async def _concurrently(self, records: Sequence[Record]) -> list[Outcome]:
        limit = asyncio.Semaphore(self._flow.concurrency)
        away = asyncio.Event()
        running: list[asyncio.Task[Outcome]] = []

        async def bounded(record: Record) -> Outcome:
            try:
                return await self._one_async(record)
            except BaseException:
                away.set()
                raise
            finally:
                limit.release()

        try:
            for record in records:
                await limit.acquire()
                if away.is_set() or not self._go_on():
                    break
                running.append(asyncio.create_task(bounded(record)))
            return _prefix(await asyncio.gather(*running, return_exceptions=True))
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _one_async(self, record: Record) -> Outcome:
        try:
            return self._checked(await self._flow.handle(record, self._context))  # type: ignore[arg-type,misc]  # async form
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._failed(record, error)  # nobody cancelled us: the handler let one of its own out
        except Exception as error:  # noqa: BLE001 - the boundary between a handler and the other records
            return self._failed(record, error)

    def _checked(self, outcome: Any) -> Outcome:
        if isinstance(outcome, _OUTCOMES):
            return outcome
        raise TypeError(f"the handler returned {type(outcome).__name__}; it must return Done, Retry or SetAside")

    def _failed(self, record: Record, error: BaseException) -> Outcome:
        if isinstance(error, RecordRejected):
            return SetAside(error.reasons)
        _raise_if_transient(error)
        logger.warning(
            "handler failed on record %s",
            record.id,
            exc_info=error,
            extra={"event.action": "record.failed", "record.id": record.id, "record.attempt": record.attempt},
        )
        return Retry(f"{type(error).__name__}: {error}")


def _prefix(answers: Sequence[Outcome | BaseException]) -> list[Outcome]:
    """The outcomes before the first error; raises it where there are none."""
    outcomes: list[Outcome] = []
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
