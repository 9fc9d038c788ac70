"""HTTP/1.1 as far as a proxy must understand it: where a message ends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

_HEAD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRule:
    """What becomes of requests; the default lets them through.

    path     only those whose target contains it; "" = all.
    status   answered with it, and not passed on; 0 = not.
    delay_s  passed on so much later.
    drop     passed on and carried out; instead of the answer the client gets an RST.
    flap_s   the rule holds for so long, then not for as long, and so on; 0 = all the time.
    """

    path: str = ""
    status: int = 0
    delay_s: float = 0.0
    drop: bool = False
    flap_s: float = 0.0

    def __post_init__(self) -> None:
        """ValueError for what cannot be meant."""
        if self.status and not 400 <= self.status <= 599:
            raise ValueError(f"a rule answers with an error, 400 to 599, not with {self.status}")
        for name in ("delay_s", "flap_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"a rule's {name} is 0 or more, not {getattr(self, name)!r}")

    def to_json(self) -> dict[str, Any]:
        """For the wire; `HttpRule(**given)` is the reverse."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpStats:
    """Requests since the edge was opened: those that came, passed, were answered by a rule, and lost their answer."""

    requests: int
    passed: int
    answered: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request or a response as it came. `last`: its connection ends with it."""

    method: str
    target: str
    raw: bytes
    last: bool


async def read_request(reader: asyncio.StreamReader) -> Message | None:
    """The next one; None when the client has ended between two. EOFError, ValueError for half of one."""
    head = await _head(reader)
    if head is None:
        return None
    method, target, _ = (*head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2), "", "")[:3]
    fields = _fields(head)
    body = await _body(reader, fields, until_end=False)
    return Message(method=method, target=target, raw=head + body, last=fields.get("connection") == "close")


async def read_response(reader: asyncio.StreamReader, request: Message) -> Message:
    """The answer to `request`; EOFError if there is none."""
    head = await _head(reader)
    if head is None:
        raise EOFError("the server ended instead of answering")
    status = int(head.split(b" ", 2)[1])
    fields = _fields(head)
    sized = "content-length" in fields or "transfer-encoding" in fields
    bodiless = request.method == "HEAD" or status in (204, 304) or status < 200
    body = b"" if bodiless else await _body(reader, fields, until_end=not sized)
    last = fields.get("connection") == "close" or not (sized or bodiless)
    return Message(method=request.method, target=request.target, raw=head + body, last=last)


def answer(status: int, request: Message) -> bytes:
    """An error in the form in which FastAPI's servers tell one."""
    phrase = HTTPStatus(status).phrase
    body = json.dumps({"detail": phrase, "exception_message": phrase, "exception_detail": []}).encode()
    sent = b"" if request.method == "HEAD" else body
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + sent


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    except asyncio.LimitOverrunError as error:
        raise ValueError("a header of this length is none") from error
    if len(head) > _HEAD_BYTES:
        raise ValueError("a header of this length is none")
    return head


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(":") for line in lines)}


async def _body(reader: asyncio.StreamReader, fields: dict[str, str], *, until_end: bool) -> bytes:
    if "chunked" in fields.get("transfer-encoding", ""):
        parts = []
        while True:
            line = await reader.readuntil(b"\r\n")
            parts.append(line)
            size = int(line.split(b";")[0], 16)
            parts.append(await reader.readexactly(size + 2))
            if not size:
                return b"".join(parts)
    if until_end:
        return await reader.read(-1)
    return await reader.readexactly(int(fields.get("content-length", "0")))
