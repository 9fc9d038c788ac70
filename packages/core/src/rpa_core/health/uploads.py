"""`POST /records/{flow}` and `GET /records/{flow}/{key}`: HTTP on the outside, `IntakeApi` on the inside."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rpa_core.errors import RpaError
from rpa_core.health.admission import Admission, Refused, content_type, idempotency_key, is_gzip
from rpa_core.health.channel import ByteChannel
from rpa_core.health.failures import STOPPING, TOO_LARGE, TOO_SLOW, failure, store_away
from rpa_core.health.intake_api import Accepted, IntakeApi, NotLoadedYet, Upload
from rpa_core.health.problems import json_response, problem, try_later
from rpa_core.health.protocol import UPLOAD

if TYPE_CHECKING:
    from rpa_core.health.http_config import HttpConfig
    from rpa_core.health.monitor import HealthMonitor


class Records:
    """The two endpoints. Uploads have as many threads as may run at once; lookups have two of their own."""

    def __init__(self, config: HttpConfig, monitor: HealthMonitor, intake: IntakeApi) -> None:
        self._config = config
        self._intake = intake
        self._admission = Admission(config, monitor, intake)
        self._free = config.max_uploads
        self._uploads = ThreadPoolExecutor(config.max_uploads, thread_name_prefix="intake")
        self._lookups = ThreadPoolExecutor(2, thread_name_prefix="lookup")
        self._running: set[ByteChannel] = set()

    def abort(self) -> None:
        """End the uploads that are under way: they roll back and are answered with 503. From any thread."""
        for channel in tuple(self._running):
            channel.abort(STOPPING)

    def close(self) -> None:
        """Start no more."""
        self._uploads.shutdown(wait=False, cancel_futures=True)
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def post(self, request: Request) -> Response:
        """Take records in; see the room's docstring for what is promised."""
        admission = self._admission
        request_id = uuid.uuid4().hex
        try:
            admission.check_open()
            flow = admission.flow(request, admission.check_token(request), "write")
            kind = content_type(request)
            gzip = is_gzip(request)
            admission.check_size(request)
            key = idempotency_key(request)
            admission.check_gate(flow, self._free)
        except Refused as refusal:
            return refusal.response
        request.scope[UPLOAD] = True
        channel = ByteChannel()
        self._running.add(channel)
        self._free -= 1
        try:
            upload = Upload(
                flow=flow,
                form=kind.form,
                body=iter(channel),
                gzip=gzip,
                encoding=kind.charset,
                header=kind.header,
                key_field=request.query_params.get("key") or None,
                idempotency_key=key,
            )
            return await self._run(request, upload, channel, request_id)
        finally:
            self._free += 1
            self._running.discard(channel)

    async def get(self, request: Request) -> Response:
        """Where one record is."""
        try:
            flow = self._admission.flow(request, self._admission.check_token(request), "read")
        except Refused as refusal:
            return refusal.response
        key = request.path_params["key"]
        if "\0" in key:
            return problem(404, "no-such-record", "a key holds no NUL character")
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._lookups, self._intake.status, flow, key)
        except NotLoadedYet as error:
            return try_later(503, "not-loaded-yet", str(error), self._config.retry_after_s)
        except RpaError as error:
            return store_away(error, uuid.uuid4().hex, self._config.retry_after_s)
        if found is None:
            return problem(404, "no-such-record", f"flow {flow!r} has no record with key {key!r}")
        return json_response(
            {
                "flow": found.flow,
                "key": found.key,
                "state": found.state,
                "attempts": found.attempts,
                "result": orjson.Fragment(found.result_json) if found.result_json is not None else None,
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
                channel.abort(STOPPING)
                raise
            except Exception as error:  # noqa: BLE001 - every kind becomes its answer; the unexpected is logged there
                response = failure(
                    error,
                    request_id,
                    max_body_bytes=self._config.max_body_bytes,
                    retry_after_s=self._config.retry_after_s,
                )
                if channel.aborted == STOPPING:
                    return response
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
                        channel.abort(TOO_LARGE)
                        return
                    await channel.put(chunk)
        except TimeoutError:
            channel.abort(TOO_SLOW)
        except ClientDisconnect:
            channel.abort("the client closed the connection before the end of the body")
        except asyncio.CancelledError:
            channel.abort(STOPPING)
            raise


def _answer(done: Accepted, request_id: str) -> Response:
    body: dict[str, object] = {
        "flow": done.flow,
        "accepted": done.accepted,
        "duplicates": done.duplicates,
        "request_id": request_id,
    }
    if done.spooled is not None:  # how many are new, the database will tell
        body |= {"accepted": None, "duplicates": None, "spooled": done.spooled}
    headers = {"idempotency_replayed": "true"} if done.replayed else {}
    return json_response(body, 202, **headers)
