"""What becomes of an alert between being raised and being over, with sinks that do as they are told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from rpa_core.errors import StoreRefused
from rpa_core.observability.redaction import Redactor
from rpa_core.resilience.alerts import catalogue
from rpa_core.resilience.alerts.alerts import Alerts
from rpa_core.resilience.alerts.model import Alert, Notice, Origin, fingerprint, firing
from rpa_core.resilience.alerts.opened import OpenAlerts
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.resilience.spool.model import Delivered, Later, New, SpoolFull, Verdict

LOW = Alert(name="DiskLow", severity="critical", reason="/data", summary="full", labels=(("disk", "a"), ("none", "")))
ORIGIN = Origin(service="rpa1", instance="w1", environment="test")


class Ear:
    """A sink that remembers; it is away while `verdict` says so, and hangs while `hang` is not set.

    `slow`: it hangs over messages of that state alone. `entered` counts what it began to hear.
    """

    def __init__(self, name: str = "ear", *, keeps_state: bool = True, slow: str = "") -> None:
        self.slow = slow
        self.entered = 0
        self.name = name
        self.keeps_state = keeps_state
        self.verdict: Verdict = Delivered()
        self.hang = threading.Event()
        self.hang.set()
        self.heard: list[Notice] = []

    def send(self, notice: Notice, *, now: float) -> Verdict:
        self.entered += 1
        if self.slow in ("", notice.state):
            self.hang.wait(20)
        if isinstance(self.verdict, Delivered):
            self.heard.append(notice)
        return self.verdict

    def has(self, states: list[str]) -> bool:
        return self.states == states

    @property
    def states(self) -> list[str]:
        return [notice.state for notice in self.heard]


def wait(condition: Callable[[], object]) -> None:
    """Wait until it holds, ten seconds at the most."""
    never = threading.Event()
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        never.wait(0.01)


def spools(folder: Path | None, incarnation: str = "1") -> Spools:
    return open_spools(
        folder, flow="rpa1", label="w1", incarnation=incarnation, max_bytes=2**22, max_age_s=60, reserve_bytes=0
    )


class Lives:
    """Alerts, ended after the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ending: list[tuple[Alerts, Spools]] = []

    def begin(self, *ears: Ear, own: Spools | None = None, ttl_s: float = 1800.0, timeout_s: float = 0.3) -> Alerts:
        used = own or spools(self.folder, str(len(self.ending)))
        alerts = Alerts(
            ears,
            origin=ORIGIN,
            spools=used,
            opened=OpenAlerts(self.folder / "alerts" if used.own.durable else None),
            redactor=Redactor(["canary-5"]),
            timeout_s=timeout_s,
            ttl_s=ttl_s,
            policy=RetryPolicy(max_attempts=0, base_s=0.02, cap_s=0.05),
        )
        alerts.start()
        self.ending.append((alerts, used))
        return alerts

    def end(self) -> None:
        for alerts, used in self.ending:
            alerts.stop(1.0)
            used.close()
        self.ending.clear()


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    """The lives of one worker."""
    made = Lives(tmp_path)
    yield made
    made.end()


@pytest.mark.requirement("R8.5")
def test_raised_once_and_resolved_with_equal_labels(lives: Lives) -> None:
    """To every sink; empty labels are left out, for Alertmanager would drop them and know another alert."""
    ears = [Ear("a"), Ear("b", keeps_state=False)]
    alerts = lives.begin(*ears)
    assert alerts.raise_(LOW)
    assert alerts.raise_(LOW)
    assert [notice.labels["alertname"] for notice in alerts.open()] == ["DiskLow"]
    alerts.resolve("DiskLow", "/elsewhere")
    alerts.resolve("DiskLow", "/data")
    alerts.resolve("DiskLow", "/data")
    for ear in ears:
        wait(partial(ear.has, ["firing", "resolved"]))
        fired, over = ear.heard
        assert fired.labels == over.labels
        assert "none" not in fired.labels
        assert fired.fingerprint == over.fingerprint
        assert over.at > fired.started_at == over.started_at
    assert alerts.open() == []
    assert alerts.raise_(LOW)
    wait(lambda: ears[0].states == ["firing", "resolved", "firing"])


@pytest.mark.requirement("R8.5")
def test_without_sinks_it_is_logged_as_critical(lives: Lives, caplog: pytest.LogCaptureFixture) -> None:
    """And nobody took it; neither does anything wait."""
    own = spools(None)
    alerts = lives.begin(own=own)
    warning = Alert(name="DatabaseAway", severity="warning", reason="rpa_db", summary="away")
    assert not alerts.raise_(warning)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.CRITICAL, "alert DatabaseAway: away")
    ]
    alerts.resolve("DatabaseAway", "rpa_db")
    assert own.own.depth("alert").entries == 0


