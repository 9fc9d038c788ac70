"""Every documented variable does what it says: setting it changes what a worker is made of, or what a command does.

A worker is put together from two configurations that differ in one variable, by the code that runs it, and the parts
are compared; the configuration itself does not count as a part. A new variable fails here until it has another value
in ALTERNATIVES, and until something reads it.
"""

from __future__ import annotations

import functools
import http.client
import json
import logging
import os
import threading
import types
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from rpa_core.checkpoints import Checkpoints
from rpa_core.cli import main
from rpa_core.config.catalogue import CONTROL, Catalogue
from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.models import ContainerConfig, ResourceLimits
from rpa_core.observability.metrics import Metrics
from rpa_core.processing.flow import Flow
from rpa_core.runtime import guards, reload, run, stores, surface
from rpa_core.runtime.container import Container, Orders
from rpa_core.runtime.ending import Ending
from rpa_core.runtime.policies import worker_policy
from rpa_core.services.orchestrator import ServiceOrchestrator
from rpa_core.store.connect import connect
from rpa_testkit.databases import Database
from rpa_testkit.ports import free_port

BASE = {
    "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://u@127.0.0.1:1/d",
    "CONTAINER_SERVICE_X_URL": "http://127.0.0.1:1/x",
    "CONTAINER_PREFECT_API_URL": "http://127.0.0.1:1/api",
    "CONTAINER_ALERTMANAGER_URLS": "http://127.0.0.1:1",
    "CONTAINER_ALERT_WEBHOOK_URL": "http://127.0.0.1:1/hook",
    "CONTAINER_INTAKE_TOKEN": "a-token-of-a-test",
    "CONTAINER_HEALTH_PORT": "0",
}
# Another value than BASE's or the default.
ALTERNATIVES = {
    "CONTAINER_ENVIRONMENT": "production",
    "CONTAINER_FLOW_NAME": "other",
    "CONTAINER_DEPENDENCY_TIMEOUT": "0.25",
    "CONTAINER_CPU_LIMIT": "4",
    "CONTAINER_MEMORY_LIMIT": "64MiB",
    "CONTAINER_PIDS_LIMIT": "9",
    "CONTAINER_HEALTH_HOST": "localhost",
    "CONTAINER_HEALTH_PORT": "{port}",
    "CONTAINER_HEALTH_INTERVAL": "7",
    "CONTAINER_HEALTH_TIMEOUT": "1.5",
    "CONTAINER_HEALTH_HEARTBEAT_MAX_AGE": "77",
    "CONTAINER_HEALTH_DETAILS": "false",
    "CONTAINER_LOG_LEVEL": "error",
    "CONTAINER_LOG_FORMAT": "console",
    "CONTAINER_LOG_QUEUE": "777",
    "CONTAINER_METRICS_ENABLED": "false",
    "CONTAINER_WORKER_ID": "w7",
    "CONTAINER_LEASE_TTL": "7",
    "CONTAINER_CHUNK_SIZE": "2",
    "CONTAINER_CLAIM_RECORDS": "77",
    "CONTAINER_CLAIM_BYTES": "1MiB",
    "CONTAINER_MAX_CLAIMS": "7",
    "CONTAINER_MAX_TRIES": "7",
    "CONTAINER_POLL_MAX": "0.7",
    "CONTAINER_SHUTDOWN_TIMEOUT": "7",
    "CONTAINER_STOP_GRACE": "20",
    "CONTAINER_HIGH_WATER": "900000",
    "CONTAINER_LOW_WATER": "77",
    "CONTAINER_RETRY_BASE": "0.7",
    "CONTAINER_RETRY_CAP": "77",
    "CONTAINER_RETRY_BUDGET": "0.7",
    "CONTAINER_PERIOD_DAYS": "1",
    "CONTAINER_RETENTION_DAYS": "8",
    "CONTAINER_NOTIFY": "false",
    "CONTAINER_INTAKE_TOKEN": "another-token-of-a-test",
    "CONTAINER_INTAKE_READ_TOKEN": "a-reading-token-of-a-test",
    "CONTAINER_INTAKE_TOKENS": '[{"token": "one-more-token-of-a-test"}]',
    "CONTAINER_INTAKE_MAX_BODY": "7MiB",
    "CONTAINER_INTAKE_MAX_LINE": "7777",
    "CONTAINER_INTAKE_MAX_REQUESTS": "7",
    "CONTAINER_INTAKE_RETRY_AFTER": "7",
    "CONTAINER_SPOOL_DIR": "{folder}/spool",
    "CONTAINER_SPOOL_MAX": "7MiB",
    "CONTAINER_SPOOL_MAX_AGE": "777",
    "CONTAINER_SPOOL_RESERVE": "0",
    "CONTAINER_PREFECT_API_URL": "http://127.0.0.1:2/api",
    "CONTAINER_PREFECT_API_KEY": "key-of-a-test",
    "CONTAINER_PREFECT_AUTH_STRING": "user:password-of-a-test",
    "CONTAINER_PREFECT_LOG_LEVEL": "error",
    "CONTAINER_PREFECT_TIMEOUT": "7",
    "CONTAINER_PREFECT_PROGRESS": "7",
    "CONTAINER_ALERTMANAGER_URLS": "http://127.0.0.1:2",
    "CONTAINER_ALERT_WEBHOOK_URL": "http://127.0.0.1:2/hook",
    "CONTAINER_ALERT_WEBHOOK_TOKEN": "token-of-a-test",
    "CONTAINER_ALERT_TIMEOUT": "7",
    "CONTAINER_ALERT_TTL": "777",
    "CONTAINER_ALERT_RUNBOOK_URL": "http://127.0.0.1/runbooks",
    "CONTAINER_DISK_LOW": "0.01",
    "CONTAINER_DISK_RESUME": "0.7",
    "CONTAINER_DISK_INTERVAL": "7",
    "CONTAINER_LOG_DIR": "{folder}/logs",
    "CONTAINER_RELOAD_INTERVAL": "7",
    "CONTAINER_RECOVERY_REFUSED_AFTER": "77",
    "CONTAINER_RECOVERY_EXIT_AFTER": "777",
    "CONTAINER_CRASH_WINDOW": "77",
    "CONTAINER_CRASH_BACKOFF_MAX": "7",
    "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://u@127.0.0.1:2/d",
    "CONTAINER_DATABASE_RPA_DB_PASSWORD": "password-of-a-test",
    "CONTAINER_DATABASE_RPA_DB_POOL_SIZE": "7",
    "CONTAINER_DATABASE_RPA_DB_CONNECT_TIMEOUT": "7",
    "CONTAINER_DATABASE_RPA_DB_HEALTH_QUERY": "SELECT 7",
    "CONTAINER_DATABASE_RPA_DB_RETRY_ATTEMPTS": "7",
    "CONTAINER_DATABASE_RPA_DB_RETRY_BASE": "0.7",
    "CONTAINER_DATABASE_RPA_DB_RETRY_CAP": "7",
    "CONTAINER_SERVICE_X_URL": "http://127.0.0.1:2/x",
    "CONTAINER_SERVICE_X_TIMEOUT": "0.7",
    "CONTAINER_SERVICE_X_ATTEMPTS": "7",
    "CONTAINER_SERVICE_X_REQUIRED": "false",
    "CONTAINER_SECRETS_DIR": "{folder}",
    "CONTAINER_CONFIG_STRICT": "false",
}
# Some are read when a command, a wait or a drain comes to it; these are seen in what it does.
CHECKED = ("CONTAINER_FLOW_NAME", "CONTAINER_PIDS_LIMIT", "CONTAINER_STOP_GRACE", *sorted(CONTROL))
COMMANDS = ("CONTAINER_CHUNK_SIZE", "CONTAINER_PERIOD_DAYS", "CONTAINER_RETENTION_DAYS")
ASSEMBLED = sorted(set(ALTERNATIVES) - {*CHECKED, *COMMANDS})
_OURS = ("rpa_core", "psycopg_pool", "functools", "logging")
_NO_PARTS = (ContainerConfig, ContainerConfigManager, types.ModuleType, type, threading.Thread)


