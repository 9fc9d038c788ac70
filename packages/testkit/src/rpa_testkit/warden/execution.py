"""Carries an undo out."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from rpa_testkit.warden.processes import send, started
from rpa_testkit.warden.undo import ClearEdge, Command, Continue, Limit, Remove, Sql, Undo, Write

_CONNECT_S = 5


def carry_out(undo: Undo) -> None:
    """Raises if it cannot be done; what is gone needs none."""
    match undo:
        case Continue():
            send(undo.pid, undo.started, signal.SIGCONT)
        case Limit():
            _limit(undo)
        case Command():
            subprocess.run(undo.argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=undo.timeout_s, check=True)
        case Sql():
            _sql(undo)
        case ClearEdge():
            _clear_edge(undo)
        case Remove():
            Path(undo.path).unlink(missing_ok=True)
        case Write():
            Path(undo.path).write_text(undo.text)


def _limit(undo: Limit) -> None:
    import resource

    if started(undo.pid) == undo.started:
        resource.prlimit(undo.pid, getattr(resource, undo.resource), (undo.soft, undo.hard))


def _sql(undo: Sql) -> None:
    import psycopg

    failed: list[psycopg.Error] = []
    with psycopg.connect(undo.dsn, autocommit=True, connect_timeout=_CONNECT_S) as connection:
        for statement in undo.statements:
            try:
                connection.execute(statement.encode())
            except psycopg.Error as error:
                failed.append(error)
    if failed:
        raise failed[0]


def _clear_edge(undo: ClearEdge) -> None:
    from rpa_testkit.proxy.client import Proxy, ProxyError

    try:
        proxy = Proxy.connect(undo.host, undo.port)
    except ProxyError:
        return  # without a proxy there is no rule
    try:
        proxy.clear(undo.edge)
    finally:
        proxy.close()
