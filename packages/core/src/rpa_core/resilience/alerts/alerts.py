"""Alerts: raised to every sink at once, renewed while they are open, resolved when they are over."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from rpa_core.observability.redaction import Redactor
from rpa_core.resilience.alerts.clerk import Clerk
from rpa_core.resilience.alerts.model import Alert, Notice, Origin, firing
from rpa_core.resilience.alerts.opened import OpenAlerts
from rpa_core.resilience.alerts.sinks import Sink
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.courier import Courier
from rpa_core.resilience.spool.directory import Spools
from rpa_core.resilience.spool.model import DeadEntry, Delivered, Entry, Later, New, Refused, SpoolFull, Verdict
from rpa_core.resilience.spool.spool import Spool
from rpa_core.waits import pause

logger = logging.getLogger("rpa.alerts")
KIND = "alert"
_SETTLE_S = 0.2  # beyond the sinks' timeout: for what happened to be written down
_LONGEST_RENEWAL_S = 60.0  # an Alertmanager that restarts has forgotten everything
_LONGEST_TICK_S = 5.0
_IN_HAND_S = 0.25


@dataclass(slots=True)
class _Open:
    """An alert of this life. `untold`: sinks that neither have it nor find it in the spool."""

    notice: Notice
    ends: float | None
    taken_by: set[str] = field(default_factory=set)
    untold: set[str] = field(default_factory=set)
    told_at: float = 0.0


class Alerts:
    """What one process has to say. Every method may be called from any thread, and none of them raises.

    `on_change(notice, is_open)` is told when an alert opens and when it ends.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        origin: Origin,
        spools: Spools,
        opened: OpenAlerts,
        redactor: Redactor,
        timeout_s: float,
        ttl_s: float,
        policy: RetryPolicy | None = None,
        now: Callable[[], float] = time.time,
        on_change: Callable[[Notice, bool], object] | None = None,
    ) -> None:
        self._sinks = {sink.name: sink for sink in sinks}
        self._origin = origin
        self._spools = spools
        self._opened = opened
        self._redactor = redactor
        self._timeout_s = timeout_s
        self._renew_s = min(ttl_s / 3, _LONGEST_RENEWAL_S)
        self._now = now
        self._on_change = on_change
        self._lock = threading.Lock()
        self._posting = threading.Lock()  # a renewal that is overtaken by the end would open the alert again
        self._open: dict[str, _Open] = {}
        self._ended: dict[str, float] = {}
        self._in_hand: set[str] = set()
        self._stop = threading.Event()
        self._started = False
        self._clerk = Clerk("alert-clerk")
        self._courier = Courier(
            KIND,
            spools.all,
            self._deliver,
            policy=policy or RetryPolicy(max_attempts=0, base_s=0.5, cap_s=15.0),
            on_dead=self._set_aside,
        )
        self._renewing = threading.Thread(target=self._renew, name="alert-renewal", daemon=True)
        self._earlier = self._left_open()

    def start(self) -> None:
        """Begin to deliver what waits and to renew what is open."""
        self._started = True
        self._courier.start()
        self._renewing.start()

    def stop(self, timeout_s: float) -> None:
        """Deliver what can be delivered within the time. What is open stays open: the next good start resolves it."""
        end = time.monotonic() + timeout_s
        self._stop.set()
        self._clerk.stop(max(0.0, end - time.monotonic()))
        if self._started:
            if any(spool.depth(KIND).entries for spool in self._spools.all()):
                self._courier.flush(max(0.0, end - time.monotonic()))
            self._courier.stop(max(0.0, end - time.monotonic()))
            self._renewing.join(max(0.0, end - time.monotonic()))

    def open(self) -> list[Notice]:
        """The alerts of this life that are open."""
        with self._lock:
            return [each.notice for each in self._open.values()]

    def raise_(self, alert: Alert) -> bool:
        """Tell every sink; returns within the timeout and half a second, whatever the sinks do.

        True when at least one has it; what the others did not take waits for them. Raised again while it is open, it
        is not sent again.
        """
        try:
            return self._raise(alert)
        except Exception:
            logger.exception("alert %s could not be raised", alert.name, extra={"event.action": "alert.failed"})
            return False

    def resolve(self, name: str, reason: str) -> None:
        """It is over. Does not wait for the sinks; nothing happens where no such alert is open."""
        with self._lock:
            found = [each.notice for each in self._open.values() if _is(each.notice, name, reason)]
        for notice in found:
            self._end(notice)

    def resolve_earlier(self) -> None:
        """End what earlier lives of this worker left open, except what this life raised as well."""
        with self._lock:
            left = [notice for mark, notice in self._earlier.items() if mark not in self._open]
            self._earlier.clear()
        for notice in left:
            self._end(notice)

    def _left_open(self) -> dict[str, Notice]:
        try:
            found = self._opened.of(self._origin.service, self._origin.instance, now=self._now())
        except OSError as error:
            logger.warning("earlier alerts cannot be read: %s", error, extra={"event.action": "alert.failed"})
            return {}
        return {notice.fingerprint: notice for notice in found}

    def _raise(self, alert: Alert) -> bool:
        until = time.monotonic() + self._timeout_s
        now = self._now()
        notice = firing(alert, self._origin, at=now, started_at=now, hide=self._redactor.text)
        ends = now + alert.lasts_s if alert.lasts_s is not None else None
        with self._lock:
            if known := self._open.get(notice.fingerprint):
                known.ends = ends
                return bool(known.taken_by)
            if before := self._earlier.get(notice.fingerprint):  # the same trouble goes on
                notice = replace(notice, started_at=before.started_at)
            opened = _Open(notice=notice, ends=ends, told_at=time.monotonic())
            self._open[notice.fingerprint] = opened
            self._ended.pop(notice.fingerprint, None)
            self._in_hand |= {_entry_id(name, notice) for name in self._sinks}
        _log(notice, logging.CRITICAL if alert.severity == "critical" or not self._sinks else logging.WARNING)
        self._tell(notice, True)
        if not self._sinks:
            return False
        self._clerk.do(lambda: self._write_down(opened))
        taken = self._ask_all(notice, until)
        with self._lock:
            opened.taken_by |= taken
        settled = self._clerk.do(lambda: self._settle(opened, taken))
        settled.wait(_SETTLE_S)
        return bool(taken)

    def _ask_all(self, notice: Notice, until: float) -> set[str]:
        """Every sink at the same time; who took it within the time."""
        verdicts: queue.SimpleQueue[tuple[str, Verdict]] = queue.SimpleQueue()

        def ask(sink: Sink) -> None:
            verdicts.put((sink.name, self._send(sink, notice)))

        for sink in self._sinks.values():
            threading.Thread(target=ask, args=(sink,), name=f"alert {sink.name}", daemon=True).start()
        taken = set()
        try:
            for _ in self._sinks:
                name, verdict = verdicts.get(timeout=max(0.001, until - time.monotonic() + _SETTLE_S / 2))
                if isinstance(verdict, Delivered):
                    taken.add(name)
        except queue.Empty:
            pass
        return taken

    def _send(self, sink: Sink, notice: Notice) -> Verdict:
        """Try once, and log what is worth knowing."""
        try:
            verdict = sink.send(notice, now=self._now())
        except Exception as error:  # noqa: BLE001 - one sink's fault must not keep the others from being told
            verdict = Later(f"{type(error).__name__}: {error}")
        if isinstance(verdict, Delivered):
            return verdict
        why = self._redactor.text(verdict.why if isinstance(verdict, Later) else verdict.reason)
        logger.warning(
            "%s did not take alert %s: %s",
            sink.name,
            notice.labels.get("alertname"),
            why,
            extra={"event.action": "alert.not_taken"},
        )
        return Later(why, verdict.after_s) if isinstance(verdict, Later) else Refused(why)

    def _write_down(self, opened: _Open) -> None:
        """In the folder and, for every sink, in the spool: what follows may be a SIGKILL."""
        notice = opened.notice
        try:
            self._opened.remember(notice)
        except OSError as error:
            notice = replace(notice, remembered=False)
            logger.error("an open alert is not remembered: %s", error, extra={"event.action": "alert.failed"})
        if not self._put(notice):
            with self._lock:
                opened.untold = set(self._sinks)

    def _settle(self, opened: _Open, taken: set[str]) -> None:
        """Take out of the spool what was taken; the rest is the courier's."""
        with self._lock:
            opened.untold -= taken
        try:
            self._spools.own.acknowledge(*(_entry_id(name, opened.notice) for name in taken))
        except SpoolFull as error:
            logger.warning("an alert may be sent twice: %s", error, extra={"event.action": "alert.failed"})
        with self._lock:
            self._in_hand -= {_entry_id(name, opened.notice) for name in self._sinks}
        self._courier.wake()

    def _put(self, notice: Notice) -> bool:
        body = notice.dumps()
        try:
            self._spools.own.put(*(New(_entry_id(name, notice), KIND, name, body, keep=True) for name in self._sinks))
        except SpoolFull as error:
            logger.critical("an alert is not kept: %s", error, extra={"event.action": "alert.failed"})
            return False
        return True

    def _end(self, notice: Notice) -> None:
        over = notice.ended(self._now())
        with self._lock:
            self._open.pop(notice.fingerprint, None)
            self._ended[notice.fingerprint] = over.at
        _log(over, logging.INFO)
        self._tell(over, False)
        self._clerk.do(lambda: self._write_end(over))

    def _write_end(self, over: Notice) -> None:
        kept = not self._sinks or self._put(over)
        if kept:
            self._opened.forget(over.fingerprint)
            self._courier.wake()
            return
        for sink in self._sinks.values():
            self._send(sink, over)
        self._opened.forget(over.fingerprint)

    def _deliver(self, spool: Spool, entry: Entry) -> Verdict:
        """What the courier brings."""
        sink = self._sinks.get(entry.stream)
        if sink is None:
            return Refused(f"{entry.stream} is configured no longer")
        try:
            notice = Notice.loads(entry.body)
        except ValueError as error:
            return Refused(str(error))
        with self._lock:
            if entry.id in self._in_hand:
                return Later("it is being sent", after_s=_IN_HAND_S)
            opened = self._open.get(notice.fingerprint)
            if opened is not None and opened.notice.id != notice.id:
                opened = None
            if opened is not None and sink.name in opened.taken_by:
                return Delivered()
        with self._posting:
            if sink.keeps_state and self._outdated(spool, notice):
                return Delivered()
            verdict = self._send(sink, notice)
        if isinstance(verdict, Delivered) and opened is not None:
            with self._lock:
                opened.taken_by.add(sink.name)
        return verdict

    def _outdated(self, spool: Spool, notice: Notice) -> bool:
        """Whether something newer is known about the same alert, which this would take back."""
        with self._lock:
            if newer := self._open.get(notice.fingerprint):
                return notice.at < newer.notice.at
            if notice.at < self._ended.get(notice.fingerprint, 0.0):
                return True
        foreign = spool is not self._spools.own
        return (
            foreign
            and notice.state == "firing"
            and notice.remembered
            and spool.durable
            and not self._opened.is_open(notice.fingerprint)
        )

    def _set_aside(self, dead: DeadEntry) -> None:
        """A dead letter of alerts raises no alert: that would be refused as well."""
        logger.critical("an alert was set aside: %s", dead.reason, extra={"event.action": "alert.set_aside"})

    def _renew(self) -> None:
        while not pause(self._stop, min(self._renew_s, _LONGEST_TICK_S)):
            try:
                self._renew_once()
            except Exception:
                logger.exception("alerts were not renewed", extra={"event.action": "alert.failed"})

    def _renew_once(self) -> None:
        now, tick = self._now(), time.monotonic()
        with self._lock:
            over = [each.notice for each in self._open.values() if each.ends is not None and each.ends <= now]
            due = [each for each in self._open.values() if tick - each.told_at >= self._renew_s]
        for notice in over:
            self._end(notice)
        for each in due:
            each.told_at = tick
            for sink in self._sinks.values():
                with self._posting:
                    self._renew_at(sink, each)

    def _renew_at(self, sink: Sink, each: _Open) -> None:
        with self._lock:
            is_open = self._open.get(each.notice.fingerprint) is each
            wanted = is_open and (sink.keeps_state or sink.name in each.untold)
        if wanted and isinstance(self._send(sink, each.notice), Delivered):
            with self._lock:
                each.untold.discard(sink.name)
                each.taken_by.add(sink.name)

    def _tell(self, notice: Notice, is_open: bool) -> None:
        if self._on_change is not None:
            self._on_change(notice, is_open)


def _is(notice: Notice, name: str, reason: str) -> bool:
    return notice.labels.get("alertname") == name and notice.labels.get("reason", "") == reason


def _entry_id(sink: str, notice: Notice) -> str:
    return f"{sink}:{notice.id}"


def _log(notice: Notice, level: int) -> None:
    labels = notice.labels
    what = "alert" if notice.state == "firing" else "resolved"
    logger.log(
        level,
        "%s %s: %s",
        what,
        labels.get("alertname"),
        notice.annotations.get("summary", ""),
        extra={
            "event.action": "alert.raised" if notice.state == "firing" else "alert.resolved",
            "rpa.alert.reason": labels.get("reason", ""),
            "rpa.alert.fingerprint": notice.fingerprint,
        },
    )
