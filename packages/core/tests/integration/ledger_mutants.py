"""Planted defects: the store with one idea taken away. The machine must find each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from rpa_core.store.intake import Enqueued, NewRecord
from rpa_testkit import planted

from .ledger_machine import LedgerMachine
from .ledger_parts import FLOW, Engine


class NoFence(Engine):
    """(a) Neither lease nor epoch is asked for."""

    ledger = planted.NoFence


class NobodyLooks(Engine):
    """(a) again: asked for, and ignored."""

    ledger = planted.NobodyLooks


class AttemptsAsToken(Engine):
    """(b)"""

    ledger = planted.AttemptsAsToken


class ResultsBesideTheTransaction(Engine):
    """(c) Results are written and committed by a transaction of their own, before the chunk's end commits."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        """While this is open."""
        with planted.results_beside_the_transaction():
            yield


class CutByMaxId(Engine):
    """(d) Records come without chunks; a cutter makes chunks of everything up to the highest id it sees.

    It runs at each commit, so that the records it sees are never without one.
    """

    def enqueue(self, connection: psycopg.Connection[Any], records: Iterable[NewRecord], chunk_size: int) -> Enqueued:
        """Records alone."""
        return planted.enqueue_without_chunks(connection, FLOW, records)

    def committed(self, connection: psycopg.Connection[Any]) -> None:
        """Cut."""
        planted.cut(connection, "machine.cut")


class Hunting(LedgerMachine):
    """The machine without the steps that no planted defect is about, so that it comes to the others sooner."""

    enqueue_unreadable = note_progress = put_back_dead = promote = rotate = reconnect = None  # type: ignore[assignment]  # takes the rules out


class NoLateCommits(Hunting):
    """Also without the one step that tells a cutter by ids from chunks written with their records."""

    enqueue_and_wait = None  # type: ignore[assignment]  # takes the rule out
