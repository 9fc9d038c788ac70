"""An upload as an entry of the spool: how it is to be read in one line of JSON, then its body, unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import orjson

from rpa_core.errors import RpaError
from rpa_core.formats.formats import Format
from rpa_core.health.intake_api import Upload
from rpa_core.health.reading import Reading

FORMAT = 2
_WITH_HEADER = 1  # how every upload was kept before, and one with a header line still is: older versions read it
_PIECE_BYTES = 64 * 1024


class UnknownFormat(RpaError):
    """These bytes are not an upload as this version keeps it."""

    code = "INP008"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is known of a kept upload without its body: `n` records, `digest` as `Reading.digest`."""

    flow: str
    form: Format
    encoding: str
    header: bool
    key_field: str | None
    idempotency_key: str | None
    n: int
    digest: bytes


def head_of(reading: Reading) -> Head:
    """The head of an upload that was read to its end."""
    upload = reading.upload
    return Head(
        flow=upload.flow,
        form=upload.form,
        encoding=upload.encoding,
        header=upload.header,
        key_field=upload.key_field,
        idempotency_key=upload.idempotency_key,
        n=reading.n,
        digest=reading.digest(),
    )


class KeptUpload:
    """Head and body, read in pieces from the file that has the body."""

    def __init__(self, head: Head, body: IO[bytes], body_bytes: int) -> None:
        self._line = encode(head)
        self._body = body
        self.size_bytes = len(self._line) + body_bytes

    def __iter__(self) -> Iterator[bytes]:
        yield self._line
        self._body.seek(0)
        while piece := self._body.read(_PIECE_BYTES):
            yield piece


def encode(head: Head) -> bytes:
    """The line before the body."""
    line = orjson.dumps(
        {
            "format": _WITH_HEADER if head.header else FORMAT,
            "flow": head.flow,
            "form": str(head.form),
            "encoding": head.encoding,
            "key_field": head.key_field,
            "idempotency_key": head.idempotency_key,
            "n": head.n,
            "digest": head.digest.hex(),
        }
    )
    return line + b"\n"


def read_head(body: bytes) -> Head:
    """The head alone. Raises UnknownFormat."""
    try:
        data = orjson.loads(body[: _end_of_head(body)])
        if data["format"] not in (_WITH_HEADER, FORMAT):
            raise UnknownFormat(f"an upload of format {data['format']!r}; this version reads formats up to {FORMAT}")
        return Head(
            flow=data["flow"],
            form=Format(data["form"]),
            encoding=data["encoding"],
            header=data["format"] == _WITH_HEADER,
            key_field=data["key_field"],
            idempotency_key=data["idempotency_key"],
            n=data["n"],
            digest=bytes.fromhex(data["digest"]),
        )
    except (ValueError, LookupError, TypeError) as error:
        raise UnknownFormat(f"not an upload: {type(error).__name__}: {error}") from error


def upload_of(beginning: bytes, pieces: Iterator[bytes], own_key: str) -> Upload:
    """The upload as it came, under `own_key` where the sender gave none. Raises UnknownFormat.

    `beginning` has at least the head of what `pieces` yields from its beginning.
    """
    head = read_head(beginning)
    return Upload(
        flow=head.flow,
        form=head.form,
        body=_after(pieces, _end_of_head(beginning) + 1),
        encoding=head.encoding,
        header=head.header,
        key_field=head.key_field,
        idempotency_key=head.idempotency_key or own_key,
        own_key=head.idempotency_key is None,
    )


def _after(pieces: Iterator[bytes], skipped_bytes: int) -> Iterator[bytes]:
    for piece in pieces:
        if skipped_bytes < len(piece):
            yield piece[skipped_bytes:]
        skipped_bytes = max(0, skipped_bytes - len(piece))


def _end_of_head(body: bytes) -> int:
    return body.index(b"\n")
