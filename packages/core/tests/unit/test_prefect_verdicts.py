"""What an answer of Prefect means: every status and every verdict has its row."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rpa_core.prefect.client import Reply, Unanswered, _reply, _seconds
from rpa_core.prefect.verdicts import next_state, of_answer, of_set_state, result_of
from rpa_core.resilience.spool.model import Delivered, Later, Refused


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize(
    ("answer", "meaning", "after_s", "result"),
    [
        (Unanswered(why="cannot connect", sent=False), Later, None, "unreachable"),
        (Reply(status=200), type(None), None, "ok"),
        (Reply(status=204), type(None), None, "ok"),
        (Reply(status=307), Later, 30.0, "later"),
        (Reply(status=401), Later, 30.0, "unauthorized"),
        (Reply(status=403), Later, 30.0, "unauthorized"),
        (Reply(status=408), Later, None, "later"),
        (Reply(status=429, retry_after_s=7.0), Later, 7.0, "later"),
        (Reply(status=500), Later, None, "later"),
        (Reply(status=503, retry_after_s=2.0), Later, 2.0, "later"),
        (Reply(status=400), Refused, None, "refused"),
        (Reply(status=409), Refused, None, "refused"),
        (Reply(status=413), Refused, None, "refused"),
        (Reply(status=422), Refused, None, "refused"),
    ],
)
def test_every_answer_has_its_meaning(
    answer: Reply | Unanswered, meaning: type, after_s: float | None, result: str
) -> None:
    """Away is later, not let in is much later, wrong is refused."""
    verdict = of_answer(answer)
    assert isinstance(verdict, meaning)
    assert getattr(verdict, "after_s", None) == after_s
    assert result_of(answer) == result


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ({"status": "ACCEPT", "details": {}, "state": {"type": "COMPLETED"}}, Delivered()),
        ({"status": "REJECT", "details": {"reason": "r"}, "state": {"type": "COMPLETED"}}, Delivered()),
        (
            {"status": "REJECT", "details": {"reason": "r"}, "state": {"type": "RUNNING"}},
            Refused("Prefect says REJECT: r"),
        ),
        ({"status": "ABORT", "details": {"reason": "r"}, "state": None}, Refused("Prefect says ABORT: r")),
        ({"status": "WAIT", "details": {"reason": "r", "delay_seconds": 5}}, Later("Prefect asks to wait: r", 5.0)),
        ({}, Later("what answers is not Prefect's API")),
        (None, Later("what answers is not Prefect's API")),
    ],
)
def test_the_verdict_stands_in_the_body(body: object, verdict: object) -> None:
    """HTTP 200 says nothing: ACCEPT, REJECT, ABORT and WAIT do."""
    assert of_set_state(body) == verdict


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize(
    ("current", "wanted", "by_another", "step"),
    [
        ("RUNNING", "COMPLETED", False, ("COMPLETED", False)),
        ("PENDING", "CRASHED", True, ("CRASHED", False)),
        ("COMPLETED", "COMPLETED", False, None),
        ("FAILED", "COMPLETED", False, None),
        ("COMPLETED", "CRASHED", True, None),
        ("CRASHED", "COMPLETED", False, ("COMPLETED", False)),
        ("CRASHED", "CRASHED", False, None),
        ("CRASHED", "CRASHED", True, None),
        ("CANCELLING", "CANCELLED", False, ("CANCELLED", False)),
        ("CANCELLING", "COMPLETED", False, ("CANCELLED", False)),
        ("CANCELLING", "FAILED", False, ("FAILED", True)),
        ("CANCELLING", "CRASHED", True, ("CRASHED", True)),
        ("CANCELLED", "COMPLETED", False, None),
    ],
)
def test_what_may_follow_a_state(current: str, wanted: str, by_another: bool, step: object) -> None:
    """An ended run stays ended, unless it was believed dead and says itself that it was not."""
    assert next_state(current, wanted, by_another=by_another) == step


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("-3", 0.0),
        ("1e9", 300.0),
        ("nan", None),
        ("soon", None),
        ("Sat, 21 Nov 2026 10:00:09 GMT", 9.0),
    ],
)
def test_retry_after_in_both_forms(header: str | None, seconds: float | None) -> None:
    """Seconds or a date; nothing longer than five minutes is believed."""
    assert _seconds(header, datetime(2026, 11, 21, 10, tzinfo=UTC)) == seconds


@pytest.mark.requirement("R2.3")
def test_the_servers_words_without_the_request() -> None:
    """A 422 repeats the request, which may hold anything; only what is wrong with it is kept."""
    body = (
        b'{"exception_message":"Invalid request received.",'
        b'"exception_detail":[{"loc":["body","key"],"msg":"too long"}],"request_body":{"password":"s3cret"}}'
    )
    assert _reply(422, body, None).words == "Invalid request received.; body.key: too long"
    assert _reply(502, b"<html>bad gateway</html>", None).words == "<html>bad gateway</html>"
    assert _reply(200, b"", None).body is None
