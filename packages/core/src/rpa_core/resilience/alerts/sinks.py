"""Whom alerts go to: Alertmanager's API v2, and any address that takes CloudEvents by POST."""

from __future__ import annotations

import http.client
import json
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from rpa_core.resilience.alerts.model import Notice, rfc3339
from rpa_core.resilience.alerts.post import Answer, post
from rpa_core.resilience.spool.model import Delivered, Later, Refused, Verdict

_BODY_IS_WRONG = (400, 413, 422)  # the same message again would get the same answer; anything else may change
_LONGEST_WORDS = 300


class Sink(Protocol):
    """One receiver. `name` holds no secret and is the same after a restart.

    `keeps_state`: only the newest message about an alert matters, and one that is not renewed ends. Otherwise every
    message is an event of its own.
    """

    name: str
    keeps_state: bool

    def send(self, notice: Notice, *, now: float) -> Verdict:
        """Try once, within the sink's timeout; never raises for what happens on the way."""
        ...


class Alertmanager:
    """One instance: each of a cluster is told by itself, and never through a balancer, for they gossip afterwards."""

    keeps_state = True

    def __init__(self, url: str, *, timeout_s: float, ttl_s: float) -> None:
        parts = urlsplit(url)
        self.name = f"alertmanager {parts.hostname}:{parts.port or parts.scheme}{parts.path.rstrip('/')}"
        self._url = f"{url.rstrip('/')}/api/v2/alerts"
        self._timeout_s = timeout_s
        self._ttl_s = ttl_s

    def send(self, notice: Notice, *, now: float) -> Verdict:
        """Tell the alert with its end: its own, or the time at which nobody has renewed it."""
        ends_at = notice.at if notice.state == "resolved" else now + self._ttl_s
        alert = {
            "labels": dict(notice.labels),
            "annotations": dict(notice.annotations),
            "startsAt": rfc3339(notice.started_at),
            "endsAt": rfc3339(ends_at),
        }
        headers = {"Content-Type": "application/json"}
        return _deliver(self._url, [alert], headers=headers, timeout_s=self._timeout_s)


class Webhook:
    """Gets every message as a CloudEvent 1.0 in JSON; `id` is the same when one is repeated, `time` gives the order."""

    name = "webhook"
    keeps_state = False

    def __init__(self, url: str, *, token: str | None, timeout_s: float) -> None:
        self._url = url
        self._headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._timeout_s = timeout_s

    def send(self, notice: Notice, *, now: float) -> Verdict:
        """POST the event."""
        labels = notice.labels
        ended = {"endsAt": rfc3339(notice.at)} if notice.state == "resolved" else {}
        event = {
            "specversion": "1.0",
            "id": notice.id,
            "source": f"/rpa/{quote(labels.get('service', ''), safe='')}/{quote(labels.get('instance', ''), safe='')}",
            "type": f"rpa.alert.{notice.state}",
            "subject": labels.get("alertname", ""),
            "time": rfc3339(notice.at),
            "datacontenttype": "application/json",
            "data": {
                "status": notice.state,
                "labels": dict(labels),
                "annotations": dict(notice.annotations),
                "startsAt": rfc3339(notice.started_at),
                **ended,
            },
        }
        return _deliver(self._url, event, headers=self._headers, timeout_s=self._timeout_s)


def _deliver(url: str, content: Any, *, headers: dict[str, str], timeout_s: float) -> Verdict:
    try:
        answer = post(url, json.dumps(content).encode(), headers=headers, timeout_s=timeout_s)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Later(f"{type(error).__name__}: {error}"[:_LONGEST_WORDS])
    return _verdict(answer)


def _verdict(answer: Answer) -> Verdict:
    if 200 <= answer.status < 300:
        return Delivered()
    said = f"answered {answer.status}: {' '.join(answer.text.split())}"[:_LONGEST_WORDS]
    return Refused(said) if answer.status in _BODY_IS_WRONG else Later(said)
