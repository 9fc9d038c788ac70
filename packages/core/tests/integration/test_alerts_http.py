"""Alerts over real HTTP: to those who answer, in spite of those who do not, and to those later."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rpa_core.observability.redaction import Redactor
from rpa_core.resilience.alerts.alerts import Alerts
from rpa_core.resilience.alerts.model import Alert, Origin, firing
from rpa_core.resilience.alerts.opened import OpenAlerts
from rpa_core.resilience.alerts.sinks import Alertmanager, Sink, Webhook
from rpa_core.resilience.retry import RetryPolicy
from rpa_core.resilience.spool.directory import open_spools
from rpa_core.resilience.spool.model import Later
from rpa_testkit.waits import until

from .receivers import Hanging, Receiver, nobody

TIMEOUT_S = 2.0
_STUCK = 10
_TOGETHER_S = 4 * TIMEOUT_S  # one after the other they would take ten times as long as together
ENDING = Alert(
    name="WorkerEnding",
    severity="critical",
    reason="STO001",
    summary="ends: postgresql://rpa:canary-7@db/x was refused",
    description="correct the password",
)
Open = Callable[..., Alerts]


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Open]:
    """Alerts of one life after the other over the same folder; each is ended before the next begins."""
    with ExitStack() as stack:
        ended: list[ExitStack] = []

        def begin(*sinks: Sink, incarnation: str = "1", ttl_s: float = 1800.0) -> Alerts:
            for each in ended:
                each.close()
            own = stack.enter_context(ExitStack())
            ended[:] = [own]
            spools = open_spools(
                tmp_path,
                flow="act",
                label="w1",
                incarnation=incarnation,
                max_bytes=2**22,
                max_age_s=3600,
                reserve_bytes=0,
            )
            own.callback(spools.close)
            alerts = Alerts(
                sinks,
                origin=Origin(service="act", instance="w1", environment="test", runbook_url="https://runbooks/"),
                spools=spools,
                opened=OpenAlerts(tmp_path / "alerts"),
                redactor=Redactor(["canary-7"]),
                timeout_s=TIMEOUT_S,
                ttl_s=ttl_s,
                policy=RetryPolicy(max_attempts=0, base_s=0.1, cap_s=0.3),
            )
            alerts.start()
            own.callback(alerts.stop, 1.0)
            return alerts

        yield begin


@pytest.fixture
def live() -> Iterator[Receiver]:
    """One that answers."""
    receiver = Receiver()
    yield receiver
    receiver.close()


def manager(url: str) -> Alertmanager:
    """A sink for an address."""
    return Alertmanager(url, timeout_s=TIMEOUT_S, ttl_s=1800.0)


@pytest.mark.requirement("R8.5")
def test_the_live_one_of_three_has_the_alert_in_time(life: Open, live: Receiver) -> None:
    """One is dead, some hang, some drip, one answers: that one has it at once, and nobody waits for the others."""
    with nobody() as port:
        stuck = [Hanging(drip=drip) for drip in (False, True) for _ in range(_STUCK // 2)]
        alerts = life(*map(manager, (f"http://127.0.0.1:{port}", *(each.url for each in stuck), live.url)))
        began = time.monotonic()
        assert alerts.raise_(ENDING)
        took_s = time.monotonic() - began
        for each in stuck:
            each.close()
    assert took_s < _TOGETHER_S
    (alert,) = live.alerts()
    assert alert["labels"] == {
        "alertname": "WorkerEnding",
        "severity": "critical",
        "reason": "STO001",
        "service": "act",
        "instance": "w1",
        "environment": "test",
    }
    assert alert["annotations"]["runbook_url"] == "https://runbooks/WorkerEnding"
    assert alert["annotations"]["description"] == "correct the password"
    assert alert["endsAt"] > alert["startsAt"]
    assert "canary-7" not in str(live.posted)


@pytest.mark.requirement("R8.5")
def test_all_sinks_hanging_hold_nobody_up(life: Open) -> None:
    """Nobody takes it, and that is said within the time."""
    hanging = [Hanging() for _ in range(_STUCK)]
    alerts = life(*(manager(each.url) for each in hanging))
    began = time.monotonic()
    assert not alerts.raise_(ENDING)
    assert time.monotonic() - began < _TOGETHER_S
    for each in hanging:
        each.close()


@pytest.mark.requirement("R8.5")
@pytest.mark.parametrize("drip", [False, True])
def test_one_attempt_ends_in_its_time(drip: bool) -> None:
    """Also where the answer comes byte by byte, so that no single read ever waits for long."""
    hanging = Hanging(drip=drip)
    began = time.monotonic()
    verdict = Alertmanager(hanging.url, timeout_s=0.5, ttl_s=60).send(
        firing(ENDING, Origin(service="act", instance="w1"), at=1.0, started_at=1.0, hide=str), now=1.0
    )
    assert isinstance(verdict, Later)
    assert time.monotonic() - began < 20, "the other side never ends it"
    hanging.close()


@pytest.mark.requirement("R8.5")
def test_the_next_good_start_resolves_with_equal_labels(life: Open, live: Receiver) -> None:
    """What a life left open the next one ends, after its good start, under the same labels, and once."""
    assert life(manager(live.url)).raise_(ENDING)
    again = life(manager(live.url), incarnation="2")
    assert len(live.alerts()) == 1, "a start alone resolves nothing"
    again.resolve_earlier()
    until(lambda: len(live.alerts()) == 2, 20, "the alert to be resolved")
    fired, resolved = live.alerts()
    assert resolved["labels"] == fired["labels"]
    assert resolved["startsAt"] == fired["startsAt"] < resolved["endsAt"] < fired["endsAt"]
    third = life(manager(live.url), incarnation="3")
    third.resolve_earlier()
    third.stop(2.0)
    assert len(live.alerts()) == 2


@pytest.mark.requirement("R8.5")
def test_what_nobody_took_is_delivered_when_one_returns(life: Open) -> None:
    """All are away: it waits in the spool and comes as soon as one is back; the other one's waits on."""
    with nobody() as port, nobody() as other:
        alerts = life(manager(f"http://127.0.0.1:{port}"), manager(f"http://127.0.0.1:{other}"))
        assert not alerts.raise_(ENDING)
        freed = port
    returned = Receiver(freed)
    until(lambda: returned.alerts(), 20, "the alert to come")
    assert [alert["labels"]["reason"] for alert in returned.alerts()] == ["STO001"]
    alerts.stop(1.0)
    returned.close()


