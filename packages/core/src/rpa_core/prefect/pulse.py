"""What is said and asked live: the heartbeat, and whether Prefect wants the run to end. Never spooled."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from datetime import datetime

from rpa_core.prefect.client import PrefectClient, Reply
from rpa_core.prefect.delivery import ServerIds, state_type
from rpa_core.prefect.model import Run, timestamp
from rpa_core.prefect.verdicts import of_answer
from rpa_core.resilience.breaker import CircuitBreaker
from rpa_core.resilience.spool.model import Later
from rpa_core.waits import pause

_log = logging.getLogger("rpa.prefect")
_BEATS = 3  # every so manieth look is also a heartbeat: 30 s, the least that Prefect's own client knows
_CANCEL = frozenset({"CANCELLING", "CANCELLED"})


class Pulse:
    """One thread: looks at the run every `interval_s` seconds, once the server knows it and as the breaker allows."""

    def __init__(
        self,
        client: PrefectClient,
        run: Run,
        *,
        server_ids: Callable[[], ServerIds | None],
        breaker: CircuitBreaker,
        now: Callable[[], datetime],
        cancel_requested: threading.Event,
        interval_s: float = 10.0,
    ) -> None:
        self._client = client
        self._run_told = run
        self._server_ids = server_ids
        self._breaker = breaker
        self._now = now
        self._cancel_requested = cancel_requested
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._looks = 0
        self._thread = threading.Thread(target=self._run, name="prefect pulse", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread; a request that is under way has so long to come back."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def look(self) -> None:
        """Once: ask for the state, and every third time say that the run is alive."""
        ids = self._server_ids()
        if ids is None or not self._breaker.allow():
            return
        answer = self._client.get(f"/flow_runs/{ids.run}")
        if isinstance(of_answer(answer), Later):
            self._breaker.failed()
            return
        self._breaker.succeeded()
        if isinstance(answer, Reply) and answer.ok and state_type(answer) in _CANCEL:
            if not self._cancel_requested.is_set():
                text = "Prefect asks for the end of the run"
                _log.warning(text, extra={"event.action": "prefect.cancel_requested"})
            self._cancel_requested.set()
        if self._looks % _BEATS == 0:
            self._client.post("/events", [self._heartbeat(ids)])
        self._looks += 1

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:  # noqa: BLE001 - whatever it was, the next look may go better
                _log.exception("looking at the run in Prefect failed", extra={"event.action": "prefect.look_failed"})
            pause(self._stop, self._interval_s)

    def _heartbeat(self, ids: ServerIds) -> dict[str, object]:
        run = self._run_told
        return {
            "id": str(uuid.uuid4()),
            "occurred": timestamp(self._now()),
            "event": "prefect.flow-run.heartbeat",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{ids.run}", "prefect.resource.name": run.name},
            "related": [
                {
                    "prefect.resource.id": f"prefect.flow.{ids.flow}",
                    "prefect.resource.role": "flow",
                    "prefect.resource.name": run.flow,
                }
            ],
            "payload": {},
        }
