"""Flows for tests: what the handler does with a record stands in its payload, `{"do": ..., "ms": ...}`.

Every call is noted in the file that RPA_TEST_CALLS names, so that a test can count how often a handler saw a record.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from pydantic_settings import BaseSettings, SettingsConfigDict

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.errors import ConfigError, RecordRejected, TransientError
from rpa_core.processing.flow import Flow, FlowContext, OpenContext, Record
from rpa_core.processing.outcome import Done, Emit, Outcome, Retry, SetAside


class Notes:
    """Appends one line per call; a line is written by one system call, so that a kill cannot halve it."""

    def __init__(self, path: str, checkpoints: Checkpoints) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.checkpoints = checkpoints

    def note(self, record: Record) -> None:
        os.write(self._file, b"%d %d\n" % (record.id, record.attempt))

    def close(self) -> None:
        os.close(self._file)


@contextmanager
def open_notes(context: OpenContext) -> Iterator[Notes]:
    """Opens the file of calls."""
    notes = Notes(os.environ.get("RPA_TEST_CALLS", os.devnull), context.checkpoints)
    yield notes
    notes.close()


def act(record: Record, context: FlowContext) -> Outcome:
    """Do what the payload says."""
    context.resources.note(record)
    payload = record.payload
    if ms := payload.get("ms"):
        threading.Event().wait(ms / 1000)
    return _outcome(record, payload)


async def act_async(record: Record, context: FlowContext) -> Outcome:
    """The same, in an event loop."""
    context.resources.note(record)
    payload = record.payload
    if ms := payload.get("ms"):
        await asyncio.sleep(ms / 1000)
    if payload.get("do") == "cancelled":
        raise asyncio.CancelledError
    return _outcome(record, payload)


def act_batch(records: Sequence[Record], context: FlowContext) -> Sequence[Outcome]:
    """The same, for many at once: an exception is everybody's, `short` answers for one record too few."""
    outcomes = [act(record, context) for record in records]
    return outcomes[:-1] if any(record.payload.get("do") == "short" for record in records) else outcomes


def _outcome(record: Record, payload: dict[str, Any]) -> Outcome:
    match payload.get("do", "done"):
        case "done" | "short":
            return Done({"n": payload.get("n"), "attempt": record.attempt})
        case "large":
            return Done("x" * payload["bytes"])
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            threading.Event().wait()
        case "burn":
            _burn(payload["s"])
        case "retry":
            return Retry("not yet", payload.get("after_s"))
        case "once":  # fails at the first attempt only
            return Retry("the first time") if record.attempt == 1 else Done({"attempt": record.attempt})
        case "aside":
            return SetAside(("never", "and again never"))
        case "reject":
            raise RecordRejected("too old", "too odd")
        case "raise":
            raise ValueError(f"cannot read {payload.get('n')}")
        case "transient":
            _away_unless(os.environ["RPA_TEST_BACK"])
        case "none":
            return None  # type: ignore[return-value]  # what a careless handler does
        case "object":
            return Done(object())
        case "odd-reason":
            return SetAside((42, "\udc80 is half a character"))  # type: ignore[arg-type]  # as above
        case "text-reason":
            return SetAside("just text")  # type: ignore[arg-type]  # as above
        case "odd-delay":
            return Retry("soon", payload["after_s"] if "after_s" in payload else float("inf"))
        case "emit":
            return Done(payload.get("n"), emit=(Emit("later", {"of": payload.get("n")}, f"later-{payload.get('n')}"),))
        case "odd-emit":
            return Done(None, emit=(Emit(payload["flow"], {}, payload.get("key")),))
    return Done({"n": payload.get("n")})


def _burn(seconds: float) -> None:
    """Pure Python, which never lets go of the interpreter by itself."""
    end, total = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for number in range(10_000):
            total += number * number % 7


def _away_unless(path: str) -> None:
    """The dependency is away until the file is there."""
    if not os.path.exists(path):  # noqa: PTH110 - one call, in a handler
        raise TransientError("the other side is away")


def write_effects(connection: psycopg.Connection[Any], done: Sequence[tuple[Record, Done]]) -> None:
    """User SQL: one row per record into a table that has no key, so that a second write would show."""
    with connection.cursor() as cursor, cursor.copy("COPY public.effect (record_id, value) FROM STDIN") as copy:
        for record, _ in done:
            copy.write_row((record.id, record.payload.get("value", 0)))
    if any(record.payload.get("effect") == "bug" for record, _ in done):
        raise KeyError("a defect in the effect")


def touch_outside(record: Record, context: FlowContext) -> Outcome:
    """A flow with an effect of its own outside the ledger."""
    context.resources.note(record)
    context.resources.checkpoints.reach(Point.FLOW_EFFECT_DONE)
    return Done(record.payload.get("n"))


class PickySettings(BaseSettings):
    """CONTAINER_MOOD."""

    model_config = SettingsConfigDict(env_prefix="CONTAINER_", extra="ignore")

    mood: str = "good"


@contextmanager
def open_picky(context: OpenContext) -> Iterator[Notes]:
    """Refuses a mood, which no look at the setting alone could tell."""
    if context.settings.mood == "bad":
        raise ConfigError(("CONTAINER_MOOD  is bad; choose another one",))
    with open_notes(context) as notes:
        yield notes


ACT = Flow(name="act", handle=act, open=open_notes)
EFFECTS = Flow(name="act", handle=act, open=open_notes, effects=write_effects)
BATCH = Flow(name="act", handle=act_batch, batch=True, open=open_notes)
ASYNC = Flow(name="act", handle=act_async, open=open_notes, concurrency=8)
OUTSIDE = Flow(name="act", handle=touch_outside, open=open_notes)
FORWARD = Flow(name="act", handle=act, open=open_notes, next_flow="later")
PICKY = Flow(name="act", handle=act, open=open_picky, settings=PickySettings)
