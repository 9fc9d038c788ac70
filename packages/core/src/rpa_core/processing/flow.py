"""What a flow is: a name, a handler, and where its results go next."""

from __future__ import annotations

import functools
import inspect
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from rpa_core.checkpoints import Checkpoints
from rpa_core.errors import UsageError
from rpa_core.processing.encoding import LONG, ZEROS, decode
from rpa_core.processing.outcome import Done, Outcome
from rpa_core.resilience.breaker import CircuitBreaker

if TYPE_CHECKING:
    import psycopg
    from pydantic_settings import BaseSettings

    from rpa_core.store.database import Database

_UNREAD = object()
_SMALL = object()  # not read yet, and known to hold no integer of more than 64 bits
_BLOCK = 100


class Record:
    """One input record; its attributes cannot be set.

    `id` is unique in the database, `key` unique in its flow (or None), `attempt` counts from 1. `raw` is the
    payload as stored: JSON text in UTF-8.
    """

    __slots__ = ("_attempt", "_id", "_key", "_payload", "_raw")

    def __init__(self, id: int, key: str | None, raw: bytes, attempt: int = 1) -> None:  # noqa: A002 - the field's name
        self._id = id
        self._key = key
        self._raw = raw
        self._attempt = attempt
        self._payload: Any = _UNREAD

    if TYPE_CHECKING:

        @property
        def id(self) -> int: ...
        @property
        def key(self) -> str | None: ...
        @property
        def raw(self) -> bytes: ...
        @property
        def attempt(self) -> int: ...
    else:  # without a Python frame for each use
        id = property(attrgetter("_id"))
        key = property(attrgetter("_key"))
        raw = property(attrgetter("_raw"))
        attempt = property(attrgetter("_attempt"))

    @property
    def payload(self) -> Any:
        """The decoded payload; decoded on first use. Raises ValueError for a number that cannot be read exactly."""
        payload = self._payload
        if payload is _SMALL:
            payload = self._payload = orjson.loads(self._raw)
        elif payload is _UNREAD:
            payload = self._payload = decode(self._raw)
        return payload

    def __repr__(self) -> str:
        return f"Record(id={self._id}, key={self._key!r}, attempt={self._attempt})"


def records_of(rows: Iterable[tuple[int, str | None, bytes]], attempts: Iterable[int]) -> Iterator[Record]:
    """A fresh Record for each stored one, made when it is asked for."""
    new, stored, tries = object.__new__, iter(rows), iter(attempts)
    while block := list(islice(stored, _BLOCK)):
        joined = b" ".join([row[2] for row in block])  # one look for large numbers is cheaper than many
        unread = _UNREAD if joined.translate(ZEROS).find(LONG) >= 0 else _SMALL
        for (number, key, raw), attempt in zip(block, tries, strict=False):
            record = new(Record)  # without the call of __init__, which costs as much as all the rest
            record._id = number
            record._key = key
            record._raw = raw
            record._attempt = attempt
            record._payload = unread
            yield record


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
    | Callable[[Sequence[Record], FlowContext], Iterable[Outcome]]
    | Callable[[Sequence[Record], FlowContext], Awaitable[Iterable[Outcome]]]
)
KnownKey = Literal["keep", "error", "new key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A flow, as data. What cannot work is refused when it is made: UsageError.

    handle      `(record, context) -> Outcome`, plain or `async`; with `batch=True`,
                `(records, context) -> outcomes`, one per record in the same order.
    open        opens what the handler needs, once per worker; closed when the worker stops.
    effects     runs on the completing transaction's connection after the fence, with the records that are done:
                what it writes commits with their outcomes, exactly once.
    next_flow   every Done's data becomes a record of this flow, under the same key, in the same transaction.
    known_key   what happens where `next_flow` or an Emit meets a key that the other flow already has:
                `keep`     the record there stays, this one is not handed on; counted and logged
                `error`    this record becomes a dead letter instead
                `new key`  it is handed on under a key of its own: `KEY~FLOW.ID` of the record it comes from
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
    known_key: KnownKey = "keep"
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
        for problem in self._problems():
            raise UsageError(f"flow {self.name!r}: {problem}")
        object.__setattr__(self, "is_async", _is_coroutine_function(self.handle))

    def _problems(self) -> Iterator[str]:
        given: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}  # of whatever type
        from rpa_core.store.intake import check_flow_name  # which loads the driver: not for who only imports this

        for flow in (given["name"], given["next_flow"]):
            if isinstance(flow, str):
                check_flow_name(flow)
            elif flow is not None:
                yield f"{flow!r} is no name: it must be text"
        if given["name"] is None:
            yield "it must have a name"
        if type(given["batch"]) is not bool:
            yield f"batch is {given['batch']!r}; it must be True or False"
        if type(given["concurrency"]) is not int or self.concurrency < 1:
            yield f"concurrency is {given['concurrency']!r}; it must be a whole number from 1 on"
        if given["known_key"] not in ("keep", "error", "new key"):
            yield f"known_key is {given['known_key']!r}; it must be 'keep', 'error' or 'new key'"
        if given["settings"] is not None and not isinstance(given["settings"], type):
            yield "settings must be a class, a pydantic-settings model"
        if not _is_list_of(given["databases"], str):
            yield f"databases is {given['databases']!r}; it must be a tuple of names, such as ('survey_hub',)"
        schemas = given["migrations"]
        if not _is_list_of(schemas, tuple) or not all(len(pair) == 2 and _is_list_of(pair, str) for pair in schemas):
            yield f"migrations is {schemas!r}; it must be a tuple of (name of a database, package)"
        yield from _problems_of("handle", self.handle, ("records" if self.batch else "record", "context"))
        if not self.batch and _is_any(inspect.isgeneratorfunction, self.handle):
            yield "handle yields; it must return its outcome"
        if _is_any(inspect.isasyncgenfunction, self.handle):
            yield "handle is an async generator; it must return"
        plain = {
            "open": ("context",),
            "effects": ("connection", "done"),
            "check_columns": ("columns", "settings"),
            "files": ("settings",),
            "validate": ("settings",),
        }
        for name, parameters in plain.items():
            function = given[name]
            if function is None:
                continue
            yield from _problems_of(name, function, parameters)
            if _is_coroutine_function(function) or _is_any(inspect.isasyncgenfunction, inspect.unwrap(function)):
                yield f"{name} is async; it must be a plain function"
            if name in ("open", "effects", "validate") and _is_any(inspect.isgeneratorfunction, function):
                hint = "put @contextlib.contextmanager above it" if name == "open" else "nothing of it would run"
                yield f"{name} yields: {hint}"


def _is_list_of(given: object, kind: type) -> bool:
    return isinstance(given, tuple | list) and all(isinstance(each, kind) for each in given)


def _problems_of(name: str, given: object, parameters: Sequence[str]) -> Iterator[str]:
    if not callable(given):
        yield f"{name} is {given!r}; it must be a function"
        return
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):  # written in C, or odd: the first call will show
        return
    try:
        signature.bind(*parameters)
    except TypeError as error:
        yield f"{name} is called with ({', '.join(parameters)}), which {signature} does not take: {error}"


def _is_any(test: Callable[[object], bool], function: object) -> bool:
    """Whether the test holds for a function, a partial of one, or what an instance does when it is called."""
    while isinstance(function, functools.partial):
        function = function.func
    return test(function) or (not inspect.isclass(function) and test(getattr(type(function), "__call__", None)))  # noqa: B004


def _is_coroutine_function(function: object) -> bool:
    return _is_any(inspect.iscoroutinefunction, function)
