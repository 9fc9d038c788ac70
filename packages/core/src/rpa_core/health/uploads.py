"""`POST /records/{flow}` and `GET /records/{flow}/{key}`: HTTP on the outside, `IntakeApi` on the inside."""

from __future__ import annotations

import asyncio
import hmac
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rpa_core.errors import InputError, RpaError, StoreUnavailable
from rpa_core.formats.formats import Format
from rpa_core.health.channel import ByteChannel
from rpa_core.health.intake_api import Accepted, BadLines, BodyTooLarge, IntakeApi, KeyReused, Upload, UploadAborted
from rpa_core.health.monitor import HealthMonitor
from rpa_core.health.problems import json_response, problem, try_later

if TYPE_CHECKING:
    from rpa_core.health.server import HttpConfig

_LOG = logging.getLogger("rpa.http.intake")
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


class Records:
    """The two endpoints. Uploads have as many threads as may run at once; lookups have two of their own."""

    def __init__(self, config: HttpConfig, monitor: HealthMonitor, intake: IntakeApi) -> None:
        self._config = config
        self._monitor = monitor
        self._intake = intake
        self._free = config.max_uploads
        self._uploads = ThreadPoolExecutor(config.max_uploads, thread_name_prefix="intake")
        self._lookups = ThreadPoolExecutor(2, thread_name_prefix="lookup")

    def close(self) -> None:
        """Let running uploads end (their channels are aborted by then); start no more."""
        self._uploads.shutdown(wait=False, cancel_futures=True)
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def post(self, request: Request) -> Response:
        """Take records in; see the room's docstring for what is promised."""
        request_id = uuid.uuid4().hex
        try:
            self._check_open()
            self._check_token(request)
            flow = self._flow(request)
            form, encoding = _content_type(request)
            gzip = _content_encoding(request)
            self._check_size(request)
            idempotency_key = _idempotency_key(request)
            self._check_gate()
        except Refused as refusal:
            return refusal.response
        self._free -= 1
        try:
            channel = ByteChannel()
            upload = Upload(
                flow=flow,
                form=form,
                body=iter(channel),
                gzip=gzip,
                encoding=encoding,
                key_field=request.query_params.get("key") or None,
                idempotency_key=idempotency_key,
            )
            return await self._run(request, upload, channel, request_id)
        finally:
            self._free += 1

    async def get(self, request: Request) -> Response:
        """Where one record is."""
        try:
            self._check_token(request)
            flow = self._flow(request)
        except Refused as refusal:
            return refusal.response
        key = request.path_params["key"]
        if "\0" in key:
            return problem(404, "no-such-record", "a key holds no NUL character")
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._lookups, self._intake.status, flow, key)
        except RpaError as error:
            return self._store_away(error, uuid.uuid4().hex)
        if found is None:
            return problem(404, "no-such-record", f"flow {flow!r} has no record with key {key!r}")
        return json_response(
            {
                "flow": found.flow,
                "key": found.key,
                "state": found.state,
                "attempts": found.attempts,
                "result": found.result,
                "reasons": list(found.reasons),
                "enqueued_at": found.enqueued_at,
                "finished_at": found.finished_at,
            }
        )

    async def _run(self, request: Request, upload: Upload, channel: ByteChannel, request_id: str) -> Response:
        loop = asyncio.get_running_loop()
        pump = asyncio.create_task(self._pump(request, channel))
        work = loop.run_in_executor(self._uploads, self._accept, upload, channel)
        try:
            try:
                done = await asyncio.shield(work)
                await pump
                return _answer(done, request_id)
            except asyncio.CancelledError:
                channel.abort("the server is stopping")
                raise
            except Exception as error:  # noqa: BLE001 - every kind becomes its answer; the unexpected is logged there
                response = self._failure(error, request_id)
            # Read what is still coming, within bounds: a client that is sending would see a reset, not the answer.
            await asyncio.wait([pump], timeout=self._config.linger_s)
            return response
        finally:
            channel.abort("the request has ended")
            pump.cancel()

    def _accept(self, upload: Upload, channel: ByteChannel) -> Accepted:
        try:
            return self._intake.accept(upload)
        finally:
            channel.abandon()

    async def _pump(self, request: Request, channel: ByteChannel) -> None:
        """Move the body into the channel. Ends by closing or aborting it; never raises but on cancellation."""
        config = self._config
        received = 0
        deadline = asyncio.get_running_loop().time() + config.upload_timeout_s
        now = asyncio.get_running_loop().time
        try:
            async with aclosing(request.stream()) as body:
                while True:
                    async with asyncio.timeout_at(min(deadline, now() + config.idle_timeout_s)):
                        chunk = await anext(body, None)
                    if chunk is None:
                        channel.close()
                        return
                    received += len(chunk)
                    if received > config.max_body_bytes:
                        channel.abort(_TOO_LARGE)
                        return
                    await channel.put(chunk)
        except TimeoutError:
            channel.abort(_TOO_SLOW)
        except ClientDisconnect:
            channel.abort("the client closed the connection before the end of the body")
        except asyncio.CancelledError:
            channel.abort("the server is stopping")
            raise

    def _failure(self, error: Exception, request_id: str) -> Response:
        limit = self._config.max_body_bytes
        match error:
            case BadLines():
                errors = [{"line": b.line, "reason": b.reason, "excerpt": b.excerpt} for b in error.first]
                return problem(
                    422, "bad-lines", str(error), request_id=request_id, error_count=error.count, errors=errors
                )
            case KeyReused():
                return problem(422, "idempotency-key-reused", str(error), request_id=request_id)
            case UploadAborted() if str(error) == _TOO_LARGE:
                return self._too_large(limit)
            case BodyTooLarge():
                return problem(413, "body-too-large", str(error), request_id=request_id)
            case UploadAborted() if str(error) == _TOO_SLOW:
                detail = "the body came too slowly; nothing was loaded. Send it again, in smaller parts if it is large"
                return problem(408, "too-slow", detail, headers={"connection": "close"}, request_id=request_id)
            case UploadAborted():
                _LOG.info("upload ended early: %s", error, extra={"event.action": "intake.aborted"})
                return problem(400, "aborted", str(error), headers={"connection": "close"}, request_id=request_id)
            case InputError():
                return problem(422, "bad-input", f"{error}; nothing was loaded", request_id=request_id)
            case RpaError():
                return self._store_away(error, request_id)
            case _:
                _LOG.error(
                    "request %s failed unexpectedly",
                    request_id,
                    exc_info=error,
                    extra={"event.action": "intake.failed", "http.request.id": request_id},
                )
                detail = "unexpected error, nothing was loaded; the log has it under the request id"
                return problem(500, "internal", detail, request_id=request_id)

    def _store_away(self, error: RpaError, request_id: str) -> Response:
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
            self._config.retry_after_s,
            request_id=request_id,
        )

    def _check_open(self) -> None:
        if self._monitor.draining:
            detail = "this container is stopping; another one takes the request"
            raise Refused(try_later(503, "draining", detail, _RETRY_SOON_S))

    def _check_token(self, request: Request) -> None:
        expected = self._config.token
        if not expected:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), expected.encode())
        if scheme.lower() != "bearer" or not right:
            challenge = 'Bearer realm="rpa"' + (', error="invalid_token"' if given else "")
            detail = "send `Authorization: Bearer <token>` with the intake token of this container"
            raise Refused(problem(401, "unauthorized", detail, headers={"www-authenticate": challenge}))

    def _flow(self, request: Request) -> str:
        flow: str = request.path_params["flow"]
        known = sorted(self._intake.flows())
        if flow not in known:
            detail = f"no flow {flow[:80]!r} here; known flows: {', '.join(known) or 'none'}"
            raise Refused(problem(404, "unknown-flow", detail, flows=known))
        return flow

    def _check_size(self, request: Request) -> None:
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._config.max_body_bytes:
            raise Refused(self._too_large(self._config.max_body_bytes))

    def _check_gate(self) -> None:
        after_s = self._intake.admit()
        if after_s is not None:
            detail = "too many records wait to be processed; nothing was loaded, send the request again later"
            raise Refused(try_later(429, "backpressure", detail, after_s))
        if self._free <= 0:
            detail = f"{self._config.max_uploads} uploads are being worked on, which is the limit; try again"
            raise Refused(try_later(429, "too-many-uploads", detail, self._config.retry_after_s))

    def _too_large(self, limit_bytes: int) -> Response:
        detail = f"the body has more than {limit_bytes} bytes; nothing was loaded. Send it in parts"
        return problem(413, "body-too-large", detail, limit_bytes=limit_bytes)


_TOO_LARGE = "the body is larger than the limit"
_TOO_SLOW = "the body came too slowly"


def _answer(done: Accepted, request_id: str) -> Response:
    body = {
        "flow": done.flow,
        "accepted": done.accepted,
        "duplicates": done.duplicates,
        "request_id": request_id,
    }
    headers = {"idempotency_replayed": "true"} if done.replayed else {}
    return json_response(body, 202, **headers)


def _content_type(request: Request) -> tuple[Format, str]:
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


def _content_encoding(request: Request) -> bool:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        detail = f"Content-Encoding {encoding[:40]!r} is not taken; use gzip or none"
        raise Refused(problem(415, "unsupported-encoding", detail, headers={"accept-encoding": "gzip"}))
    return encoding.endswith("gzip")


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    key = key.strip().strip('"')
    if not key or len(key) > _MAX_IDEMPOTENCY_KEY_CHARS or not key.isprintable():
        detail = f"Idempotency-Key must have 1 to {_MAX_IDEMPOTENCY_KEY_CHARS} printable characters"
        raise Refused(problem(400, "bad-idempotency-key", detail))
    return key