@pytest.mark.requirement("R1.2", "R1.1")
def test_every_variable_of_the_catalogue_has_another_value() -> None:
    """None is forgotten, and none is tried that does not exist."""
    catalogue = Catalogue()
    names = {*catalogue.flat, *CONTROL}
    names |= {f"CONTAINER_DATABASE_RPA_DB_{name}" for name in catalogue.database}
    names |= {f"CONTAINER_SERVICE_X_{name}" for name in catalogue.service}
    assert names == set(ALTERNATIVES)


def _flow() -> Flow:
    return Flow(name="probe", handle=lambda record, context: None)  # type: ignore[arg-type]  # never called


@contextmanager
def _assembled(environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What a worker is made of, put together by the code that runs it; nothing is connected."""
    flow = _flow()
    process = run._Process(flow, environ, Checkpoints(), False, Ending())  # as run_flow does
    manager = ContainerConfigManager(
        environ, flow_name=flow.name, limits=lambda: ResourceLimits(cpu_cores=1.0, memory_bytes=2**30)
    )
    config = manager.load_container_config()
    with ExitStack() as stack:
        logging_ = process._logging(manager)
        stack.callback(logging_.stop)
        container = Container(
            flow,
            manager,
            read=process.read,
            orders=Orders(),
            checkpoints=Checkpoints(),
            logging_=logging_,
        )
        stack.callback(container._upkeep.close)
        database = container._stores.databases["rpa_db"]
        served = surface.start(
            config,
            container._monitor,
            Metrics(),
            database,
            container._gates,
            container._upkeep.spools,
        )
        stack.callback(served.stop)
        watch = reload.watch(flow, manager, read=process.read, accept=print, refuse=print, recover=lambda: None)
        yield {
            "level": logging.getLogger().level,
            "container": container,
            "queue": container._gates.queue("probe"),
            "surface": served,
            "port": served.port if environ["CONTAINER_HEALTH_PORT"] != "0" else "any",
            "metrics": _status(served.port, "/metrics"),
            "reload": watch,
            "policy": worker_policy(config),
            "dependencies": ServiceOrchestrator(config),
            "waits": _waits(config),
            "drain": _drain_of(config),
            "listens": _listens(container),
        }


def _status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("localhost", port, timeout=10)
    with closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def _waits(config: ContainerConfig) -> list[float]:
    """For how long a worker waits for its dependencies."""
    waited: list[float] = []
    orchestrator = types.SimpleNamespace(require_dependencies=waited.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rpa_core.runtime.stores.ServiceOrchestrator", lambda *_, **__: orchestrator)
        made = stores.Stores(
            config, owner="o", metrics=Metrics(), checkpoints=Checkpoints(), reloaded=True, proven=frozenset()
        )
        made.wait(threading.Event())
    return waited


def _drain_of(config: ContainerConfig) -> dict[str, Any]:
    """What the two guards of a worker's end are given."""
    given: dict[str, Any] = {}
    both = threading.Barrier(3)

    def note(**named: Any) -> None:
        given.update({name: value for name, value in named.items() if isinstance(value, float)})
        both.wait(10)

    nothing: Any = types.SimpleNamespace(keeper=None, keep_in_hand=None)
    over = threading.Event()
    over.set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rpa_core.runtime.drain.watch", note)
        patch.setattr("rpa_core.runtime.selfcheck.watch", note)
        guards.start(
            config,
            nothing,
            upkeep=nothing,
            open_ledger=nothing,
            heartbeat_age_s=lambda: 0.0,
            stop=over,
            finished=over,
            closed=over,
            flush=lambda: None,
        )
        both.wait(10)
    return given


class _MadeError(Exception):
    pass


def _listens(container: Container) -> list[Any]:
    """How the worker's watcher of the queue is made."""
    made: list[Any] = []

    def watcher(**named: Any) -> None:
        made.append((named["listen"], named["retention"]))
        raise _MadeError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rpa_core.runtime.container.Watcher", watcher)
        patch.setattr(container, "_worker", lambda _: None)
        with pytest.raises(_MadeError):
            container._work(None, 0)
    return made


def _parts(thing: Any, path: str, found: dict[str, str], seen: set[int]) -> None:
    """Every plain value in a graph of our objects, by its path."""
    if thing is None or isinstance(thing, (bool, int, float, str, bytes, Path)):
        found[path] = repr(thing)
        return
    if isinstance(thing, SecretStr):
        found[path] = thing.get_secret_value()
        return
    if isinstance(thing, _NO_PARTS) or id(thing) in seen or path.count(".") > 14:
        return
    seen.add(id(thing))
    if isinstance(thing, Mapping):
        children = {str(key): item for key, item in thing.items()}
    elif isinstance(thing, (list, tuple, set, frozenset)):
        children = {str(number): item for number, item in enumerate(thing)}
    elif isinstance(thing, functools.partial):
        children = {"func": thing.func, "args": thing.args, "keywords": thing.keywords}
    elif isinstance(thing, types.MethodType):
        children = {"self": thing.__self__}
    elif isinstance(thing, types.FunctionType):
        cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
        children = {name: cell.cell_contents for name, cell in cells} | (thing.__kwdefaults__ or {})
    elif isinstance(thing, BaseModel) or type(thing).__module__.partition(".")[0] in _OURS:
        found[path] = type(thing).__qualname__
        slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        children = {name: getattr(thing, name) for name in slots if hasattr(thing, name)} | dict(vars_of(thing))
    else:
        found[path] = type(thing).__qualname__
        return
    for name, child in children.items():
        _parts(child, f"{path}.{name}", found, seen)


def vars_of(thing: Any) -> dict[str, Any]:
    """Its attributes, without those that lead out of it."""
    return {
        name: value
        for name, value in getattr(thing, "__dict__", {}).items()
        if name not in ("parent", "root", "manager")
    }


def _values(environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    with _assembled(environ) as made:
        for name, part in made.items():
            _parts(part, name, found, set())
    return found


class _Known:
    """The parts of a worker by one configuration: the values that are the same each time, and every path."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        first, second = _values(environ), _values(environ)
        self._same = {path: value for path, value in first.items() if second.get(path) == value}
        self._paths = first.keys() | second.keys()

    def changed(self, environ: Mapping[str, str]) -> list[str]:
        """Where a worker by `environ` has another value, a part more or a part less."""
        found = _values(environ)
        return [
            *(path for path, value in self._same.items() if found.get(path) != value),
            *(found.keys() - self._paths),
        ]


@pytest.fixture(scope="module")
def plain() -> _Known:
    """The parts of a worker by BASE."""
    return _Known(BASE)


@pytest.mark.requirement("R1.2")
def test_the_same_configuration_makes_the_same_worker(plain: _Known) -> None:
    """So that a difference is the setting's."""
    assert plain.changed(BASE) == []


@pytest.mark.requirement("R1.2")
@pytest.mark.parametrize("name", ASSEMBLED)
def test_a_setting_changes_what_a_worker_is_made_of(name: str, plain: _Known, tmp_path: Path) -> None:
    """By the code that runs a worker: where the variable is another, a part of it is another."""
    text = ALTERNATIVES[name].replace("{folder}", str(tmp_path)).replace("{port}", str(free_port()))
    base = BASE
    if name == "CONTAINER_SPOOL_RESERVE":  # of a spool in a folder alone
        base = BASE | {"CONTAINER_SPOOL_DIR": str(tmp_path / "spool")}
        plain = _Known(base)
    assert plain.changed(base | {name: text}), f"{name} has no effect"


@pytest.mark.requirement("R1.1", "R1.2")
@pytest.mark.parametrize("name", CHECKED)
def test_a_setting_changes_what_the_check_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Limits that are only compared, and the variables about the variables."""
    for given in list(os.environ):
        if given.startswith("CONTAINER_"):
            monkeypatch.delenv(given)
    base = BASE | {"CONTAINER_FLOW_NAME": "probe", "CONTAINER_UNKNOWN": "x"}
    if name != "CONTAINER_CONFIG_STRICT":
        del base["CONTAINER_UNKNOWN"]
    for variable, text in base.items():
        monkeypatch.setenv(variable, text)
    (tmp_path / "lease_ttl").write_text("7")
    main.main(["config", "check"])
    before = capsys.readouterr()
    main.main(["config", "show"])
    before_shown = capsys.readouterr()
    monkeypatch.setenv(name, ALTERNATIVES[name].replace("{folder}", str(tmp_path)))
    main.main(["config", "check"])
    after = capsys.readouterr()
    main.main(["config", "show"])
    after_shown = capsys.readouterr()
    if name == "CONTAINER_SECRETS_DIR":
        assert f"secret {tmp_path}/lease_ttl" in after_shown.out
        assert f"secret {tmp_path}/lease_ttl" not in before_shown.out
    else:
        assert before != after


@pytest.mark.requirement("R1.2")
def test_a_load_has_chunks_of_the_setting(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTAINER_CHUNK_SIZE=2: five records are three chunks."""
    (tmp_path / "five.ndjson").write_text("".join(f'{{"n": {n}}}\n' for n in range(5)))
    monkeypatch.setenv("CONTAINER_CHUNK_SIZE", ALTERNATIVES["CONTAINER_CHUNK_SIZE"])
    command = ["records", "load", "probe", str(tmp_path / "five.ndjson"), "--database", database.dsn]
    assert main.main(command) == 0
    with connect(database.dsn) as connection:
        assert [n for (n,) in connection.execute("SELECT n FROM rpa.chunk ORDER BY id")] == [2, 2, 1]
    monkeypatch.setenv("CONTAINER_CHUNK_SIZE", "no")
    assert main.main(command) == 78


@pytest.mark.requirement("R1.2")
def test_periods_and_retention_are_those_of_the_settings(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A period of three days is due where a day is the rule, and dropped after ten where eight are."""
    with connect(database.dsn) as connection:
        connection.execute("UPDATE rpa.period SET opened_at = now() - interval '3 days'")

    def retained(**variables: str) -> dict[str, Any]:
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
        assert main.main(["db", "retain", "--json", "--database", database.dsn]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert retained()["opened"] is None
    assert retained(CONTAINER_PERIOD_DAYS="1")["opened"] == 2
    with connect(database.dsn) as connection:
        connection.execute(
            "UPDATE rpa.period SET opened_at = now() - interval '20 days', closed_at = now() - interval '10 days'"
            " WHERE closed_at IS NOT NULL"
        )
    assert retained()["dropped"] == []
    assert retained(CONTAINER_RETENTION_DAYS=ALTERNATIVES["CONTAINER_RETENTION_DAYS"])["dropped"] == [1]
