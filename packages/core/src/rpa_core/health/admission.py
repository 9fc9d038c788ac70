"""What is decided about a request before its body is read."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from rpa_core.formats.formats import Format
from rpa_core.health.intake_api import IntakeApi
from rpa_core.health.problems import problem, too_large, try_later

if TYPE_CHECKING:
    from rpa_core.health.http_config import HttpConfig
    from rpa_core.health.monitor import HealthMonitor

_FORMS = {
    "application/json": Format.JSON,
    "application/x-ndjson": Format.NDJSON,
    "application/ndjson": Format.NDJSON,
    "application/jsonl": Format.NDJSON,
    "text/csv": Format.CSV,
    "text/tab-separated-values": Format.TSV,
}
_MAX_IDEMPOTENCY_KEY_CHARS = 255
_RETRY_SOON_S = 1.0


class Refused(Exception):
    """A request that is answered before its body is read."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class Admission:
    """The questions, each its own; the answer to a wrong one is raised as `Refused`."""

    def __init__(self, config: HttpConfig, monitor: HealthMonitor, intake: IntakeApi) -> None:
        self._config = config
        self._monitor = monitor
        self._intake = intake

    def check_open(self) -> None:
        """Refuse while draining."""
        if self._monitor.draining:
            detail = "this container is stopping; another one takes the request"
            raise Refused(try_later(503, "draining", detail, _RETRY_SOON_S))

    def check_token(self, request: Request) -> None:
        """Refuse without the right bearer token; compared in constant time."""
        expected = self._config.token
        if not expected:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), expected.encode())
        if scheme.lower() != "bearer" or not right:
            challenge = 'Bearer realm="rpa"' + (', error="invalid_token"' if given else "")
            detail = "send `Authorization: Bearer <token>` with the intake token of this container"
            raise Refused(problem(401, "unauthorized", detail, headers={"www-authenticate": challenge}))

    def flow(self, request: Request) -> str:
        """The flow of the path; refuse one that is not known."""
        flow: str = request.path_params["flow"]
        known = sorted(self._intake.flows())
        if flow not in known:
            detail = f"no flow {flow[:80]!r} here; known flows: {', '.join(known) or 'none'}"
            raise Refused(problem(404, "unknown-flow", detail, flows=known))
        return flow

    def check_size(self, request: Request) -> None:
        """Refuse a body that is declared larger than the limit."""
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._config.max_body_bytes:
            raise Refused(too_large(self._config.max_body_bytes))

    def check_gate(self, flow: str, free_places: int) -> None:
        """Refuse under backpressure, or where every place for an upload is taken."""
        hold = self._intake.admit(flow)
        if hold is not None:
            detail = f"intake of {flow!r} is closed for now: {hold.why}; nothing was loaded, send it again later"
            raise Refused(try_later(429, "backpressure", detail, hold.after_s))
        if free_places <= 0:
            detail = f"{self._config.max_uploads} uploads are being worked on, which is the limit; try again"
            raise Refused(try_later(429, "too-many-uploads", detail, self._config.retry_after_s))


def content_type(request: Request) -> tuple[Format, str]:
    """The format and the charset of the body; refuse what is not taken."""
    declared = request.headers.get("content-type", "")
    kind, *parameters = [part.strip() for part in declared.split(";")]
    form = _FORMS.get(kind.lower())
    if form is None:
        accepted = ", ".join(_FORMS)
        detail = f"Content-Type {declared[:80]!r} is not taken; use one of {accepted}"
        raise Refused(problem(415, "unsupported-type", detail, headers={"accept-post": accepted}))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return form, value.strip().strip('"') or "utf-8"
    return form, "utf-8"


def is_gzip(request: Request) -> bool:
    """Whether the body is declared as gzip; refuse other encodings."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        detail = f"Content-Encoding {encoding[:40]!r} is not taken; use gzip or none"
        raise Refused(problem(415, "unsupported-encoding", detail, headers={"accept-encoding": "gzip"}))
    return encoding.endswith("gzip")


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key, with or without the quotes of a structured header; refuse a malformed one."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    key = key.strip().strip('"')
    if not key or len(key) > _MAX_IDEMPOTENCY_KEY_CHARS or not key.isprintable():
        detail = f"Idempotency-Key must have 1 to {_MAX_IDEMPOTENCY_KEY_CHARS} printable characters"
        raise Refused(problem(400, "bad-idempotency-key", detail))
    return key