@pytest.mark.requirement("R8.5")
def test_the_next_life_delivers_what_the_last_one_could_not(life: Open) -> None:
    """The process ended while everybody was away: the next one adopts its alert, and it is not yet over."""
    with nobody() as port:
        assert not life(manager(f"http://127.0.0.1:{port}")).raise_(ENDING)
        freed = port
        alerts = life(manager(f"http://127.0.0.1:{port}"), incarnation="2")
    returned = Receiver(freed)
    until(lambda: returned.alerts(), 20, "the alert to come")
    (alert,) = returned.alerts()
    assert alert["labels"]["reason"] == "STO001"
    alerts.resolve_earlier()
    until(lambda: len(returned.alerts()) == 2, 20, "it to be resolved")
    assert returned.alerts()[1]["endsAt"] < alert["endsAt"]
    returned.close()


@pytest.mark.requirement("R8.5")
def test_an_open_alert_is_renewed_and_not_sent_again(life: Open, live: Receiver) -> None:
    """Raised twice, sent once; while it is open, its end moves on, under the same labels and the same begin."""
    alerts = life(Alertmanager(live.url, timeout_s=TIMEOUT_S, ttl_s=0.9), ttl_s=0.9)
    assert alerts.raise_(ENDING)
    assert alerts.raise_(ENDING)
    assert len(live.alerts()) == 1
    until(lambda: len(live.alerts()) >= 4, 20, "the alert to be renewed")
    alerts.resolve("WorkerEnding", "STO001")
    until(lambda: live.alerts()[-1]["endsAt"] < live.alerts()[-2]["endsAt"], 20, "the alert to be resolved")
    *renewed, resolved = live.alerts()
    ends = [alert["endsAt"] for alert in renewed]
    assert ends == sorted(ends)
    assert all(alert["labels"] == resolved["labels"] for alert in renewed)
    assert {alert["startsAt"] for alert in live.alerts()} == {resolved["startsAt"]}


