"""Carries a schedule out: events in order, each in its own thread, none of a node before the node's last is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rpa_testkit.drivers.protocol import Driver, NotPossible, System
from rpa_testkit.faults.catalogue import KINDS
from rpa_testkit.faults.lease import FaultKind, Injection, Seen
from rpa_testkit.history.entries import Kind, Phase
from rpa_testkit.history.writer import HistoryWriter
from rpa_testkit.scenario.model import POSTGRES
from rpa_testkit.scenario.plan import Event
from rpa_testkit.scenario.schedule import Schedule, concerns
from rpa_testkit.waits import WaitTimeoutError, until
from rpa_testkit.warden.client import Warden

_MARGIN_S = 15.0


class Injector:
    """Runs from `start` until the last event is healed. `enqueued` tells how many records there are by now."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        driver: Driver,
        system: System,
        warden: Warden,
        history: HistoryWriter,
        run_id: str,
        enqueued: Callable[[], int],
        on_event: Callable[[Event, Phase], object] = lambda event, phase: None,
    ) -> None:
        self._schedule = schedule
        self._driver = driver
        self._system = system
        self._warden = warden
        self._history = history
        self._run_id = run_id
        self._enqueued = enqueued
        self._on_event = on_event
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        self._to_come = {event.id: event for event in schedule.events}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._began = 0.0
        self._planned_end_s = max((event.at_s + event.hold_s for event in schedule.events), default=0.0)
        self._planned_s = 0.0
        self._dispatcher = threading.Thread(target=self._dispatch, name="injector", daemon=True)

    def start(self) -> None:
        """The workload begins now."""
        self._began = time.monotonic()
        self._dispatcher.start()

    def remaining_s(self) -> float:
        """How long the faults will go on, by the plan; 0 when the last one is healed."""
        if not self._alive():
            return 0.0
        return max(self._planned_end_s - self._planned_s, 1.0)

    def to_come(self) -> int:
        """How many faults have yet to strike; 0 where one of them waits for records itself."""
        if not self._alive():
            return 0
        with self._changed:
            return 0 if any(event.after_records for event in self._to_come.values()) else len(self._to_come)

    def concerned(self) -> frozenset[str]:
        """The nodes that a fault has hold of right now."""
        with self._changed:
            return frozenset(self._busy)

    def finish(self, timeout_s: float) -> bool:
        """Wait for the last event; False if time ran out, and then everything is healed before this returns."""
        deadline = time.monotonic() + timeout_s
        self._dispatcher.join(max(0.0, timeout_s))
        for thread in tuple(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        over = not self._alive()
        self.stop()
        return over

    def stop(self) -> None:
        """No more events; those under way are healed now."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._dispatcher.ident is not None:
            self._dispatcher.join()
        for thread in tuple(self._threads):
            thread.join()

    def _alive(self) -> bool:
        unstarted = self._dispatcher.ident is None
        return unstarted or self._dispatcher.is_alive() or any(thread.is_alive() for thread in tuple(self._threads))

    def _dispatch(self) -> None:
        for event in self._schedule.events:
            self._planned_s = max(self._planned_s, event.at_s)
            if not self._due(event) or not self._take(concerns(event)):
                return
            thread = threading.Thread(target=self._carry_out, args=(event,), name=f"fault-{event.id}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _due(self, event: Event) -> bool:
        if event.after_records:
            while self._enqueued() < event.after_records:
                if self._stop.wait(0.02):
                    return False
            return True
        return not self._stop.wait(max(0.0, self._began + event.at_s - time.monotonic()))

    def _take(self, node: str) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stop.is_set() or self._free(node))
            if self._stop.is_set():
                return False
            self._busy.add(node)
            return True

    def _free(self, node: str) -> bool:
        return not self._busy if node == POSTGRES else node not in self._busy and POSTGRES not in self._busy

    def _carry_out(self, event: Event) -> None:
        try:
            kind = KINDS.get(event.kind)
            why = (
                f"no kind of fault is called {event.kind}"
                if kind is None
                else self._driver.cannot(event.kind, event.target)
            )
            if kind is None or why:
                self._tell(event, Phase.NOT_RUN, {"why": why})
                return
            self._lease(event, kind, kind.make(self._system, event, {**kind.params, **event.params}))
        except NotPossible as error:
            self._tell(event, Phase.NOT_RUN, {"why": str(error)})
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the run must say so and go on to its end
            self._tell(event, Phase.INJECT, {})
            self._tell(event, Phase.UNVERIFIED, {"why": f"not prepared: {type(error).__name__}: {error}"})
        finally:
            with self._changed:
                self._busy.discard(concerns(event))
                self._changed.notify_all()

    def _lease(self, event: Event, kind: FaultKind, injection: Injection) -> None:
        expires_s = event.hold_s + kind.verify_s + kind.heal_s + _MARGIN_S
        lease = self._warden.lease(injection.undo(), expires_s, run_id=self._run_id)
        self._tell(event, Phase.INJECT, {"params": dict(event.params), "hold_s": event.hold_s})
        try:
            if self._took_effect(event, kind, injection):
                self._stop.wait(event.hold_s)
        finally:
            self._heal(event, kind, injection)
            self._warden.release(lease)

    def _took_effect(self, event: Event, kind: FaultKind, injection: Injection) -> bool:
        try:
            self._tell(event, Phase.INJECTED, injection.inject())
        except Exception as error:  # noqa: BLE001 - it may have been done in part: it is healed all the same
            self._tell(event, Phase.UNVERIFIED, {"why": f"not injected: {type(error).__name__}: {error}"})
            return False
        seen, why = _awaited(injection.verify, kind.verify_s)
        self._tell(event, Phase.UNVERIFIED if seen is None else Phase.VERIFIED, {"why": why} if seen is None else seen)
        return seen is not None

    def _heal(self, event: Event, kind: FaultKind, injection: Injection) -> None:
        self._tell(event, Phase.HEAL, {})
        try:
            done = injection.heal()
        except Exception as error:  # noqa: BLE001 - it is written down, and the warden takes the fault back at the end
            self._tell(event, Phase.UNHEALED, {"why": f"{type(error).__name__}: {error}"})
            return
        seen, why = _awaited(injection.verify_healed, kind.heal_s)
        if seen is None:
            self._tell(event, Phase.UNHEALED, {**done, "why": why})
        else:
            self._tell(event, Phase.HEALED, {**done, **seen})

    def _tell(self, event: Event, phase: Phase, seen: Mapping[str, Any]) -> None:
        value = {"kind": event.kind, "target": event.target, **seen}
        self._history.add("injector", Kind.FAULT, phase, event.id, value)
        if phase is not Phase.INJECT:
            with self._changed:
                self._to_come.pop(event.id, None)
        self._on_event(event, phase)


def _awaited(look: Callable[[], Seen | None], timeout_s: float) -> tuple[Seen | None, str]:
    """What was seen, or None and why: a look that fails is one that has not seen it yet."""
    last = ""

    def once() -> tuple[Seen] | None:
        nonlocal last
        try:
            seen = look()
        except Exception as error:  # noqa: BLE001 - what a look raises is part of what was seen
            last = f"; the last look failed: {type(error).__name__}: {error}"
            return None
        return None if seen is None else (seen,)

    try:
        (seen,) = until(once, timeout_s, "the effect", every_s=0.05) or (None,)
    except WaitTimeoutError:
        return None, f"not seen within {timeout_s:g} s{last}"
    return seen, ""
