"""Handlers, effects and openers that do what they must not: each does it for the records whose payload names it.

A record is `{"do": NAME, "n": N}`; one without a `do` is done, with `{"n": N}` as its result.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from rpa_core.processing.flow import Flow, FlowContext, OpenContext, Record
from rpa_core.processing.outcome import Done, Emit, Outcome, Retry, SetAside

_SHARED: dict[str, Any] = {}
_ITSELF: list[Any] = []
_ITSELF.append(_ITSELF)


class _NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class _NoTruth:
    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


async def _never_awaited() -> None:
    """Left to be forgotten."""


def _raises(error: BaseException) -> Callable[[Record], Any]:
    def act(record: Record) -> Any:
        raise error

    return act


def _exits(record: Record) -> Any:
    sys.exit(0)


def _stop_iteration(record: Record) -> Any:
    return next(iter(()))


def _reuses(record: Record) -> Any:
    _SHARED["n"] = record.payload["n"]
    return Done(_SHARED)


def _spoils(record: Record) -> Any:
    for name in ("id", "key", "raw", "attempt"):
        try:
            setattr(record, name, 0)
        except AttributeError:
            continue
        raise AssertionError(f"{name} can be set")
    n = record.payload.pop("n")
    record.payload.clear()
    return Done({"n": n})


# What ends as a dead letter ...
DEAD: dict[str, Callable[[Record], Any]] = {
    "exit": _exits,
    "exit-1": _raises(SystemExit(1)),
    "interrupt": _raises(KeyboardInterrupt()),
    "generator-exit": _raises(GeneratorExit()),
    "base": _raises(BaseException("base")),
    "cancelled": _raises(asyncio.CancelledError()),
    "stop-iteration": _stop_iteration,
    "no-text": _raises(_NoText()),
    "long-text": _raises(ValueError("x" * 1_000_000)),
    "odd-text": _raises(ValueError("\ud800 \x00")),
    "memory": _raises(MemoryError()),
    "recursion": _raises(RecursionError()),
    "none": lambda record: None,
    "text": lambda record: "done",
    "class": lambda record: Done,
    "bare-data": lambda record: {"n": 1},
    "emit-alone": lambda record: Emit("other", 1),
    "coroutine": lambda record: _never_awaited(),
    "aside-number": lambda record: SetAside(5),  # type: ignore[arg-type]
    "aside-none": lambda record: SetAside(None),  # type: ignore[arg-type]
    "aside-odd": lambda record: SetAside((_NoText(), "\udc80", None)),  # type: ignore[arg-type]
    "retry-none": lambda record: Retry(None, "soon"),  # type: ignore[arg-type]
    "retry-odd": lambda record: Retry(_NoText(), math.nan),  # type: ignore[arg-type]
    "nan": lambda record: Done({"v": [1.0, math.nan]}),
    "infinity": lambda record: Done(math.inf),
    "nul": lambda record: Done("a\0b"),
    "surrogate": lambda record: Done({"\ud800": 1}),
    "object": lambda record: Done(object()),
    "number-key": lambda record: Done({1: 2}),
    "itself": lambda record: Done(_ITSELF),
    "emit-no-tuple": lambda record: Done(1, Emit("other", 1)),  # type: ignore[arg-type]
    "emit-text": lambda record: Done(1, "other"),  # type: ignore[arg-type]
    "emit-odd": lambda record: Done(1, (1, 2)),  # type: ignore[arg-type]
    "emit-truth": lambda record: Done(1, _NoTruth()),  # type: ignore[arg-type]
    "emit-flow": lambda record: Done(1, (Emit("No Flow", 1),)),
    "emit-key": lambda record: Done(1, (Emit("other", 1, 1.5),)),  # type: ignore[arg-type]
    "emit-nan": lambda record: Done(1, (Emit("other", math.nan),)),
}
# ... and what is odd, and done.
DONE: dict[str, Callable[[Record], Any]] = {
    "reuses": _reuses,
    "spoils": _spoils,
    "emit-list": lambda record: Done({"n": record.payload["n"]}, [Emit("other", 1, record.payload["n"])]),  # type: ignore[arg-type]
    "emit-none": lambda record: Done({"n": record.payload["n"]}, None),  # type: ignore[arg-type]
    "thread": lambda record: (
        threading.Thread(target=lambda: None).start(),  # type: ignore[func-returns-value]
        Done({"n": record.payload["n"]}),
    )[1],
}


def act(record: Record, context: FlowContext) -> Outcome:
    """What the payload says."""
    do = record.payload.get("do")
    if do is None:
        return Done({"n": record.payload["n"]})
    return (DEAD.get(do) or DONE[do])(record)  # type: ignore[no-any-return]


async def act_async(record: Record, context: FlowContext) -> Outcome:
    """The same, in the loop; a part of it in a task of its own."""
    await asyncio.sleep(0)
    if record.payload.get("do") == "exit":
        return await asyncio.create_task(_in_task(record, context))
    return act(record, context)


async def _in_task(record: Record, context: FlowContext) -> Outcome:
    return act(record, context)


def consume(records: list[Record], context: FlowContext) -> list[Outcome]:
    """The list is worked off."""
    outcomes = []
    while records:
        outcomes.append(act(records.pop(0), context))
    return outcomes


def drop(records: list[Record], context: FlowContext) -> list[Outcome]:
    """What is odd is taken out of the list, and has no outcome."""
    for record in list(records):
        if record.payload.get("do"):
            records.remove(record)
    return [act(record, context) for record in records]


def generate(records: Sequence[Record], context: FlowContext) -> Iterator[Outcome]:
    """Outcomes one by one."""
    for record in records:
        yield act(record, context)


def by_key(records: Sequence[Record], context: FlowContext) -> Any:
    """A dict where one record is odd, a list where none is."""
    odd = any(record.payload.get("do") for record in records)
    outcomes = [act(record, context) for record in records]
    return {record.id: outcome for record, outcome in zip(records, outcomes, strict=True)} if odd else outcomes


async def consume_async(records: list[Record], context: FlowContext) -> list[Outcome]:
    """As `consume`, in the loop."""
    await asyncio.sleep(0)
    return consume(records, context)


FORMS: dict[str, dict[str, Any]] = {
    "plain": {"handle": act},
    "async": {"handle": act_async, "concurrency": 3},
    "consume": {"handle": consume, "batch": True},
    "drop": {"handle": drop, "batch": True},
    "generate": {"handle": generate, "batch": True},
    "by-key": {"handle": by_key, "batch": True},
    "consume-async": {"handle": consume_async, "batch": True},
}


def _insert(connection: Any, done: Sequence[tuple[Record, Done]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO public.effect VALUES (%s)", [(record.id,) for record, _ in done])


def _is_odd(done: Sequence[tuple[Record, Done]]) -> bool:
    return any(record.payload["n"] % 3 == 0 for record, _ in done)


def _swallows(connection: Any, done: Any) -> None:
    try:
        connection.execute("SELECT 1 / 0")
    except psycopg.Error:
        return


def _closes(connection: Any, done: Any) -> None:
    with connection:
        connection.execute("SELECT 1")


def _waits(connection: Any, done: Any) -> None:
    connection.execute("SET LOCAL statement_timeout = '20ms'; SELECT pg_sleep(5)")


def _changes_session(connection: Any, done: Any) -> None:
    connection.row_factory = dict_row
    connection.prepare_threshold = 0
    connection.execute("SELECT pg_advisory_lock(7)")
    for statement in (
        "LISTEN careless",
        "SET search_path = pg_catalog",
        "SET DateStyle = German",
        "SET client_encoding = 'LATIN1'",
        "SET LOCAL statement_timeout = '1ms'",
    ):
        connection.execute(statement)


def _sql(text: str) -> Callable[[Any, Any], None]:
    return lambda connection, done: connection.execute(text)


# What effects do when one of their records' `n` is a multiple of three: those become dead letters ...
EFFECTS_DEAD: dict[str, Callable[[Any, Any], object]] = {
    "raise": lambda connection, done: 1 / 0,
    "exit": lambda connection, done: sys.exit(0),
    "swallow": _swallows,
    "missing-table": _sql("INSERT INTO nowhere VALUES (1)"),
    "commit": lambda connection, done: connection.commit(),
    "with-connection": _closes,
    "raw-commit": _sql("COMMIT"),
    "raw-rollback": _sql("ROLLBACK"),
    "rollback-and-chain": _sql("ROLLBACK AND CHAIN"),
    "prepare-transaction": _sql("PREPARE TRANSACTION 'careless'"),
    "deferred": lambda connection, done: connection.execute(
        "INSERT INTO public.effect VALUES (%(id)s), (%(id)s)", {"id": done[0][0].id}
    ),
    "read-only": _sql("SET TRANSACTION READ ONLY"),
    "role": _sql("SET ROLE pg_monitor"),
    "coroutine": lambda connection, done: _never_awaited(),
    "statement-timeout": _waits,
    "closed-cursor": lambda connection, done: _after_close(connection),
}
# ... or nothing comes of it.
EFFECTS_DONE: dict[str, Callable[[Any, Any], object]] = {
    "session": _changes_session,
    "savepoint": lambda connection, done: _in_savepoint(connection),
    "changes-done": lambda connection, done: [what.data.clear() for _, what in done],
}


def _after_close(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.close()
    cursor.execute("SELECT 1")


def _in_savepoint(connection: Any) -> None:
    try:
        with connection.transaction():
            connection.execute("SELECT 1 / 0")
    except psycopg.Error:
        return


def effects_of(name: str) -> Callable[[Any, Sequence[tuple[Record, Done]]], Any]:
    """Effects that note their records, and do `name` where a record is odd."""
    careless = EFFECTS_DEAD.get(name) or EFFECTS_DONE[name]

    def effects(connection: Any, done: Sequence[tuple[Record, Done]]) -> Any:
        _insert(connection, done)
        return careless(connection, done) if _is_odd(done) else None

    return effects


# For real processes: what ends one, or would.
def _ends(record: Record, context: FlowContext) -> Outcome:
    n = record.payload["n"]
    match record.payload.get("do"):
        case "os-exit":
            os._exit(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            sys.exit(0)
        case "fork":
            if os.fork() == 0:
                return Done({"child": n})
        case "fork-raise":
            if os.fork() == 0:
                raise ValueError("in the child")
        case "thread":
            threading.Thread(target=threading.Event().wait, name="forgotten").start()
        case "child":
            os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "20")
    return Done({"n": n})


@contextmanager
def _exits_at_open(context: OpenContext) -> Iterator[None]:
    if context.flow:  # always
        sys.exit(0)
    yield


@contextmanager
def _fails_at_close(context: OpenContext) -> Iterator[None]:
    yield
    raise OSError("the last page was not written")


PROCESS = Flow(name="act", handle=_ends)
OPEN_EXITS = Flow(name="act", handle=_ends, open=_exits_at_open)
CLOSE_FAILS = Flow(name="act", handle=_ends, open=_fails_at_close)
OPEN_IS_NOTHING = Flow(name="act", handle=_ends, open=lambda context: None)  # type: ignore[arg-type,return-value]
