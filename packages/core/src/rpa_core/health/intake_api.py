"""What the HTTP surface needs from whoever takes records in: a protocol, its values and its refusals."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from rpa_core.errors import InputError, RpaError, TransientError
from rpa_core.formats.formats import Format
from rpa_core.formats.items import BadLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One request, its body still on the way.

    `body` blocks until bytes come and raises when they stop coming; it is as sent, gzip included. `gzip` says that
    the sender declared it so. `header` says that the first line of CSV or TSV names the columns. `key_field` names the
    member or column that holds each record's key. `own_key` says that the idempotency key is ours and not the
    sender's: records get no keys from it.
    """

    flow: str
    form: Format
    body: Iterator[bytes]
    gzip: bool = False
    encoding: str = "utf-8"
    header: bool = True
    key_field: str | None = None
    idempotency_key: str | None = None
    own_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Committed. `replayed` is True where an earlier request under the same idempotency key did it.

    Where the database is away and the upload is kept on the disk instead, `spooled` says how many records it has; how
    many of them are new is not known yet, and the other numbers are 0.
    """

    flow: str
    accepted: int = 0
    duplicates: int = 0
    replayed: bool = False
    spooled: int | None = None


class BadLines(InputError):
    """Some lines are no records; nothing was loaded. `first` holds the first of them, `count` counts all."""

    code = "INP002"

    def __init__(self, first: tuple[BadLine, ...], count: int) -> None:
        super().__init__(f"{count} bad line{'s' if count != 1 else ''}; nothing was loaded")
        self.first = first
        self.count = count

    def __reduce__(self) -> tuple[type[BadLines], tuple[tuple[BadLine, ...], int]]:
        return type(self), (self.first, self.count)


class KeyReused(InputError):
    """The idempotency key belongs to an earlier request with another body."""

    code = "INP003"


class KeyInUse(TransientError):
    """Another request under the same idempotency key is still being worked on."""

    code = "INP006"


class BodyTooLarge(InputError):
    """The body, packed or unpacked, exceeds the limit."""

    code = "INP004"


class UploadAborted(RpaError):
    """The client went away, was too slow, or the server is stopping; nothing was loaded."""

    code = "INP005"
    retryable = True


class NotLoadedYet(TransientError):
    """The flow has no such record, but uploads to it are kept on the disk and not loaded yet."""

    code = "INP007"


class StatusView(Protocol):
    """Where a record is; `rpa_core.store.lookup.RecordStatus` is one."""

    @property
    def flow(self) -> str: ...
    @property
    def key(self) -> str | None: ...
    @property
    def state(self) -> str: ...
    @property
    def attempts(self) -> int | None: ...
    @property
    def result_json(self) -> bytes | None: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...
    @property
    def enqueued_at(self) -> datetime | None: ...
    @property
    def finished_at(self) -> datetime | None: ...


class Hold(NamedTuple):
    """Why no request is let in for now, in words for its sender, and after how many seconds to try again."""

    why: str
    after_s: float


class Gate(Protocol):
    """Backpressure: whether records may come in now."""

    def admit(self, flow: str) -> Hold | None:
        """None to let a request for `flow` in. Never blocks or raises."""
        ...


class IntakeApi(Protocol):
    """Takes records in and says where they are. `accept` and `status` block; the server calls them in threads."""

    def flows(self) -> Collection[str]:
        """The flows that records may be posted to."""
        ...

    def admit(self, flow: str) -> Hold | None:
        """As `Gate.admit`."""
        ...

    def accept(self, upload: Upload) -> Accepted:
        """Load every record or none.

        Raises BadLines, KeyReused, BodyTooLarge or another InputError for the sender's mistakes, KeyInUse while a
        twin is being worked on, UploadAborted where the body stopped coming, StoreUnavailable where PostgreSQL is
        away, SpoolFull where the disk has no room for it either.
        """
        ...

    def status(self, flow: str, key: str) -> StatusView | None:
        """Where the record is, or None where there is none. Raises StoreUnavailable or NotLoadedYet."""
        ...
