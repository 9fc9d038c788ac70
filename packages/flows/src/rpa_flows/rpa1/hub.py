"""The connection to survey_hub: writes each response once, in batches."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import orjson
import psycopg

from rpa_core.errors import SchemaError
from rpa_core.store.database import Database

Response = dict[str, Any]


class SurveyHub:
    """One connection of its own, opened on first use, and again after it broke. For one thread."""

    def __init__(self, database: Database, survey: str) -> None:
        self._database = database
        self._survey = survey
        self._connection: psycopg.Connection[Any] | None = None
        self._insert = resources.files("rpa_flows.rpa1").joinpath("insert_responses.sql").read_bytes()

    def check(self) -> None:
        """Raise SchemaError where the table is not there: found at the start, not by the first record."""
        (found,) = self._connected().execute("SELECT to_regclass('public.responses') IS NOT NULL").fetchone() or (
            False,
        )
        if not found:
            raise SchemaError("survey_hub has no table public.responses: run `python -m rpa_flows.migrations`")

    def store(self, responses: Mapping[str, Response]) -> dict[str, Response]:
        """Commit the responses whose key is new; answer those that survey_hub already has, by key.

        Raises TransientError or psycopg.OperationalError while the database is away: nothing is known about the
        batch then, and the whole of it can be stored again.
        """
        if not responses:
            return {}
        connection = self._connected()
        batch = orjson.dumps(list(responses.items()))
        rows = connection.execute(self._insert, {"survey": self._survey, "responses": batch.decode()}).fetchall()
        # A statement of its own: a row that another worker committed meanwhile is in no snapshot before.
        return self._present(connection, [key for (key,) in rows]) if rows else {}

    def _present(self, connection: psycopg.Connection[Any], keys: list[str]) -> dict[str, Response]:
        rows = connection.execute(
            "SELECT key, response::text FROM public.responses WHERE survey = %s AND key = ANY(%s)", (self._survey, keys)
        )
        # jsonb writes 1e300 out in digits; orjson reads them as the number they came from, json as another.
        return {key: orjson.loads(response) for key, response in rows}

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect(application_name=f"rpa1 {self._survey}")
        return self._connection

    def close(self) -> None:
        """Close the connection; the next `store` opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
