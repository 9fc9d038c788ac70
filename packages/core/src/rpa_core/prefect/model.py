"""What is reported: a run, its counts, how it ended."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import orjson

from rpa_core.version import VERSION

KIND = "prefect"  # of the spool's entries and notes
EndState = Literal["completed", "failed", "crashed", "cancelled"]
_NAMESPACE = uuid.UUID("5f2b8a86-6a0c-5d29-9f0e-0f4c7f1f3c11")  # of local runs; any fixed one will do


class Counts(NamedTuple):
    """Records since the container started, by what became of them."""

    done: int = 0
    retried: int = 0
    set_aside: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One life of a container as Prefect gets to know it; every entry carries it whole.

    `id` is a UUID that is fixed by flow and owner, `started_at` an RFC 3339 time.
    """

    id: str
    flow: str
    name: str
    host: str
    version: str
    incarnation: str
    started_at: str

    @property
    def idempotency_key(self) -> str:
        return f"{self.flow}:{self.id}"

    def unique(self, what: str) -> str:
        """A UUID that is always the same for `what` of this run."""
        return str(uuid.uuid5(uuid.UUID(self.id), what))

    def encoded(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def decoded(cls, fields: Any) -> Run:
        """Raises ValueError for what is no run."""
        try:
            return cls(**(orjson.loads(fields) if isinstance(fields, bytes) else fields))
        except TypeError as error:
            raise ValueError(f"not a run: {error}") from error


def new_run(*, flow: str, owner: str, host: str, now: datetime) -> Run:
    """The run of the incarnation `owner` (label:hex)."""
    return Run(
        id=str(uuid.uuid5(_NAMESPACE, f"{flow}:{owner}")),
        flow=flow,
        name=f"{flow}-{owner}".replace(":", "-"),
        host=host,
        version=VERSION,
        incarnation=owner,
        started_at=timestamp(now),
    )


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as Prefect reads and writes them."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
