"""The workers' sessions on the server."""

from __future__ import annotations

import psycopg

# A worker's ledger connections are called "rpa FLOW LABEL:INCARNATION", its others "rpa FLOW USE".
_END = """
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name LIKE 'rpa %%' AND datname = current_database()
  AND (%(node)s::text IS NULL OR application_name LIKE '%% ' || %(node)s || ':%%')
"""


def end_sessions(dsn: str, node: str | None = None) -> list[int]:
    """End every worker's sessions, or one's ledger sessions; returns their pids. They may come back at once."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=3, application_name="rpa-testkit fault") as connection:
        return [pid for pid, _ in connection.execute(_END, {"node": node}).fetchall()]
