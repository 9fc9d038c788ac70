"""Reporting this life to Prefect: begin, what is logged, how far it got, end. Puts into the spool and goes on."""

from __future__ import annotations

import importlib.util
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from rpa_core.clock import Clock, SystemClock
from rpa_core.config.models import ContainerConfig
from rpa_core.errors import ConfigError
from rpa_core.observability.metrics import Metrics
from rpa_core.observability.redaction import Redactor
from rpa_core.prefect import entries
from rpa_core.prefect.client import PrefectClient
from rpa_core.prefect.delivery import Delivery
from rpa_core.prefect.lines import RunLog
from rpa_core.prefect.model import KIND, Counts, EndState, Run, new_run, timestamp
from rpa_core.prefect.orphans import Orphans
from rpa_core.prefect.pulse import Pulse
from rpa_core.prefect.verdicts import REFUSED_PAUSE_S, result_of
from rpa_core.resilience.breaker import CircuitBreaker
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.courier import Courier
from rpa_core.resilience.spool.directory import Spools
from rpa_core.resilience.spool.model import New, SpoolFull

_log = logging.getLogger("rpa.prefect")
_FLUSH_S = 2.0  # how often log lines become an entry


def open_reporting(
    config: ContainerConfig,
    *,
    spools: Spools,
    metrics: Metrics,
    redactor: Redactor,
    owner: str,
    counts: Callable[[], Counts],
    breaker: CircuitBreaker,
    on_refusal: Callable[[str | None], object] = lambda _: None,
    clock: Clock | None = None,
    pulse_s: float = 10.0,
    refused_pause_s: float = REFUSED_PAUSE_S,
    retry: RetryPolicy | None = None,
) -> Reporting | None:
    """None when no server is configured. Talks to nobody yet. Raises ConfigError where httpx is not installed.

    `owner` is the incarnation (label:hex), `counts` gives what was done so far and is asked from another thread.
    `on_refusal` is told the reason when Prefect refuses key or password, and None when it accepts them again.
    """
    settings = config.prefect
    if settings.api_url is None:
        return None
    if importlib.util.find_spec("httpx") is None:
        text = "CONTAINER_PREFECT_API_URL  is set, but httpx is not installed; install rpa-core[prefect] or unset it"
        raise ConfigError((text,))
    client = PrefectClient(
        settings.api_url,
        api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        auth_string=settings.auth_string.get_secret_value() if settings.auth_string else None,
        timeout_s=settings.timeout_s,
        on_reply=lambda answer: metrics.prefect_requests.labels(result=result_of(answer)).inc(),
    )
    clock = clock or SystemClock()
    run = new_run(flow=config.flow_name, owner=owner, host=socket.gethostname(), now=clock.utcnow())
    return Reporting(
        run,
        client,
        Delivery(client, refused_pause_s=refused_pause_s, on_refusal=on_refusal),
        spools=spools,
        handler=RunLog(logging.getLevelName(settings.log_level.upper()), redactor),
        redactor=redactor,
        counts=counts,
        breaker=breaker,
        clock=clock,
        progress_s=settings.progress_s,
        pulse_s=pulse_s,
        retry=retry or RetryPolicy(max_attempts=0, base_s=0.5, cap_s=5.0),
    )


