"""rpa3's settings and headers: what is refused before any request, and how long to wait after one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from rpa_core.clock import SystemClock
from rpa_core.resilience.breaker import CircuitBreaker
from rpa_flows.rpa3.delivery import Delivery
from rpa_flows.rpa3.retry_after import retry_after_s
from rpa_flows.rpa3.settings import Rpa3Settings

_NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.requirement("R7.3")
@pytest.mark.parametrize(
    ("url", "allow_http"),
    [
        ("https://receiver.example/responses", False),
        ("http://127.0.0.1:8080/", False),
        ("http://[::1]:8080/", False),
        ("http://localhost/x", False),
        ("http://receiver.example/", True),
    ],
)
def test_encrypted_or_local_addresses_are_accepted(url: str, allow_http: bool) -> None:
    """https anywhere, http to this machine, http elsewhere only where it was asked for."""
    settings = Rpa3Settings(delivery_url=SecretStr(url), delivery_allow_http=allow_http)
    assert settings.delivery_url.get_secret_value() == url


@pytest.mark.requirement("R7.3", "R1.1")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://receiver.example/", "CONTAINER_DELIVERY_ALLOW_HTTP=true"),
        ("http://10.0.0.7/", "http is not encrypted"),
        ("http://127.0.0.1.evil.example/", "http is not encrypted"),
        ("https://user:hunter2@receiver.example/", "CONTAINER_DELIVERY_TOKEN_FILE"),
        ("ftp://receiver.example/", "write https://HOST/PATH"),
        ("receiver.example", "write https://HOST/PATH"),
        ("https://", "write https://HOST/PATH"),
        ("https://[::1/", "not a URL"),
        ("https://host:port/", "not a URL"),
    ],
)
def test_other_addresses_are_refused_with_the_correction(url: str, said: str) -> None:
    """Before any record is claimed, with what to write instead."""
    with pytest.raises(ValidationError) as caught:
        Rpa3Settings(delivery_url=SecretStr(url))
    assert said in caught.value.errors()[0]["msg"]
    assert caught.value.errors()[0]["loc"] == ("delivery_url",)


@pytest.mark.requirement("R7.2")
def test_the_token_does_not_show_in_the_settings() -> None:
    """Neither repr nor a dump for people shows it."""
    settings = Rpa3Settings(
        delivery_url=SecretStr("https://r.example/hunter2"),
        delivery_token=SecretStr("hunter2"),
        delivery_proxy_url=SecretStr("http://u:hunter2@proxy:3128"),
    )
    assert "hunter2" not in repr(settings) + str(settings.model_dump())


@pytest.mark.requirement("R1.1", "R7.3")
@pytest.mark.parametrize("url", ["proxy:3128", "socks5://proxy", "http://", "http://proxy:port", "http://proxy:99999"])
def test_a_proxy_that_is_no_address_is_refused(url: str) -> None:
    """With what to write, and without repeating what may hold a password."""
    with pytest.raises(ValidationError) as caught:
        Rpa3Settings(delivery_url=SecretStr("https://r.example/"), delivery_proxy_url=SecretStr(url))
    (error,) = caught.value.errors()
    assert (error["loc"], "http://host:port" in error["msg"]) == (("delivery_proxy_url",), True)


@pytest.mark.requirement("R8.3")
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("\u0663", None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("9" * 5000, 86_400.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun Mar  1 12:00:30 2026", 30.0),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Mon, 01 Mar 2027 11:00:00 GMT", 86_400.0),
        ("Sun, 31 Feb 2026 11:00:00 GMT", None),
    ],
)
def test_retry_after_is_understood_in_both_forms(header: str | None, seconds: float | None) -> None:
    """Seconds and every form of HTTP date, bounded to a day; nonsense is no wish."""
    assert retry_after_s(header, _NOW) == seconds


async def _made(**changed: Any) -> list[str]:
    """What a delivery by these settings is made of."""
    given = {"delivery_url": SecretStr("https://r.example/"), **changed}
    delivery = Delivery(Rpa3Settings(**given), SystemClock(), CircuitBreaker("delivery"))
    client = delivery._new_client()
    await client.aclose()
    return [
        delivery._url,
        str(client.headers),
        str(client.timeout),
        str(sorted(map(str, client._mounts))),
        str(delivery._slots._value),
    ]


@pytest.mark.requirement("R1.2")
def test_every_setting_has_an_effect() -> None:
    """Each field of the model changes what a delivery is made of, or what is accepted; a new one is put in here."""
    others: dict[str, Any] = {
        "delivery_url": SecretStr("https://other.example/"),
        "delivery_token": SecretStr("hunter2"),
        "delivery_proxy_url": SecretStr("http://proxy:3128"),
        "delivery_timeout_s": 7.0,
        "delivery_concurrency": 7,
    }
    plain = asyncio.run(_made())
    assert asyncio.run(_made()) == plain
    for name, value in others.items():
        assert asyncio.run(_made(**{name: value})) != plain, name
    http = SecretStr("http://r.example/")
    with pytest.raises(ValidationError):
        Rpa3Settings(delivery_url=http)
    assert Rpa3Settings(delivery_url=http, delivery_allow_http=True).delivery_allow_http
    assert set(Rpa3Settings.model_fields) == {*others, "delivery_allow_http"}
