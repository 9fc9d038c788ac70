"""Sequences and the tables they count for: a sequence that is behind hands out ids that are taken.

Logical replication and data-only copies carry rows but no sequences; so after a switchover or an upgrade by them, and
after a `setval`, the next ids may be those of rows that are there already.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg

from rpa_core.errors import SchemaError
from rpa_core.store.callers import cursor_of

REPAIR = "run `rpa db repair-sequences`"
_LOCK_TIMEOUT = "10s"


class SequencePosition(NamedTuple):
    """The next id that a sequence hands out, and the highest that its table holds; None for an empty table."""

    name: str
    next: int
    highest: int | None

    @property
    def behind(self) -> bool:
        """Whether ids that are taken will be handed out."""
        return self.highest is not None and self.highest >= self.next

    def __str__(self) -> str:
        return f"sequence {self.name} is behind its table: next {self.next}, highest {self.highest}; {REPAIR}"


def sequences(connection: psycopg.Connection[Any]) -> list[SequencePosition]:
    """Where every sequence stands; nothing where the schema is older than this question."""
    cursor = cursor_of(connection)
    known = cursor.execute("SELECT to_regprocedure('rpa.sequence_positions()') IS NOT NULL").fetchone()
    if not (known and known[0]):
        return []
    rows = cursor.execute("SELECT name, next, highest FROM rpa.sequence_positions()")
    return [SequencePosition(*row) for row in rows]


def check_sequences(connection: psycopg.Connection[Any]) -> None:
    """Raise SchemaError if any sequence is behind its table."""
    if behind := [str(one) for one in sequences(connection) if one.behind]:
        raise SchemaError("; ".join(behind))


def advance_sequences(connection: psycopg.Connection[Any]) -> list[tuple[str, int]]:
    """Set those that are behind forward, never back; returns each with the id it hands out next.

    Waits up to 10 s for running enqueues, and raises psycopg's LockNotAvailable then. Unfinished chunks that share an
    id with a finished one get another.
    """
    with connection.transaction():
        cursor = cursor_of(connection)
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        return [(name, number) for name, number in cursor.execute("SELECT name, next FROM rpa.advance_sequences()")]
