"""Faults of an HTTP dependency, without one: what counts as seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from rpa_testkit.drivers.protocol import System
from rpa_testkit.faults.http import KINDS, Heard
from rpa_testkit.scenario.plan import Event

_PROXY = SimpleNamespace(
    host="127.0.0.1",
    port=4000,
    edges=lambda: {"worker-1->prefect": None},
    set_http=lambda edge, rule: None,
    http_stats=lambda edge: SimpleNamespace(requests=0, dropped=0),
)
_SYSTEM = cast("System", SimpleNamespace(proxy=_PROXY))


def _make(monkeypatch: pytest.MonkeyPatch, name: str, answers: list[Heard], **params: float) -> Any:
    kind = next(kind for kind in KINDS if kind.name == name)
    made = kind.make(_SYSTEM, Event(kind=name, target="prefect", hold_s=1.0), {**kind.params, **params})
    monkeypatch.setattr(made, "ask", lambda: answers.pop(0))
    return made


def _heard(*took_s: float, status: int = 404) -> list[Heard]:
    return [Heard(status=status, took_s=each) for each in took_s]


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize("before", [(2.0, 0.02, 0.03), (0.02, 2.0, 2.0), (0.02, 0.02, 0.02)])
def test_slowness_is_seen_though_an_answer_before_it_was_slow(
    monkeypatch: pytest.MonkeyPatch, before: tuple[float, ...]
) -> None:
    """What was held up by 6 s is compared with the quickest answer before; what took 4 s was not held up so long."""
    slow = _make(monkeypatch, "http-slow", _heard(*before, 6.02, 4.0), delay_s=6.0)
    slow.inject()
    assert slow.verify() == {"rise_s": 6.0}
    assert slow.verify() is None


@pytest.mark.requirement("R3.3")
def test_what_does_not_answer_before_is_not_struck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could say what the fault has done; one answer is enough to begin."""
    silent = _make(monkeypatch, "http-errors", _heard(0.1, 0.1, 0.1, status=0))
    with pytest.raises(RuntimeError, match="did not answer before"):
        silent.inject()
    once = _make(monkeypatch, "http-errors", [*_heard(0.1, 0.1, status=0), *_heard(0.1), *_heard(0.1, status=503)])
    assert once.inject() == {"edges": 1, "before": 404}
    assert once.verify() == {"status": 503}