@pytest.mark.requirement("R8.5")
def test_the_webhook_gets_cloud_events(life: Open, live: Receiver) -> None:
    """Structured CloudEvents 1.0 with the bearer token: one when it fires, one when it is over, none in between."""
    alerts = life(Webhook(f"{live.url}/hook?to=team", token="secret-token", timeout_s=TIMEOUT_S), ttl_s=0.3)
    assert alerts.raise_(ENDING)
    alerts.resolve("WorkerEnding", "STO001")
    until(lambda: len(live.posted) == 2, 20, "both events")
    fired, over = live.posted
    assert fired.path == "/hook?to=team"
    assert fired.headers["authorization"] == "Bearer secret-token"
    assert fired.headers["content-type"].startswith("application/cloudevents+json")
    assert [fired.content["type"], over.content["type"]] == ["rpa.alert.firing", "rpa.alert.resolved"]
    assert fired.content["specversion"] == "1.0"
    assert fired.content["id"] != over.content["id"]
    assert fired.content["source"] == over.content["source"] == "/rpa/act/w1"
    assert fired.content["data"]["labels"] == over.content["data"]["labels"]
    assert fired.content["time"] <= over.content["time"] == over.content["data"]["endsAt"]


@pytest.mark.requirement("R8.5")
def test_a_refusal_is_logged_in_its_words_and_keeps_nobody_else(
    life: Open, live: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """400, after which some may be stored: the words are logged, a dead letter is kept, the others have it."""
    strict = Receiver()
    strict.status, strict.words = 400, "invalid label set: canary-7"
    with caplog.at_level(logging.WARNING, "rpa.alerts"):
        alerts = life(manager(strict.url), manager(live.url))
        assert alerts.raise_(ENDING)
        until(lambda: "set aside" in caplog.text, 20, "the refused one to be set aside")
    assert len(live.alerts()) == 1
    assert "answered 400: invalid label set: ********" in caplog.text
    assert "canary-7" not in caplog.text
    alerts.stop(1.0)
    strict.close()


RAISE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from rpa_core.observability.redaction import Redactor
from rpa_core.resilience.alerts.alerts import Alerts
from rpa_core.resilience.alerts.model import Alert, Origin
from rpa_core.resilience.alerts.opened import OpenAlerts
from rpa_core.resilience.alerts.sinks import Alertmanager
from rpa_core.resilience.spool.directory import open_spools

folder, url = Path(sys.argv[1]), sys.argv[2]
spools = open_spools(folder, flow="act", label="w1", incarnation="killed", max_bytes=2**22, max_age_s=3600,
                     reserve_bytes=0)
alerts = Alerts([Alertmanager(url, timeout_s=30, ttl_s=1800)], origin=Origin(service="act", instance="w1"),
                spools=spools, opened=OpenAlerts(folder / "alerts"), redactor=Redactor(), timeout_s=30, ttl_s=1800)
print("raising", flush=True)
alerts.raise_(Alert(name="WorkerEnding", severity="critical", reason="killed", summary="s"))
"""


@pytest.mark.requirement("R8.5")
def test_an_alert_survives_a_kill_while_it_is_being_sent(life: Open, live: Receiver, tmp_path: Path) -> None:
    """SIGKILL while the only Alertmanager hangs: it is in the spool by then, and the next life tells."""
    hanging = Hanging()
    argv = [sys.executable, "-c", RAISE_AND_DIE, str(tmp_path), hanging.url]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        until(lambda: list((tmp_path / "alerts").glob("*.alert")), 20, "the alert to be remembered")
        spool = next(tmp_path.glob("*.killed.spool"))
        until(lambda: _waiting(spool) == 1, 20, "the alert to be in the spool")
        process.kill()
    hanging.close()
    host = hanging.url.rpartition(":")[2]
    returned = Receiver(int(host))
    alerts = life(manager(returned.url), incarnation="2")
    until(lambda: returned.alerts(), 20, "the alert to come")
    assert returned.alerts()[0]["labels"]["reason"] == "killed"
    alerts.resolve_earlier()
    until(lambda: len(returned.alerts()) == 2, 20, "it to be resolved")
    returned.close()


def _waiting(spool: Path) -> int:
    import sqlite3

    with sqlite3.connect(f"file:{spool}?mode=ro", uri=True) as database:
        (count,) = database.execute("SELECT count(*) FROM entry").fetchone()
    database.close()
    return int(count)