@pytest.mark.requirement("R8.5")
def test_a_sink_that_comes_back_gets_what_it_missed_in_order(lives: Lives) -> None:
    """An event sink all of it; one that keeps state only what still holds, so that nothing opens again."""
    events, state = Ear("events", keeps_state=False), Ear("state")
    events.verdict = state.verdict = Later("away")
    alerts = lives.begin(events, state)
    assert not alerts.raise_(LOW)
    alerts.resolve("DiskLow", "/data")
    assert not alerts.raise_(LOW)
    events.verdict = state.verdict = Delivered()
    wait(lambda: events.states == ["firing", "resolved", "firing"])
    wait(lambda: state.heard)
    alerts.stop(2.0)
    assert [(notice.state, notice.at) for notice in state.heard] == [("firing", alerts.open()[0].at)]


@pytest.mark.requirement("R8.5")
def test_an_end_is_never_overtaken_by_a_renewal(lives: Lives) -> None:
    """A renewal that is under way when the alert ends arrives before the end does, and none comes after it."""
    ear = Ear(slow="firing")
    alerts = lives.begin(ear, ttl_s=0.06)
    alerts.raise_(LOW)
    ear.hang.clear()
    wait(lambda: ear.entered > len(ear.heard))
    alerts.resolve("DiskLow", "/data")
    threading.Event().wait(0.2)
    assert "resolved" not in ear.states
    ear.hang.set()
    wait(lambda: "resolved" in ear.states)
    threading.Event().wait(0.2)
    assert ear.states[-1] == "resolved"


@pytest.mark.requirement("R8.5")
def test_an_alert_with_a_lifetime_ends_by_itself(lives: Lives) -> None:
    """CrashLoop is over when no crash follows for as long as crashes count; raised again, it lasts again."""
    ear = Ear()
    alerts = lives.begin(ear, ttl_s=0.15)
    alerts.raise_(Alert(name="CrashLoop", severity="critical", reason="crashes", summary="s", lasts_s=0.2))
    wait(lambda: ear.states and ear.states[-1] == "resolved")
    assert alerts.open() == []


@pytest.mark.requirement("R8.5")
def test_trouble_that_goes_on_is_one_alert(lives: Lives) -> None:
    """What this life raised as well is not resolved with the earlier life's, and keeps the time when it began."""
    ear = Ear()
    lives.begin(ear).raise_(LOW)
    lives.end()
    again = lives.begin(ear)
    assert again.raise_(LOW)
    again.resolve_earlier()
    again.stop(1.0)
    assert ear.states == ["firing", "firing"]
    assert ear.heard[0].started_at == ear.heard[1].started_at


@pytest.mark.requirement("R8.5")
def test_only_its_own_earlier_alerts_are_resolved(lives: Lives, tmp_path: Path) -> None:
    """Another worker of the flow keeps its alerts in the same folder; so may lie what is no alert at all."""
    folder = tmp_path / "alerts"
    others = firing(LOW, Origin(service="rpa1", instance="w2"), at=1.0, started_at=1.0, hide=str)
    OpenAlerts(folder).remember(others)
    planted = {"notes.alert": b"x", "0" * 32 + ".alert": b"{}", "1" * 32 + ".alert": others.dumps()}
    for name, content in planted.items():
        (folder / name).write_bytes(content)
    ear = Ear()
    alerts = lives.begin(ear)
    alerts.resolve_earlier()
    alerts.stop(1.0)
    assert ear.heard == []
    assert {path.name for path in folder.iterdir()} == {*planted, f"{others.fingerprint}.alert"}


@pytest.mark.requirement("R8.5")
def test_a_neighbour_that_delivers_late_opens_nothing_again(lives: Lives, tmp_path: Path) -> None:
    """A worker died with an alert unsent, came back and resolved it; then its neighbour finds the old message."""
    dead = spools(tmp_path, "dead")
    old = firing(LOW, ORIGIN, at=1.0, started_at=1.0, hide=str)
    unknown = firing(LOW, Origin(service="rpa1", instance="w9"), at=1.0, started_at=1.0, hide=str)
    OpenAlerts(tmp_path / "alerts").remember(unknown)
    for notice in (old, unknown):
        dead.own.put(New(f"ear:{notice.id}", "alert", "ear", notice.dumps()))
    dead.close()
    ear = Ear()
    lives.begin(ear)
    wait(lambda: ear.heard)
    lives.end()
    assert [notice.labels["instance"] for notice in ear.heard] == ["w9"]


