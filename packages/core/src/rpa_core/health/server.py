"""The HTTP server: uvicorn in a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import logging
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rpa_core.errors import ConfigError, UsageError
from rpa_core.health.http_config import HttpConfig
from rpa_core.health.monitor import HealthMonitor

if TYPE_CHECKING:
    from rpa_core.health.intake_api import IntakeApi
    from rpa_core.observability.metrics import Metrics

_LOG = logging.getLogger("rpa.http")
_NEEDED = ("starlette", "uvicorn")
_NEXT_PORTS = 10
_QUEUE = 4096  # connections that wait to be accepted; the system may keep fewer
_UNSENT_BYTES = 64 * 1024  # in the system, for a client that reads nothing; by itself it would grow to megabytes
_STOP_MARGIN_S = 2  # for requests to be answered once their uploads are aborted


class HttpServer:
    """Serves until `stop`. Not restartable; make another one."""

    def __init__(
        self,
        config: HttpConfig,
        monitor: HealthMonitor,
        metrics: Metrics | None = None,
        intake: IntakeApi | None = None,
    ) -> None:
        if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
            raise UsageError(f"{' and '.join(missing)} not installed: run `pip install rpa-core[http]`")
        self._config = config
        self._monitor = monitor
        self._metrics = metrics
        self._intake = intake
        self._socket: socket.socket | None = None
        self._server: Any = None
        self._records: Any = None
        self._thread: threading.Thread | None = None
        self._running = threading.Event()
        self._died: Exception | None = None

    @property
    def port(self) -> int:
        """The port it listens on; the one that was found where the configured one is 0."""
        if self._socket is None:
            raise UsageError("the HTTP server has no port before start()")
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Listen and serve. Raises ConfigError where the address cannot be had."""
        self._socket = _listen(self._config.host, self._config.port, move_on=self._config.move_on)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()
        self._running.wait()
        if self._died is not None:
            raise RuntimeError("the HTTP server could not start") from self._died
        instead = f", because port {self._config.port} is taken" if self._config.port not in (0, self.port) else ""
        _LOG.info(
            "listening on http://%s:%d%s",
            self._config.host,
            self.port,
            instead,
            extra={"event.action": "http.listening", "server.address": self._config.host, "server.port": self.port},
        )

    def stop(self, timeout_s: float = 5.0) -> None:
        """Take no more requests; uploads that do not end within `timeout_s` are rolled back and told so."""
        if self._thread is None or self._server is None:
            return
        self._server.config.timeout_graceful_shutdown = int(timeout_s) + _STOP_MARGIN_S
        self._server.should_exit = True
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self._records is not None:
            self._records.abort()
        self._thread.join(_STOP_MARGIN_S + 1.0)
        if self._thread.is_alive():
            _LOG.warning("the HTTP server did not stop within %g s", timeout_s, extra={"event.action": "http.stuck"})
        if self._records is not None:
            self._records.close()

    def _serve(self) -> None:
        import uvicorn

        from rpa_core.health.app import build_app
        from rpa_core.health.protocol import Complaints, Connections, DeadlinedProtocol
        from rpa_core.health.uploads import Records

        settings = self._config
        running = self._running

        class Protocol(DeadlinedProtocol):
            header_timeout_s = settings.header_timeout_s
            write_timeout_s = settings.write_timeout_s
            places = Connections(settings.max_connections)
            complaints = Complaints()

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                for listener in sockets or ():  # after uvicorn, which takes its queue for what is accepted at once
                    listener.listen(_QUEUE)
                running.set()

        if self._intake is not None:
            self._records = Records(settings, self._monitor, self._intake)
        self._server = Server(
            uvicorn.Config(
                build_app(settings, self._monitor, self._metrics, self._records),
                http=Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=15,
                backlog=max(8, settings.max_connections // 4),
                h11_max_incomplete_event_size=32 * 1024,
            )
        )
        try:
            asyncio.run(self._main())
        except Exception as error:  # noqa: BLE001 - the thread's boundary: start() raises it, the log has it
            self._died = error
            _LOG.critical("the HTTP server has died", exc_info=True, extra={"event.action": "http.died"})
        finally:
            self._running.set()

    async def _main(self) -> None:
        await self._server.serve(sockets=[self._socket])


def _listen(host: str, port: int, *, move_on: bool) -> socket.socket:
    """A listening socket; where the port is taken, with `move_on`, on one of the next ports, or else on any."""
    try:
        return _bind(host, port)
    except OSError as error:
        if move_on and error.errno == errno.EADDRINUSE:
            for other in (*range(port + 1, port + _NEXT_PORTS), 0):
                with suppress(OSError):
                    return _bind(host, other)
        problem = (
            f"cannot listen on {host}:{port}: {error.strerror or error}; set CONTAINER_HEALTH_HOST and "
            "CONTAINER_HEALTH_PORT to an address of this machine and a free port (0 takes any)"
        )
        raise ConfigError((problem,)) from error


def _bind(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, proto, _, address = found[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT_BYTES)  # connections inherit it
        listener.bind(address)
        listener.listen(128)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
