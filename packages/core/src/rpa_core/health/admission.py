"""What is decided about a request before its body is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from rpa_core.config.tokens import Grant, Right, presented
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
_PARAMETERS = {
    Format.JSON: ("charset",),
    Format.NDJSON: ("charset",),
    Format.CSV: ("charset", "header"),
    Format.TSV: ("charset", "header"),
}
_MAX_IDEMPOTENCY_KEY_CHARS = 255
_RETRY_SOON_S = 1.0
_WAY_OUT = {
    "write": "CONTAINER_INTAKE_TOKEN admits to the container's own flow, CONTAINER_INTAKE_TOKENS to others",
    "read": "that takes CONTAINER_INTAKE_READ_TOKEN, or `read` in CONTAINER_INTAKE_TOKENS",
}


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

    def check_token(self, request: Request) -> tuple[Grant, ...]:
        """What the client's bearer token may do; refuse with 401 without one, or with one that is not valid."""
        grants = bearer(request, self._config.grants)
        if not grants:
            given = request.headers.get("authorization")
            challenge = 'Bearer realm="rpa"' + (', error="invalid_token"' if given else "")
            detail = "send `Authorization: Bearer <token>` with a token of this container's intake"
            raise Refused(problem(401, "unauthorized", detail, headers={"www-authenticate": challenge}))
        return grants

    def flow(self, request: Request, grants: Iterable[Grant], right: Right) -> str:
        """The flow of the path; refuse with 404 one that is not known, with 403 one that the token may not use so."""
        flow: str = request.path_params["flow"]
        known = sorted(self._intake.flows())
        open_to = [each for each in known if any(grant.permits(right, each) for grant in grants)]
        if flow in open_to:
            return flow
        if flow not in known:
            detail = f"no flow {flow[:80]!r} here; flows of this token: {', '.join(open_to) or 'none'}"
            raise Refused(problem(404, "unknown-flow", detail, flows=open_to))
        detail = f"this token may not {right} records of flow {flow!r}; {_WAY_OUT[right]}"
        challenge = 'Bearer realm="rpa", error="insufficient_scope"'
        raise Refused(problem(403, "forbidden", detail, headers={"www-authenticate": challenge}))

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


def bearer(request: Request, grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """The grants of the bearer token that a request carries; none where it carries none, or a wrong one."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return presented(grants, given.strip()) if scheme.lower() == "bearer" else ()


class Kind(NamedTuple):
    """What a Content-Type says: the format, the charset, and whether the first line of CSV or TSV names the columns."""

    form: Format
    charset: str
    header: bool


def content_type(request: Request) -> Kind:
    """How the body is to be read; refuse what is not taken, parameters that nothing here honours too."""
    declared = request.headers.get("content-type", "")
    kind, *parameters = [part.strip() for part in declared.split(";")]
    form = _FORMS.get(kind.lower())
    if form is None:
        raise _unsupported(f"Content-Type {declared[:80]!r} is not taken; use one of {', '.join(_FORMS)}")
    given: dict[str, str] = {}
    for parameter in filter(None, parameters):
        name, _, value = parameter.partition("=")
        name = name.strip().lower()
        if name in given or name not in _PARAMETERS[form]:
            known = ", ".join(_PARAMETERS[form])
            raise _unsupported(
                f"parameter {name[:40]!r} of Content-Type is not taken, or twice; {kind} may have {known}"
            )
        given[name] = value.strip().strip('"')
    header = given.get("header", "present").lower()
    if header not in ("present", "absent"):
        raise _unsupported(f"header={header[:40]} in Content-Type is not known: RFC 4180 has present and absent")
    return Kind(form, given.get("charset") or "utf-8", header == "present")


def _unsupported(detail: str) -> Refused:
    return Refused(problem(415, "unsupported-type", detail, headers={"accept-post": ", ".join(_FORMS)}))


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