@pytest.mark.requirement("R8.5")
def test_a_full_spool_costs_neither_the_alert_nor_its_repetition(
    lives: Lives, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those who are there get it at once; one that is away gets it with a renewal."""
    here, away = Ear("here"), Ear("away", keeps_state=False)
    away.verdict = Later("away")
    own = spools(None)
    alerts = lives.begin(here, away, own=own, ttl_s=0.3)

    def full(*entries: New) -> None:
        raise SpoolFull("no room")

    monkeypatch.setattr(own.own, "put", full)
    assert alerts.raise_(LOW)
    assert "an alert is not kept: no room" in caplog.text
    away.verdict = Delivered()
    wait(lambda: away.states == ["firing"])
    alerts.resolve("DiskLow", "/data")
    wait(lambda: away.states[-1] == here.states[-1] == "resolved")
    assert away.states == ["firing", "resolved"]


@pytest.mark.requirement("R8.5")
def test_a_disk_that_hangs_holds_up_no_last_words(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing down may take for ever: the sinks have it all the same, and the caller comes back in time."""
    ear = Ear()
    own = spools(None)
    alerts = lives.begin(ear, own=own)
    free = threading.Event()
    monkeypatch.setattr(own.own, "put", lambda *entries: free.wait(60))
    began = time.monotonic()
    assert alerts.raise_(LOW)
    assert time.monotonic() - began < 10
    assert ear.states == ["firing"]
    free.set()


@pytest.mark.requirement("R8.5")
def test_sinks_that_hang_or_break_hold_up_nobody(lives: Lives) -> None:
    """One that raises what it should not, one that hangs for ever, and one that answers."""
    broken, hanging, good = Ear("broken"), Ear("hanging"), Ear("good")
    broken.send = None  # type: ignore[assignment, method-assign]  # a call raises TypeError
    hanging.hang.clear()
    alerts = lives.begin(broken, hanging, good)
    began = time.monotonic()
    assert alerts.raise_(LOW)
    assert time.monotonic() - began < 10
    assert good.states == ["firing"]
    hanging.hang.set()
    wait(lambda: hanging.heard)


@pytest.mark.requirement("R8.5")
def test_nothing_is_raised_to_who_raises_an_alert(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in here, the exit code stays what it was."""
    alerts = lives.begin(Ear())
    monkeypatch.setattr(alerts, "_raise", lambda alert: 1 / 0)
    assert alerts.raise_(LOW) is False


@pytest.mark.requirement("R8.5")
def test_notices_keep_no_secret_and_survive_the_spool() -> None:
    """Texts are redacted before anything is written or sent; bytes that are no notice are refused."""
    redactor = Redactor(["canary-5"])
    alert = catalogue.worker_ending("rpa1", StoreRefused("postgresql://u:canary-5@db refused canary-5"))
    notice = firing(alert, ORIGIN, at=5.0, started_at=4.0, hide=redactor.text)
    assert b"canary-5" not in notice.dumps()
    assert Notice.loads(notice.dumps()) == notice
    assert notice.labels["reason"] == "STO001"
    assert notice.fingerprint == fingerprint(dict(reversed(list(notice.labels.items()))))
    for wrong in (b"", b"{}", b"[]", b"7", notice.dumps().replace(b"STO001", b"STO002")):
        with pytest.raises(ValueError):
            Notice.loads(wrong)


@pytest.mark.requirement("R8.5")
def test_the_same_trouble_has_the_same_labels() -> None:
    """What changes from time to time stands in the summary, or an alert could not be recognised."""
    for first, again in (
        (catalogue.disk_low("f", Path("/d"), 10**7, 10**8), catalogue.disk_low("f", Path("/d"), 10**8, 10**9)),
        (catalogue.crash_loop("f", 3, 600, 4), catalogue.crash_loop("f", 7, 600, 60)),
        (catalogue.database_away("f", "db", "refused"), catalogue.database_away("f", "db", "timeout")),
        (catalogue.worker_hung("f", 121), catalogue.worker_hung("f", 140)),
        (catalogue.configuration_refused("f", ("a",)), catalogue.configuration_refused("f", ("b",) * 9)),
    ):
        one, two = (firing(alert, ORIGIN, at=1, started_at=1, hide=str) for alert in (first, again))
        assert one.fingerprint == two.fingerprint
        assert one.annotations["summary"] != two.annotations["summary"]
        assert one.annotations["description"]
