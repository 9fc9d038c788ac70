"""rpa3 against a real HTTP server: every answer becomes the right outcome, and nothing secret gets out."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from pydantic import SecretStr

from rpa_core.errors import TransientError
from rpa_core.processing.flow import FlowContext, OpenContext, Record
from rpa_core.processing.outcome import Done, Outcome, Retry, SetAside
from rpa_flows.rpa3 import FLOW
from rpa_flows.rpa3.flow import deliver, open_delivery
from rpa_flows.rpa3.settings import Rpa3Settings

_BODY = b'{"survey": "anes96", "key": "r1", "segment": "Loyal Republicans"}'
_TOKEN = "s3cret-t0ken"

Deliver = Callable[..., list[Outcome]]


@pytest.fixture
def send(receiver: Any) -> Iterator[Deliver]:
    """Delivers records as the runtime does: one loop for all calls, closed after the flow."""
    with ExitStack() as stack:
        loop = stack.enter_context(asyncio.Runner())
        opened: dict[str, FlowContext] = {}

        def context(changed: dict[str, Any]) -> FlowContext:
            values = {"delivery_url": receiver.url, "delivery_token": SecretStr(_TOKEN), "delivery_timeout_s": 10.0}
            settings = Rpa3Settings(**(values | changed))
            opening = OpenContext(flow="rpa3", settings=settings, databases={})
            return FlowContext(flow="rpa3", resources=stack.enter_context(open_delivery(opening)), settings=settings)

        async def all_of(records: list[Record], ctx: FlowContext) -> list[Outcome]:
            return list(await asyncio.gather(*(deliver(record, ctx) for record in records)))

        def send_records(*ids: int, **changed: Any) -> list[Outcome]:
            if repr(changed) not in opened:
                opened[repr(changed)] = context(changed)
            ctx = opened[repr(changed)]
            return loop.run(all_of([Record(number, None, _BODY) for number in ids], ctx))

        yield send_records


@pytest.mark.requirement("R9.4")
def test_a_response_is_posted_as_stored_with_key_and_token(receiver: Any, send: Deliver) -> None:
    """One POST: the stored bytes, JSON, the record's idempotency key, the bearer token."""
    assert send(41) == [Done({"status": 200})]
    ((headers, body),) = receiver.requests
    assert body == _BODY
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == "rpa3:41"
    assert headers["Authorization"] == f"Bearer {_TOKEN}"
    assert FLOW.is_async


