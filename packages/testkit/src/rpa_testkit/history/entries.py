"""The history of a run: one JSON array a line, append-only. Whatever is said about a run is read from here.

The first line is the header, an object. Every other line is `[seq, t, actor, kind, op, key, value]`: seq counts from 1,
t is seconds since the run began (monotonic), the rest is told by kind and op:

    kind      op        key            value
    invoke    enqueue   first serial   n: serials key..key+n-1 are about to be enqueued for the workload's flow
    ok        enqueue   first serial   n: committed
    fail      enqueue   first serial   n: certainly not committed
    info      enqueue   first serial   n: unknown whether committed (a broken connection, a timeout)
    fault     <phase>   event id       object: kind, target, params, and what was seen; see Phase
    node      <what>    node's name    object; started, ready, exited {code, expected}, unhealthy, oom ...
    metric    sample    null           object; see Sample
    probe     lease     chunk id       [owner, epoch, left_s]: a lease seen in the ledger; left_s < 0 has run out
    probe     <name>    ...            a condition that was looked at
    outcome   record    serial         Outcome as an array
    observe   schedule  null           [[event id, kind], ...]: what is to come
    observe   ended     what was asked [records that came, dead letters, of these without a reason, some keys]
    observe   stand-in  dependency     why it is not the real one
    observe   life      incarnation    {node, drained}: a worker that began its work, and whether it ended in order
    observe   prefect-run  flow run    {incarnation, name, state, and how its lines differ}; then `prefect` {runs}
    observe   spool     file           {waiting, dead}: entries by kind; `spools` {files} when all were looked at
    observe   alert     fingerprint    {name, labels}: seen at Alertmanager; `alert-over` when it is there no more
    observe   <what>    ...            what was found after the drain: contradiction, connections, processes, chunk
    mark      <what>    null           begun, workload-done, healed, drained, not-drained, ended or interrupted

An acknowledged operation has `ok`; one whose answer never came has `info` and stays open for ever: then both "it
happened" and "it did not" are legal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Kind(StrEnum):
    """What a line is about."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    INFO = "info"
    FAULT = "fault"
    NODE = "node"
    METRIC = "metric"
    PROBE = "probe"
    OUTCOME = "outcome"
    OBSERVE = "observe"
    MARK = "mark"


class Phase(StrEnum):
    """A fault's life, in this order; `not-run` stands alone."""

    INJECT = "inject"
    INJECTED = "injected"
    VERIFIED = "verified"
    UNVERIFIED = "unverified"  # injected, but no effect could be seen: the run is unknown
    HEAL = "heal"
    HEALED = "healed"  # verified healed
    UNHEALED = "unhealed"
    NOT_RUN = "not-run"  # the driver cannot inject it here; the value's `why` says so


class Entry(NamedTuple):
    """One line."""

    seq: int
    t: float
    actor: str
    kind: str
    op: str
    key: Any = None
    value: Any = None


class Outcome(NamedTuple):
    """What the database holds of one record after the drain; one line per record (a tuple, as there are millions).

    results, effects, dead, chunks  how many rows of each: results, committed effects, dead letters, unfinished chunks.
    effects is -1 where the flow writes none. `writer` is the worker that computed the result, `owner` the one under
    whose lease its chunk ended. Times are seconds since the run began; `done` is None without an outcome.
    """

    results: int
    effects: int
    dead: int
    chunks: int
    writer: str | None
    owner: str | None
    enqueued: float
    done: float | None


class Sample(NamedTuple):
    """The value of `metric sample`, stored as an object: the run at one moment.

    done, dead, waiting, leased are records; connections are those of workers; nodes: name -> [rss_bytes, cpu_s, up].
    None where the database could not be asked.
    """

    done: int | None
    dead: int | None
    waiting: int | None
    leased: int | None
    connections: int | None
    nodes: dict[str, tuple[int, float, bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What was run: enough to run it again and to judge it anew.

    `spec` is what finds the scenario again: its name in the library, or module:ATTRIBUTE.
    """

    run_id: str
    scenario: str
    driver: str
    seed: int
    started_at: str
    checkers: tuple[str, ...] = ()
    workload: Mapping[str, Any] = field(default_factory=dict)
    steady_state: Mapping[str, float] = field(default_factory=dict)
    topology: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    replay: str = ""
    spec: str = ""
    format: int = 1
