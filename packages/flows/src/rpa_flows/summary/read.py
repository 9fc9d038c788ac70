"""Streams the scored responses of a survey out of rpa_db."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any

import orjson
import psycopg

Scored = tuple[dict[str, Any], dict[str, Any]]

_FETCHED_ROWS = 2000


def scored_responses(connection: psycopg.Connection[Any], survey: str) -> Iterator[Scored]:
    """(answers, scores) of every response of `survey` that rpa2 is done with, in no particular order.

    Through a cursor in a transaction of its own: one consistent state, in constant memory. The connection must not be
    in a transaction already.
    """
    query = resources.files("rpa_flows.summary").joinpath("scored_responses.sql").read_bytes()
    with (
        connection.transaction(),
        connection.cursor(name="scored_responses") as cursor,
    ):
        cursor.itersize = _FETCHED_ROWS
        cursor.execute(query, {"survey": survey})
        for payload, data in cursor:
            yield _decoded(payload)["answers"], _decoded(data)


def _decoded(column: Any) -> dict[str, Any]:
    """A text column, whatever loaders the connection has."""
    value: dict[str, Any] = orjson.loads(column)
    return value
