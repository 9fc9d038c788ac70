"""What became of a record: a closed set of values, returned by handlers, never raised.

They are tuples rather than frozen dataclasses: one is made per record, and a tuple costs half as much.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Emit(NamedTuple):
    """A record for another flow, enqueued in the transaction that commits this record's outcome."""

    flow: str
    payload: Any
    key: str | int | None = None


class Done(NamedTuple):
    """The record succeeded. `data` is its one result: JSON, taken as it is when the handler returns."""

    data: Any = None
    emit: tuple[Emit, ...] = ()


class Retry(NamedTuple):
    """The record failed for now. It comes back after a backoff, or after `after_s` seconds where that is longer."""

    reason: str
    after_s: float | None = None


class SetAside(NamedTuple):
    """The record can never succeed. It becomes a dead letter with every reason, and can be put back."""

    reasons: tuple[str, ...]


Outcome = Done | Retry | SetAside
