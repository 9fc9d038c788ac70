"""What a handler returned, as it is kept: results as the bytes that are to be stored, reasons as text."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple, cast

from rpa_core.errors import describe, text_of
from rpa_core.processing.encoding import NotStorable, encode
from rpa_core.processing.outcome import Done, Emit, Retry, SetAside
from rpa_core.store.intake import FLOW_NAME, NewRecord

_MAX_REASONS = 1000
_MAX_KEY_CHARS = 512  # well under the 2,704 bytes that a PostgreSQL btree entry can hold


class Encoded(NamedTuple):
    """A Done that is more than its result: with records for other flows, or for a flow with effects (`done`)."""

    data: bytes
    emits: tuple[tuple[str, NewRecord], ...]
    done: Done


class Unstorable(NamedTuple):
    """A Done that cannot be stored."""

    reason: str


# What a handler's answer is kept as: the result's JSON text alone where that is all of it.
Taken = bytes | Encoded | Unstorable | Retry | SetAside


def taken(outcome: Any, *, bare: bool) -> Taken:
    """The outcome as it is kept. Raises NotStorable, or TypeError for what is no outcome.

    With `bare`, results need nothing but their bytes: the flow has no effects.
    """
    check(outcome)
    if isinstance(outcome, Retry):
        return _retry(outcome)
    if isinstance(outcome, SetAside):
        return SetAside(texts(outcome.reasons))
    try:
        data = encode(outcome.data)
        given = _emits(outcome.emit) if outcome.emit else ()
        if bare and not given:
            return data
        return Encoded(data, tuple(map(_encoded, given)), Done(outcome.data, given))
    except NotStorable:
        raise
    except Exception as error:  # what is in a Done may raise when it is read
        raise NotStorable(describe(error)) from error


def texts(reasons: Any) -> tuple[str, ...]:
    """Reasons as text, whatever a handler gave for them; at least one."""
    one = isinstance(reasons, str | bytes | Mapping) or not isinstance(reasons, Iterable)
    if reasons is None or (isinstance(reasons, str) and not reasons):
        return ("no reason given",)
    try:
        given = [reasons] if one else list(islice(reasons, _MAX_REASONS + 1))
    except BaseException as error:  # noqa: BLE001 - as in `text_of`
        given = [f"the reasons cannot be read: {describe(error)}"]
    if len(given) > _MAX_REASONS:
        given[-1] = f"and more: only {_MAX_REASONS:,} reasons are kept"
    return tuple(map(text_of, given)) or ("no reason given",)


def _retry(outcome: Retry) -> Retry:
    """With a reason that is text and a delay that is a number of seconds or nothing."""
    reason, after_s = cast("tuple[Any, Any]", outcome)
    seconds = after_s.total_seconds() if isinstance(after_s, timedelta) else after_s
    try:
        delay_s = float(seconds) if seconds is not None and not isinstance(seconds, str | bytes) else None
    except Exception:  # noqa: BLE001 - a handler's object; without a delay, the backoff stands
        delay_s = None
    given = "no reason given" if reason is None else text_of(reason)
    return Retry(given, delay_s if delay_s is not None and math.isfinite(delay_s) else None)


def check(outcome: Any) -> None:
    """Raises TypeError for what is no outcome."""
    if not isinstance(outcome, (Done, Retry, SetAside)):
        close_if_coroutine(outcome)
        raise TypeError(f"the handler returned {_kind(outcome)}; it must return Done, Retry or SetAside")


def close_if_coroutine(outcome: Any) -> None:
    """Raises TypeError for one that nothing awaits."""
    if inspect.iscoroutine(outcome):
        outcome.close()
        raise TypeError("the handler returned a coroutine that nothing awaits: make it a function with `async def`")


def unstorable(error: NotStorable) -> Unstorable:
    return Unstorable(f"the handler's result cannot be stored: {text_of(error)}")


def _emits(given: Any) -> tuple[Emit, ...]:
    """Raises NotStorable for what is not a sequence of Emit."""
    if isinstance(given, (Emit, Done, Retry, SetAside, str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise NotStorable(f"emit is {_kind(given)}; it must be a tuple, such as emit=(Emit(...),)")
    emits = tuple(given)
    if odd := [each for each in emits if not isinstance(each, Emit)]:
        raise NotStorable(f"emit holds {_kind(odd[0])}; it must be a tuple of Emit")
    return emits


def _encoded(emit: Emit) -> tuple[str, NewRecord]:
    """Raises NotStorable for what the database would refuse, and the other records with it."""
    flow, payload, key = cast("tuple[Any, Any, Any]", emit)
    if not isinstance(flow, str) or not FLOW_NAME.fullmatch(flow):
        raise NotStorable(f"it emits to {text_of(repr(flow))[:100]}, which no flow can be called")
    if isinstance(key, int) and not isinstance(key, bool):
        key = int.__repr__(key)
    if key is not None:
        if not isinstance(key, str):
            raise NotStorable(f"it emits under a key that is {_kind(key)}; it must be text or a whole number")
        key = str.__str__(key)
        if len(key) > _MAX_KEY_CHARS or "\0" in key or text_of(key) != key:
            raise NotStorable(f"it emits under the key {text_of(key[:40])!r}, which is too long or not text")
    try:
        return str.__str__(flow), NewRecord(encode(payload), key)
    except NotStorable as error:
        raise NotStorable(f"in what it emits to {flow}: {error}") from error


def _kind(value: object) -> str:
    return type(value).__name__
