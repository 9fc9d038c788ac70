"""The record, the result row and the number of workers that all sides share."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

WORKERS = 2
RESULTS = "peer.result"
SEEN = f"SELECT 1 FROM {RESULTS} WHERE record_id = %(number)s"
INSERT = f"INSERT INTO {RESULTS} (record_id, data) VALUES (%s, %s) ON CONFLICT DO NOTHING"
"""Deliveries are at least once on every peer: the key makes a second one harmless."""

SCHEMA = """
CREATE SCHEMA peer;
CREATE TABLE peer.result (record_id bigint PRIMARY KEY, data json NOT NULL);
"""


def fields(number: int) -> dict[str, Any]:
    """A record, equal to those of `benchmarks.noop`."""
    return {"a": number, "b": "hello", "c": [1, 2, 3]}


def absent(*distributions: str) -> str:
    """The distributions that are not installed, in words; empty if all are there."""
    gone = []
    for name in distributions:
        try:
            version(name)
        except PackageNotFoundError:
            gone.append(name)
    return (
        f"{' and '.join(gone)} not installed: nox -s benchmark -- peers installs requirements/peers.txt" if gone else ""
    )


def versions(*distributions: str) -> str:
    """Names and versions, such as `celery 5.7.0, redis 8.1.0`."""
    return ", ".join(f"{name} {version(name)}" for name in distributions)
