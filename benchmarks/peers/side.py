"""What a side of the comparison is to the code that measures it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from benchmarks.bench import Bench
from rpa_testkit.processes import WorkerProcess

Enqueue = Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One choice: what was `chosen`, `why`, and the `page` of the side's documentation that advises it."""

    chosen: str
    why: str
    page: str


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A side with its records loaded and no worker yet."""

    dsn: str
    start: Callable[[], WorkerProcess]
    """Starts one worker process; the caller reaps it."""
    drained: Callable[[psycopg.Connection[Any]], bool]
    """Whether no record waits and none is in a worker's hands."""
    producer: Callable[[], AbstractContextManager[Enqueue]]
    """Enqueues one record by its number; it is durable when the call returns."""


Copies = Callable[[], AbstractContextManager[System]]


class Side(Protocol):
    """One queue, set up as its documentation advises."""

    name: str
    settings: Sequence[Setting]
    records: int
    """How many give about ten seconds of work on a small machine."""
    results: str
    """The table with one row per finished record; its column `data` is the record as JSON, numbered by `a`."""
    gate: str
    """A table that every worker must write to before it can finish a record: locked until all are there."""
    seen: str
    """A query with the parameter `number` that gives a row once that record's result is committed."""

    def missing(self) -> str:
        """What is not installed here, or nothing."""

    def version(self) -> str:
        """The versions of what is measured."""

    def loaded(self, bench: Bench, records: int) -> AbstractContextManager[Copies]:
        """Load once; each copy is a system of its own with `records` waiting, thrown away at its end."""


def copies(bench: Bench, template: str, system: Callable[[str], System]) -> Copies:
    """Copies of the database with DSN `template`, each made a `system` by its own DSN."""

    @contextmanager
    def copy() -> Iterator[System]:
        with bench.database(template) as dsn:
            yield system(dsn)

    return copy
