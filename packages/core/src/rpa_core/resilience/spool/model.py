"""What the spool holds, and what may become of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rpa_core.errors import InputError, TransientError


class SpoolFull(TransientError):
    """No room: the kind's share, the spool's limit or the disk is used up. The entry was not taken."""

    code = "SPL001"


class DamagedEntry(InputError):
    """The body of an entry is not what was put."""

    code = "SPL006"


class Pieces(Protocol):
    """A body that is never whole in memory."""

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        ...

    def __iter__(self) -> Iterator[bytes]:
        """From its beginning, each time."""
        ...


class New(NamedTuple):
    """An entry to put. The same `id` again, while it waits or is dead, changes nothing.

    kind    who delivers it: prefect, alert, finished, intake.
    stream  entries of one stream are delivered in order; streams do not wait for each other.
    keep    False: may be dropped, oldest first, when its kind has no room left.
    """

    id: str
    kind: str
    stream: str
    body: bytes | Pieces
    keep: bool = True


class Entry(NamedTuple):
    """An entry that waits. `put_at` is Unix time in seconds, `tries` counts deliveries that were put off.

    `begun` counts deliveries that never came back: the process ended meanwhile. Of a kind whose bodies are streamed
    `body` is only the beginning, at most 256 KiB; `Spool.pieces` reads the whole.
    """

    seq: int
    id: str
    kind: str
    stream: str
    body: bytes
    keep: bool
    put_at: float
    tries: int
    begun: int = 0


class DeadEntry(NamedTuple):
    """An entry that was refused, is too old or damaged, with the reason. `entry.body` is at most its first 1 MiB."""

    entry: Entry
    reason: str
    died_at: float


@dataclass(frozen=True, slots=True)
class Delivered:
    """The other system has it."""


@dataclass(frozen=True, slots=True)
class Later:
    """Not now: the stream waits. `after_s` None leaves the time to the courier's backoff."""

    why: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Never: the entry becomes a dead letter."""

    reason: str


Verdict = Delivered | Later | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one kind may take.

    ratio     of the spool's bytes.
    max_age_s an older entry is not delivered any more; None: never too old.
    overdraw  entries put with keep=True may take what other kinds have not.
    reserve   entries put with keep=True are taken on a full disk too, out of the spool's reserve.
    streamed  bodies may be larger than memory: they are put and read in pieces.
    """

    ratio: float
    max_age_s: float | None = None
    overdraw: bool = False
    reserve: bool = False
    streamed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolDepth:
    """One kind as it stands. Ages in seconds; `dropped` counts since this spool was opened."""

    entries: int = 0
    size_bytes: int = 0
    oldest_s: float = 0.0
    dead: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who wants to know of a kind: called after entries were put, and with each dead letter; must not block."""

    on_put: Callable[[], object]
    on_dead: Callable[[DeadEntry], object]