@pytest.mark.requirement("R7.2", "R7.3")
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
def test_a_proxy_of_the_environment_is_not_used(
    receiver: Any, send: Deliver, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It would get the token and every answer; and deliveries to this machine would go through it."""
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert send(1) == [Done({"status": 200})]
    assert len(receiver.requests) == 1


@pytest.mark.requirement("R7.3")
def test_the_proxy_of_the_settings_is_used(receiver: Any, send: Deliver) -> None:
    """The request arrives there with its whole address; the receiver stands in for the proxy."""
    proxy = receiver.url.rpartition("/")[0]
    (outcome,) = send(
        1,
        delivery_url=SecretStr("http://receiver.example/x"),
        delivery_allow_http=True,
        delivery_proxy_url=SecretStr(proxy),
    )
    assert outcome == Done({"status": 200})
    assert receiver.paths == ["http://receiver.example/x"]


@pytest.mark.requirement("R7.2")
def test_an_address_that_is_echoed_does_not_get_into_a_reason(receiver: Any, send: Deliver, answers: Any) -> None:
    """Its path and its query may be the credential."""
    receiver.answer = answers["reply"](
        404, b"no POST /hook/lowercasepath?sig=canary HTTP/1.1 here: lowercasepath canary"
    )
    url = receiver.url.replace("/responses", "/hook/lowercasepath?sig=canary")
    (outcome,) = send(1, delivery_url=SecretStr(url))
    assert "answered 404: no POST ********" in repr(outcome)
    assert "lowercase" not in repr(outcome)
    assert "canary" not in repr(outcome)


@pytest.mark.requirement("R8.7", "R8.3")
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_2xx_is_done(receiver: Any, send: Deliver, answers: Any, status: int) -> None:
    """Accepted in whatever form."""
    receiver.answer = answers["reply"](status)
    assert send(1) == [Done({"status": status})]


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize("status", [301, 302, 307, 408, 409, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_retried(receiver: Any, send: Deliver, answers: Any, status: int) -> None:
    """The receiver's trouble, a request still under way, and a moved address are not the record's fault."""
    receiver.answer = answers["reply"](status, b"later", Location="http://127.0.0.1:1/")
    (outcome,) = send(1)
    assert isinstance(outcome, Retry)
    assert str(status) in outcome.reason
    assert outcome.after_s is None


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_what_can_never_pass_is_set_aside(receiver: Any, send: Deliver, answers: Any, status: int) -> None:
    """With the status and the start of what the receiver said."""
    receiver.answer = answers["reply"](status, b"no such survey" + b"!" * 10_000_000)
    (outcome,) = send(1)
    assert isinstance(outcome, SetAside)
    assert f"{status}: no such survey!!!" in outcome.reasons[0]
    assert len(outcome.reasons[0]) < 500
    assert ("CONTAINER_DELIVERY_TOKEN" in outcome.reasons[0]) == (status in (401, 403))


@pytest.mark.requirement("R8.3")
def test_retry_after_is_honoured_in_both_forms(receiver: Any, send: Deliver, answers: Any) -> None:
    """Seconds as they are; a date as the time until then."""
    receiver.answer = answers["reply"](503, Retry_After="17")
    (outcome,) = send(1)
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 17.0
    when = datetime.now(UTC) + timedelta(seconds=100)
    receiver.answer = answers["reply"](429, Retry_After=format_datetime(when, usegmt=True))
    (outcome,) = send(1)
    assert isinstance(outcome, Retry)
    assert outcome.after_s is not None
    assert 60 < outcome.after_s <= 100


@pytest.mark.requirement("R8.3")
def test_a_late_answer_and_a_dripping_one_are_retried(receiver: Any, send: Deliver) -> None:
    """The limit is on the whole exchange: an answer that begins in time and never ends does not hold a slot."""

    def never(handler: BaseHTTPRequestHandler) -> None:
        receiver.released.wait(30)

    def begins(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not receiver.released.wait(0.05):
            handler.wfile.write(b".")

    for answer in (never, begins):
        receiver.answer = answer
        assert send(1, delivery_timeout_s=0.4) == [Retry("no complete answer from the receiver within 0.4 s")]


@pytest.mark.requirement("R8.3", "R2.5")
def test_a_broken_connection_is_retried_and_the_next_one_works(receiver: Any, send: Deliver, answers: Any) -> None:
    """Reset in the middle: a retry. Refused: nothing was sent, so the record is not charged. Then healthy again."""
    receiver.answer = answers["reset"]
    (outcome,) = send(1)
    assert isinstance(outcome, Retry)
    assert "delivery failed" in outcome.reason
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(TransientError, match="no connection to the receiver"):
        send(1, delivery_url=f"http://127.0.0.1:{port}/")
    receiver.answer = answers["reply"](200)
    assert send(1) == [Done({"status": 200})]


@pytest.mark.requirement("R8.2")
def test_a_repeated_delivery_is_recognised_by_its_key(receiver: Any, send: Deliver) -> None:
    """The same record twice, as after a crash: two requests, one effect. Another record: another effect."""
    send(7)
    send(7)
    send(8)
    assert len(receiver.requests) == 3
    assert sorted(receiver.effects) == ["rpa3:7", "rpa3:8"]


@pytest.mark.requirement("R6.5")
def test_no_more_requests_than_allowed_are_under_way(receiver: Any, send: Deliver, answers: Any) -> None:
    """With room for 4, 24 records reach 4 at once and never 5."""
    lock, full = threading.Lock(), threading.Event()
    under_way: list[int] = [0]
    most: list[int] = [0]

    def count(handler: BaseHTTPRequestHandler) -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
            if under_way[0] == 4:
                full.set()
        full.wait(10)
        with lock:
            under_way[0] -= 1
        answers["reply"](200)(handler)

    receiver.answer = count
    outcomes = send(*range(24), delivery_concurrency=4)
    assert outcomes == [Done({"status": 200})] * 24
    assert most == [4]


@pytest.mark.requirement("R7.2")
def test_the_token_never_gets_into_logs_or_reasons(
    receiver: Any, send: Deliver, answers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Even where the receiver sends back what it got, at every log level."""
    with caplog.at_level(logging.DEBUG):
        for status in (403, 503):
            receiver.answer = answers["reply"](status, f"got Bearer {_TOKEN}".encode(), X_Echo=_TOKEN)
            (outcome,) = send(1)
            assert _TOKEN not in repr(outcome)
            assert "got Bearer [token]" in repr(outcome)
    assert _TOKEN not in caplog.text
