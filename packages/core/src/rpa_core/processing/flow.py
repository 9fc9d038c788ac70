"""What a flow is: a name, a handler, and where its results go next."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rpa_core.checkpoints import Checkpoints
from rpa_core.processing.outcome import Done, Outcome
from rpa_core.resilience.breaker import CircuitBreaker

if TYPE_CHECKING:
    import psycopg
    from pydantic_settings import BaseSettings

    from rpa_core.store.database import Database

_UNREAD = object()


class Record:
    """One immutable input record.

    `id` is unique in the database, `key` unique in its flow (or None), `attempt` counts from 1. `raw` is the
    payload as stored: JSON text in UTF-8.
    """

    __slots__ = ("_payload", "attempt", "id", "key", "raw")

    def __init__(self, id: int, key: str | None, raw: bytes, attempt: int = 1) -> None:  # noqa: A002 - the field's name
        self.id = id
        self.key = key
        self.raw = raw
        self.attempt = attempt
        self._payload: Any = _UNREAD

    @property
    def payload(self) -> Any:
        """The decoded payload; decoded on first use."""
        if self._payload is _UNREAD:
            self._payload = orjson.loads(self.raw)
        return self._payload

    def __repr__(self) -> str:
        return f"Record(id={self.id}, key={self.key!r}, attempt={self.attempt})"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowContext:
    """What a handler may use besides the record.

    `resources` is whatever the flow's `open` yielded. `settings` is the flow's own settings model, or None.
    """

    flow: str
    resources: Any = None
    settings: Any = None

    def idempotency_key(self, record: Record, effect: str = "") -> str:
        """A key for effects outside the database: the same for every attempt at this record."""
        suffix = f":{effect}" if effect else ""
        return f"{self.flow}:{record.id}{suffix}"


def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="rpa-"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenContext:
    """What a flow's `open` gets: its settings, and the databases by name.

    A flow connects by `databases[name].connect(...)`: so it waits for a database that is away like everybody else in
    the process, and a TransientError of its handler gives the records back untried.

    A flow with effects of its own reaches `checkpoints` at FLOW_EFFECT_DONE, between its effect and its outcome.
    `breaker` gives the process's one breaker of a service by its name: for what the flow reaches by itself.
    `temporary` makes a folder that is removed at the end of the worker, or by a later one where it was killed.
    """

    flow: str
    settings: Any
    databases: Mapping[str, Database]
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    temporary: Callable[[], Path] = field(default=_temporary)
    breaker: Callable[[str], CircuitBreaker] = CircuitBreaker


Handler = (
    Callable[[Record, FlowContext], Outcome]
    | Callable[[Record, FlowContext], Awaitable[Outcome]]
    | Callable[[Sequence[Record], FlowContext], Sequence[Outcome]]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A flow, as data.

    handle      `(record, context) -> Outcome`, plain or `async`; with `batch=True`,
                `(records, context) -> outcomes`, one per record in the same order.
    open        opens what the handler needs, once per worker; closed when the worker stops.
    effects     runs on the completing transaction's connection after the fence, with the records that are done:
                what it writes commits with their outcomes, exactly once.
    next_flow   every Done's data becomes a record of this flow, under the same key, in the same transaction.
    concurrency how many records an `async` handler works on at once.
    settings    a pydantic-settings model with `env_prefix="CONTAINER_"` for the flow's own variables.
    check_columns
                given the columns of a CSV file and the flow's settings, what is wrong with them: such a file is
                refused as a whole instead of line by line.
    files       given the flow's settings, the files that they name: when one changes, the worker drains and goes on
                with the new one.
    validate    given the flow's settings, raises ConfigError for what these files are wrong in; asked before a drain
                for a changed file, so that a bad one stops nobody.
    databases   names of the databases beyond `rpa_db` that the flow needs.
    migrations  (name of a database, package with its `NNNN_name.sql` files): what `rpa db migrate` applies there.
    """

    name: str
    handle: Handler
    batch: bool = False
    next_flow: str | None = None
    open: Callable[[OpenContext], AbstractContextManager[Any]] | None = None
    effects: Callable[[psycopg.Connection[Any], Sequence[tuple[Record, Done]]], None] | None = None
    concurrency: int = 32
    settings: type[BaseSettings] | None = None
    check_columns: Callable[[Sequence[str], Any], Sequence[str]] | None = None
    files: Callable[[Any], Sequence[Path]] | None = None
    validate: Callable[[Any], object] | None = None
    databases: tuple[str, ...] = ()
    migrations: tuple[tuple[str, str], ...] = ()
    is_async: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_async", inspect.iscoroutinefunction(self.handle))
