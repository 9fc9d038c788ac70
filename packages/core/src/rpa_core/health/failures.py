"""What an error becomes on the wire; the words that are not for the sender go to the log."""

from __future__ import annotations

import logging

from starlette.responses import Response

from rpa_core.errors import InputError, RpaError, StoreUnavailable
from rpa_core.health.intake_api import BadLines, BodyTooLarge, KeyInUse, KeyReused, UploadAborted
from rpa_core.health.problems import problem, too_large, try_later
from rpa_core.resilience.spool.model import SpoolFull

_LOG = logging.getLogger("rpa.http.intake")
TOO_LARGE = "the body is larger than the limit"
TOO_SLOW = "the body came too slowly"
STOPPING = "the server is stopping"


def failure(error: Exception, request_id: str, *, max_body_bytes: int, retry_after_s: float) -> Response:
    """The answer to an upload that failed."""
    match error:
        case BadLines():
            errors = [{"line": b.line, "reason": b.reason, "excerpt": b.excerpt} for b in error.first]
            return problem(422, "bad-lines", str(error), request_id=request_id, error_count=error.count, errors=errors)
        case KeyReused():
            return problem(422, "idempotency-key-reused", str(error), request_id=request_id)
        case KeyInUse():
            return try_later(409, "idempotency-key-in-use", str(error), retry_after_s, request_id=request_id)
        case UploadAborted() if str(error) == TOO_LARGE:
            return too_large(max_body_bytes)
        case BodyTooLarge():
            return problem(413, "body-too-large", str(error), request_id=request_id)
        case UploadAborted() if str(error) == TOO_SLOW:
            detail = "the body came too slowly; nothing was loaded. Send it again, in smaller parts if it is large"
            return problem(408, "too-slow", detail, headers={"connection": "close"}, request_id=request_id)
        case UploadAborted() if str(error) == STOPPING:
            detail = "this container is stopping; nothing was loaded, send the request again"
            return try_later(503, "draining", detail, 1.0, request_id=request_id)
        case UploadAborted():
            _LOG.info("upload ended early: %s", error, extra={"event.action": "intake.aborted"})
            return problem(400, "aborted", str(error), headers={"connection": "close"}, request_id=request_id)
        case SpoolFull():
            _LOG.error(
                "request %s: the database is away and the spool takes nothing: %s",
                request_id,
                error,
                extra={"event.action": "intake.spool_full", "http.request.id": request_id},
            )
            detail = (
                "the database is not available and there is no room to keep the records meanwhile; nothing was "
                "loaded, send the request again later"
            )
            return try_later(503, "store-unavailable", detail, retry_after_s, request_id=request_id)
        case InputError():
            return problem(422, "bad-input", f"{error}; nothing was loaded", request_id=request_id)
        case RpaError():
            return store_away(error, request_id, retry_after_s)
        case _:
            _LOG.error(
                "request %s failed unexpectedly",
                request_id,
                exc_info=error,
                extra={"event.action": "intake.failed", "http.request.id": request_id},
            )
            detail = "unexpected error, nothing was loaded; the log has it under the request id"
            return problem(500, "internal", detail, request_id=request_id)


def store_away(error: RpaError, request_id: str, retry_after_s: float) -> Response:
    """The database's own words stay in the log: they name hosts and roles."""
    _LOG.error(
        "request %s: the database is not usable: %s",
        request_id,
        error,
        extra={"event.action": "intake.store_away", "http.request.id": request_id},
    )
    why = "is not available" if isinstance(error, StoreUnavailable) else "cannot be used"
    return try_later(
        503,
        "store-unavailable",
        f"the database {why}; nothing was loaded, send the request again later",
        retry_after_s,
        request_id=request_id,
    )
