"""What the tests of running workers share."""

from __future__ import annotations

from pathlib import Path

import pytest

from rpa_testkit.databases import Database
from rpa_testkit.processes import WorkerProcesses

from .engine import Engine


@pytest.fixture
def engine(database: Database, worker_process: WorkerProcesses, tmp_path: Path) -> Engine:
    """Workers over a database of their own, on the shared server."""
    return Engine(database.dsn, worker_process, tmp_path)


@pytest.fixture
def private_engine(private_database: Database, worker_process: WorkerProcesses, tmp_path: Path) -> Engine:
    """Workers over a server of their own, to be stopped and started."""
    return Engine(private_database.dsn, worker_process, tmp_path)
