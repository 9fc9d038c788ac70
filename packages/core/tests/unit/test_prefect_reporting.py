"""A life's reports as they are put: in order, whatever happens to the spool, and for those who can say nothing more."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rpa_core.clock import SystemClock
from rpa_core.config.models import ContainerConfig, PrefectConfig
from rpa_core.errors import ConfigError
from rpa_core.observability.metrics import Metrics
from rpa_core.observability.redaction import Redactor
from rpa_core.prefect import entries
from rpa_core.prefect.model import KIND, Counts
from rpa_core.prefect.orphans import Orphans
from rpa_core.resilience.breaker import CircuitBreaker
from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.resilience.spool.model import SpoolFull
from rpa_core.runtime.reporting import Reporting, open_reporting

_FIND_SPEC = "rpa_core.runtime.reporting.importlib.util.find_spec"


def _spools(folder: Path | None, incarnation: str) -> Spools:
    return open_spools(
        folder, flow="f", label="l", incarnation=incarnation, max_bytes=2**24, max_age_s=3600.0, reserve_bytes=0
    )


@pytest.fixture
def with_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here talks to anybody: that it is not installed must not matter."""
    monkeypatch.setattr(_FIND_SPEC, lambda name: object())


@pytest.fixture
def spools() -> Iterator[Spools]:
    made = _spools(None, "1")
    yield made
    made.close()


def _open(spools: Spools, api_url: str | None = "http://127.0.0.1:9/api", owner: str = "l:1") -> Reporting | None:
    return open_reporting(
        ContainerConfig(flow_name="f", prefect=PrefectConfig(api_url=api_url)),
        spools=spools,
        metrics=Metrics(flow="f"),
        redactor=Redactor(["s3cret-value"]),
        owner=owner,
        counts=lambda: Counts(done=5),
        breaker=CircuitBreaker("prefect"),
    )


def _reporting(spools: Spools, owner: str = "l:1") -> Reporting:
    made = _open(spools, owner=owner)
    assert made is not None
    return made


def _put(spools: Spools) -> list[entries.Letter]:
    return [entries.read(each.body) for each in spools.own.entries(KIND)]


@pytest.mark.requirement("R8.3")
def test_nothing_is_reported_without_an_address(spools: Spools) -> None:
    """Prefect is optional."""
    assert _open(spools, api_url=None) is None


@pytest.mark.requirement("R8.3")
def test_an_address_without_httpx_is_a_configuration_error(spools: Spools, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at the start, with what to install; exit 78."""
    monkeypatch.setattr(_FIND_SPEC, lambda name: None)
    with pytest.raises(ConfigError, match=r"rpa-core\[prefect\]"):
        _open(spools)


@pytest.mark.requirement("R8.3")
@pytest.mark.usefixtures("with_httpx")
def test_a_life_is_put_in_order(spools: Spools) -> None:
    """Begin, lines, summary, end; again and after the end nothing is added, secrets are out, the mark is gone."""
    reporting = _reporting(spools)
    reporting.begin()
    reporting.begin()
    assert list(spools.own.notes(KIND)) == [f"begun:{reporting.run.id}"]
    reporting.handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "said before the end", (), None))
    reporting.end("failed", "because of s3cret-value")
    reporting.handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "said after the end", (), None))
    reporting.end("completed", "")
    letters = _put(spools)
    assert [letter.what for letter in letters] == ["begin", "logs", "summary", "end"]
    assert [line[2] for line in letters[1].data["lines"]] == ["said before the end"]
    assert letters[3].data["state"] == "FAILED"
    assert letters[3].data["message"] == "because of ******** (5 done, 0 retried, 0 set aside, 0 lost)"
    assert spools.own.notes(KIND) == {}


@pytest.mark.requirement("R8.3")
@pytest.mark.usefixtures("with_httpx")
def test_a_life_that_could_not_begin_is_told_whole(spools: Spools) -> None:
    """An end without a begin brings its begin along."""
    _reporting(spools).end("failed", "refused")
    assert [letter.what for letter in _put(spools)] == ["begin", "summary", "end"]


@pytest.mark.requirement("R8.3")
@pytest.mark.usefixtures("with_httpx")
def test_a_spool_that_takes_nothing_hurts_nobody(spools: Spools, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk, a broken spool: begin and end return, and the log says that Prefect will not be told."""

    def full(*_: object) -> None:
        raise SpoolFull("no space left on device")

    def broken(*_: object) -> None:
        raise RuntimeError("closed")

    for fails in (full, broken):
        own = SimpleNamespace(put=fails, remember=fails)
        reporting = _reporting(SimpleNamespace(own=own, adopted=list, all=list), owner=f"l:{fails.__name__}")  # type: ignore[arg-type]  # a spool that cannot be used
        reporting.begin()
        reporting.handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "x", (), None))
        reporting.end("completed", "")
    assert {record.levelname for record in caplog.records} == {"ERROR"}
    assert "no space left" in caplog.text
    assert "closed" in caplog.text


@pytest.mark.requirement("R8.2")
@pytest.mark.usefixtures("with_httpx")
def test_a_life_without_an_end_is_ended_by_who_adopts_it(tmp_path: Path) -> None:
    """After what waits of it, once; a life that ended keeps its own word, one damaged mark harms no other."""
    dead = _spools(tmp_path, "dead")
    run = _reporting(dead, "l:dead").run
    _reporting(dead, "l:dead").begin()
    _reporting(dead, "l:ended").begin()
    _reporting(dead, "l:ended").end("completed", "")
    dead.own.remember(KIND, "begun:x", b"{}")
    dead.close()
    alive = _spools(tmp_path, "alive")
    orphans = Orphans(alive, SystemClock())
    assert orphans.settle() == 1
    assert orphans.settle() == 0
    assert Orphans(alive, SystemClock()).settle() == 0
    (adopted,) = alive.adopted()
    letters = [entries.read(each.body) for each in adopted.entries(KIND, run.id)]
    assert [letter.what for letter in letters] == ["begin", "end"]
    assert letters[1].data["state"] == "CRASHED"
    assert letters[1].data["by_another"] is True
    told = [entries.read(each.body) for each in adopted.entries(KIND)]
    ends = [letter.data["state"] for letter in told if letter.what == "end"]
    assert sorted(ends) == ["COMPLETED", "CRASHED"]
    assert adopted.notes(KIND) == {}
    alive.close()


@pytest.mark.requirement("R8.2")
def test_a_spool_without_room_is_settled_later() -> None:
    """What cannot be put now is put with the next look."""
    answers: list[Exception | None] = [SpoolFull("full"), None]

    def notes(kind: str) -> dict[str, bytes]:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return {}

    class Tight:
        def notes(self, kind: str) -> dict[str, bytes]:
            return notes(kind)

    spool = Tight()
    orphans = Orphans(SimpleNamespace(adopted=lambda: [spool]), SystemClock())  # type: ignore[arg-type]  # all it needs
    for _ in range(3):
        assert orphans.settle() == 0
    assert answers == []