class Reporting:
    """One life, told to Prefect. Every method returns soon and raises nothing; `handler` belongs on the root logger.

    `cancel_requested` is set when a person ends the run in Prefect: drain, then `end("cancelled", ...)`.
    """

    def __init__(
        self,
        run: Run,
        client: PrefectClient,
        delivery: Delivery,
        *,
        spools: Spools,
        handler: RunLog,
        redactor: Redactor,
        counts: Callable[[], Counts],
        breaker: CircuitBreaker,
        clock: Clock,
        progress_s: float,
        pulse_s: float,
        retry: RetryPolicy,
    ) -> None:
        self.run = run
        self.handler = handler
        self.cancel_requested = threading.Event()
        self._client = client
        self._redactor = redactor
        self._spools = spools
        self._counts = counts
        self._clock = clock
        self._progress_s = progress_s
        self._orphans = Orphans(spools, clock)
        self._courier = Courier(
            KIND,
            spools.all,
            delivery.deliver,
            breaker=breaker,
            policy=retry,
            clock=clock,
        )
        self._pulse = Pulse(
            client,
            run,
            server_ids=lambda: delivery.server_ids(run),
            breaker=breaker,
            now=clock.utcnow,
            cancel_requested=self.cancel_requested,
            interval_s=pulse_s,
        )
        self._began_s = clock.monotonic()
        self._logged = 0
        self._reports = count()
        self._reported: tuple[float, Counts] = (self._began_s, Counts())
        self._state: EndState | None = None
        self._begun = False
        self._writing = threading.Lock()  # entries of the run are put in order, whoever puts them
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._gather, name="prefect gather", daemon=True)

    def start(self) -> None:
        """Begin to deliver, and to settle what earlier lives left."""
        with _quiet("end of earlier lives"):
            self._orphans.settle()
        self._courier.start()
        self._pulse.start()
        self._thread.start()

    def begin(self) -> None:
        """The run begins, as of the making of this object; again changes nothing."""
        with self._writing, _quiet("begin"):
            self._begin()

    def end(self, state: EndState, message: str) -> None:
        """The run is over; the first word stands. What was logged before is told before it."""
        with self._writing, _quiet("end"):
            if self._state is not None:
                return
            self._begin()
            self.handler.end()
            self._put_lines()
            self._state = state
            now, counts = self._clock.utcnow(), self._counted()
            message = self._redactor.text(message)
            ended_at = timestamp(now)
            told = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts._asdict().items())
            text = f"{message} ({told})" if message else told
            elapsed_s = self._clock.monotonic() - self._began_s
            if self._put(
                entries.summary(self.run, state, message, ended_at, counts, elapsed_s),
                entries.end(self.run, state, text, {"ended_at": ended_at}),
            ):
                self._remember_begun(None)

    def stop(self, timeout_s: float) -> bool:
        """Deliver what can be within the time and end the threads; whether nothing is left waiting."""
        deadline_s = self._clock.monotonic() + timeout_s
        self._stop.set()
        self.handler.due.set()
        delivered = self._courier.finish(timeout_s)
        for part in (self._pulse, self._courier):
            part.stop(max(0.0, deadline_s - self._clock.monotonic()))
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline_s - self._clock.monotonic()))
        self._client.close()
        return delivered

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._remember_begun(self.run.encoded())  # first: who adopts it must know even if nothing follows
            self._put(entries.begin(self.run))

    def _gather(self) -> None:
        next_progress_s = self._clock.monotonic() + self._progress_s
        while not self._stop.is_set():
            self.handler.due.wait(min(_FLUSH_S, self._progress_s))
            self.handler.due.clear()
            with self._writing, _quiet("progress"):
                if self._begun and self._state is None:
                    self._put_lines()
                    if self._clock.monotonic() >= next_progress_s:
                        next_progress_s = self._clock.monotonic() + self._progress_s
                        self._put_progress()
            with _quiet("end of earlier lives"):
                self._orphans.settle()

    def _put_lines(self) -> None:
        while lines := self.handler.take():
            first, self._logged = self._logged, self._logged + len(lines)
            if not self._put(entries.logs(self.run, first, lines)):
                self.handler.lost(len(lines))
                return

    def _put_progress(self) -> None:
        before_s, before = self._reported
        now_s, counts = self._clock.monotonic(), self._counted()
        if counts == before:
            return  # an idle worker says by its heartbeat that it lives
        per_second = (counts.done - before.done) / max(now_s - before_s, 1e-3)
        self._reported = now_s, counts
        at = timestamp(self._clock.utcnow())
        self._put(entries.progress(self.run, next(self._reports), at, counts, per_second))

    def _counted(self) -> Counts:
        try:
            return self._counts()
        except Exception:  # noqa: BLE001 - a report without numbers is better than none
            _log.exception("counting for Prefect failed", extra={"event.action": "prefect.report_failed"})
            return self._reported[1]

    def _put(self, *new: New) -> bool:
        try:
            self._spools.own.put(*new)
        except SpoolFull as error:
            if any(each.keep for each in new):
                _log.error("Prefect will not be told: %s", error, extra={"event.action": "prefect.not_kept"})
            return False
        return True

    def _remember_begun(self, value: bytes | None) -> None:
        try:
            self._spools.own.remember(KIND, f"begun:{self.run.id}", value)
        except SpoolFull as error:
            _log.error("Prefect will not be told: %s", error, extra={"event.action": "prefect.not_kept"})


@contextmanager
def _quiet(what: str) -> Iterator[None]:
    """The boundary between the work and its reports: one that fails is logged, and the work goes on."""
    try:
        yield
    except Exception:  # noqa: BLE001 - see above
        _log.exception("reporting the %s to Prefect failed", what, extra={"event.action": "prefect.report_failed"})
