"""Connections to SQLite and their errors, as everything here uses them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


def connect(address: str, *, timeout_s: float, uri: bool = False) -> sqlite3.Connection:
    """With transactions of the caller's own. Text that is damaged reads as something else, and fails its checksum."""
    db = sqlite3.connect(address, timeout=timeout_s, isolation_level=None, check_same_thread=False, uri=uri)
    db.text_factory = lambda raw: raw.decode(errors="replace")
    return db


@contextmanager
def transaction(db: sqlite3.Connection, mode: str) -> Iterator[None]:
    """`mode` is IMMEDIATE for who writes, DEFERRED for who reads a snapshot."""
    try:
        db.execute(f"BEGIN {mode}")
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def messages() -> Iterator[None]:
    """Around statements on a file that may be damaged: SQLite's own words about that may be no text any more."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise damaged(repr(error.object)) from error


def damaged(why: str) -> sqlite3.DatabaseError:
    """What SQLite raises when it finds it itself."""
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's extended codes carry the primary one in their low byte; 0 where there is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
