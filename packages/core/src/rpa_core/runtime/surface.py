"""The HTTP surface of a worker: probes, metrics and, on the same port, the intake with its spool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from rpa_core.checkpoints import Checkpoints
from rpa_core.config.models import ContainerConfig
from rpa_core.config.problems import Code, Problem
from rpa_core.config.tokens import EVERY_FLOW
from rpa_core.errors import ConfigError
from rpa_core.health import ports
from rpa_core.health.http_config import HttpConfig
from rpa_core.health.intake_api import Hold, IntakeApi
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.server import HttpServer
from rpa_core.observability.metrics import Metrics
from rpa_core.resilience.breaker import BreakerState
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.courier import Courier
from rpa_core.resilience.spool.directory import Spools
from rpa_core.runtime import flows
from rpa_core.runtime.gates import Gates

if TYPE_CHECKING:
    import psycopg

    from rpa_core.health.waiting_uploads import WaitingUploads
    from rpa_core.resilience.spool.spool import Spool
    from rpa_core.store.database import Database

_PACE = RetryPolicy(max_attempts=0, base_s=0.5, cap_s=2.0)
_ANY_BYTES = 2**62  # what was taken in was within the limits of its time
_STOP_S = 1.0
_WHY = {
    "disk": "disk space of this container is short",
    "memory": "memory of this container is short",
    "queue": "too many records wait",
}


class Surface:
    """What runs behind one port; stop it once."""

    def __init__(self, server: HttpServer, stops: Sequence[Callable[[], object]]) -> None:
        self._server = server
        self._stops = stops

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    def stop(self, timeout_s: float = 5.0) -> None:
        """Take no more requests; see `HttpServer.stop`. What is kept in the spool stays there."""
        self._server.stop(timeout_s)
        for stop in self._stops:
            stop()


def start(
    config: ContainerConfig,
    monitor: HealthMonitor,
    metrics: Metrics,
    database: Database,
    gates: Gates,
    spools: Spools,
    *,
    checkpoints: Checkpoints | None = None,
) -> Surface:
    """Start it; raises RpaError if the port cannot be bound. Without a token there is no intake.

    `database` is rpa_db. Uploads that an earlier life kept are loaded in any case.
    """
    from rpa_core.health.intake import StoreIntake
    from rpa_core.health.spooled_intake import SpooledIntake, UploadLoader
    from rpa_core.health.waiting_uploads import KIND, WaitingUploads

    waiting = WaitingUploads(spools)
    settings: dict[str, Any] = {
        "metrics": metrics,
        "chunk_size": config.worker.chunk_size,
        "notify": config.worker.notify,
    }
    later = StoreIntake(
        _Single(database, f"rpa {config.flow_name} spool"),
        (),
        max_body_bytes=_ANY_BYTES,
        max_line_bytes=_ANY_BYTES,
        **settings,
    )

    def within_reach() -> Sequence[Spool]:
        """None while no look at the database is due: uploads may be large, and would be read for nothing."""
        return [*spools.adopted(), spools.own] if database.breaker.retry_after_s() == 0 else []

    courier = Courier(
        KIND,
        within_reach,
        UploadLoader(later, waiting, checkpoints).deliver,
        policy=_PACE,
        on_dead=waiting.drop_dead,
        most_begun=config.worker.max_claims,
    )
    intake: IntakeApi | None = None
    stops: list[Callable[[], object]] = [lambda: courier.stop(_STOP_S)]
    http = HttpConfig.from_container(config)
    if http.grants:
        known = _known_flows(config, http)
        pool = database.pool(
            max_size=config.database_connections[database.name].connection_pool_size,
            application_name=f"rpa {config.flow_name} intake",
        )
        direct = StoreIntake(
            pool,
            known,
            gate=_Backpressure(gates, waiting, config.intake.retry_after_s),
            max_body_bytes=config.intake.max_body_bytes,
            max_line_bytes=config.intake.max_line_bytes,
            **settings,
        )
        spooled = SpooledIntake(
            direct,
            spools.own,
            waiting,
            away=lambda: database.breaker.state is not BreakerState.CLOSED,
            checkpoints=checkpoints,
        )
        check = f"{database.name}:connection"
        monitor.bear(check, spooled.bears)
        stops += [lambda: monitor.bear(check, lambda: None), lambda: pool.close(_STOP_S)]
        intake = spooled
    server = HttpServer(http, monitor, metrics if config.monitoring_config.metrics_enabled else None, intake)
    server.start()
    if http.move_on or http.port == 0:
        stops.append(ports.announce(config.flow_name, server.port))
    courier.start()
    return Surface(server, stops)


def _known_flows(config: ContainerConfig, http: HttpConfig) -> frozenset[str]:
    """The flows that a request may name; raises ConfigError where a token names one that is not installed."""
    known = frozenset({config.flow_name, *flows.installed()})
    named = frozenset().union(*(grant.flows for grant in http.grants)) - {EVERY_FLOW}
    if unknown := sorted(named - known):
        text = f"names flows that are not installed here: {', '.join(unknown)}; installed: {', '.join(sorted(known))}"
        raise ConfigError((Problem(variable="CONTAINER_INTAKE_TOKENS", text=text, code=Code.INVALID).line(),))
    return known


class _Backpressure:
    """The gates; what waits in the spool counts as waiting too, because the samples of the queue do not know of it."""

    def __init__(self, gates: Gates, waiting: WaitingUploads, retry_after_s: float) -> None:
        self._gates = gates
        self._waiting = waiting
        self._retry_after_s = retry_after_s

    def admit(self, flow: str) -> Hold | None:
        """As `Gate.admit`."""
        if (why := self._gates.reason(flow)) is not None:
            return Hold(_WHY[why], self._retry_after_s)
        _, records = self._waiting.count(flow)
        depth = self._gates.depths.get(flow)
        unfinished = depth.unfinished if depth is not None else 0
        too_many = records and unfinished + records >= self._gates.queue(flow).high
        return Hold(_WHY["queue"], self._retry_after_s) if too_many else None


class _Single:
    """A connection for each use: kept uploads are few, and must not take those that uploads wait for."""

    def __init__(self, database: Database, application_name: str) -> None:
        self._database = database
        self._application_name = application_name

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """As a pool's."""
        with closing(self._database.connect(application_name=self._application_name)) as connection:
            yield connection
