"""TestDataManager: databases filled with realistic records, and emptied again."""

from __future__ import annotations

import importlib
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from rpa_core.errors import UsageError
from rpa_core.store.intake import NewRecord
from rpa_testkit.suite import hostile, survey

Tally = Counter[str]
Make = Callable[[int, int, Tally], Iterator[NewRecord]]
Rows = Callable[[int, int], Iterable[NewRecord | Mapping[str, Any]]]
"""Called with the number of records and the seed; gives records, or their payloads."""

FAULTY_SHARE = 0.02
DUPLICATE_SHARE = 0.05
_COMMENT_SHARE = 0.2
_LARGE = (8 * 1024, 48 * 1024)  # bytes of a transcript
_LOCK_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DataScenario:
    """A kind of records. `make` is called with how many, the seed, and a tally of what was made on purpose."""

    name: str
    about: str
    make: Make


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a load did. `made` counts what was made on purpose: faults by kind, duplicates. `took_s` is all of it."""

    scenario: str
    flow: str
    records: int
    accepted: int
    duplicates: int
    took_s: float
    made: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows_per_s(self) -> float:
        """Records per second, their making included."""
        return self.records / self.took_s if self.took_s > 0 else math.inf


class TestDataManager:
    """Fills databases, and empties them. The same seed makes the same records."""

    __test__ = False  # nothing for pytest to collect

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed

    @property
    def scenarios(self) -> Mapping[str, DataScenario]:
        """The kinds of records, by name."""
        return SCENARIOS

    def records(self, scenario: str = "survey", records: int = 10_000) -> Iterator[NewRecord]:
        """The records of a scenario, in constant memory; LookupError names those there are."""
        return _find(scenario).make(records, self.seed, Counter())

    def load(
        self,
        dsn: str,
        scenario: str = "survey",
        *,
        records: int = 10_000,
        flow: str = "probe",
        rows: Rows | str | None = None,
        key: str | None = None,
    ) -> Loaded:
        """Fill the migrated ledger at `dsn`, committed by the hundred thousand; ready for workers of `flow`.

        rows   a source of one's own instead of the scenario: a callable, or "module:function".
        key    the field of a row that is its record's key; rows without one are never duplicates.
        """
        from rpa_core.store.connect import connect
        from rpa_testkit.suite.load import load

        if records < 0:
            raise UsageError(f"records is {records}; give 0 or more")
        tally: Tally = Counter()
        began = time.perf_counter()
        if rows is None:
            made = _find(scenario).make(records, self.seed, tally)
        else:
            scenario, made = _name(rows), _of_rows(_function(rows)(records, self.seed), key)
        counted = _Counting(made)
        with connect(dsn, application_name="rpa-testkit data") as connection:
            done = load(connection, flow, counted)
        return Loaded(
            scenario=scenario,
            flow=flow,
            records=counted.number,
            accepted=done.accepted,
            duplicates=done.duplicates,
            took_s=time.perf_counter() - began,
            made=dict(sorted(tally.items())),
        )

    def reset(self, dsn: str, *, schemas: Sequence[str] = ("rpa", "testkit")) -> None:
        """Empty every table of these schemas and begin to count anew; tables, functions and migrations stay.

        Periods that were closed go with their partitions. Nobody may be at work: UsageError after ten seconds.
        """
        from rpa_testkit.suite.empty import empty

        empty(dsn, schemas, lock_s=_LOCK_S)


class _Counting:
    """Counts what passes through."""

    def __init__(self, records: Iterable[NewRecord]) -> None:
        self._records = records
        self.number = 0

    def __iter__(self) -> Iterator[NewRecord]:
        for self.number, record in enumerate(self._records, 1):  # noqa: B020 - a plain attribute, counted while it runs
            yield record


def _clean(number: int, seed: int, tally: Tally) -> Iterator[NewRecord]:
    return survey.records(number, seed)


def _faulty(number: int, seed: int, tally: Tally) -> Iterator[NewRecord]:
    """What a codebook's check must set aside."""
    rand = _random("faulty", seed)
    chance, kinds = rand.random, tuple(_SPOILS)
    for record in survey.records(number, seed):
        if chance() < FAULTY_SHARE:
            kind = rand.choice(kinds)
            tally[kind] += 1
            answers = orjson.loads(record.payload)
            _SPOILS[kind](answers)
            record = NewRecord(orjson.dumps(answers), record.key)
        yield record


def _duplicates(number: int, seed: int, tally: Tally) -> Iterator[NewRecord]:
    """Records that come again, most of them soon, some late."""
    rand = _random("duplicates", seed)
    chance = rand.random
    recent: list[NewRecord] = []
    fresh = survey.records(number, seed)
    for _ in range(number):
        if recent and chance() < DUPLICATE_SHARE:
            tally["duplicate"] += 1
            yield rand.choice(recent)
            continue
        record = next(fresh)
        if len(recent) < 5_000:
            recent.append(record)
        elif chance() < 0.1:
            recent[rand.randrange(len(recent))] = record
        yield record


def _hostile(number: int, seed: int, tally: Tally) -> Iterator[NewRecord]:
    rand = _random("hostile", seed)
    for record in survey.records(number, seed):
        if rand.random() < _COMMENT_SHARE:
            tally["hostile"] += 1
            record = _with(record, "comment", rand.choice(hostile.TEXTS))
        yield record


def _large(number: int, seed: int, tally: Tally) -> Iterator[NewRecord]:
    """A transcript of the interview with each."""
    rand = _random("large", seed)
    for record in survey.records(number, seed):
        tally["large"] += 1
        yield _with(record, "transcript", _prose(rand.randint(*_LARGE), rand))


def _skewed(number: int, seed: int, tally: Tally) -> Iterator[NewRecord]:
    """A few sampling points have most of the respondents, and a few respondents wrote most of the text."""
    rand = _random("skewed", seed)
    points = range(1, 201)
    weights = [1 / point for point in points]
    drawn = iter(rand.choices(points, weights, k=number))
    for record in survey.records(number, seed):
        length = min(20_000, int(rand.paretovariate(0.9)) - 1)
        tally["comment"] += bool(length)
        answers = orjson.loads(record.payload) | {"point": next(drawn)}
        yield NewRecord(orjson.dumps(answers | {"comment": _prose(length, rand)} if length else answers), record.key)


_SENTENCE = "the state of things is what it was and people say that taxes prices jobs schools and care matter "
_TEXT = _SENTENCE * 600


def _prose(length: int, rand: random.Random) -> str:
    start = rand.randrange(len(_TEXT) // 8)
    return _TEXT[start : start + length]


def _with(record: NewRecord, name: str, text: str) -> NewRecord:
    return NewRecord(b'%s,"%s":%s}' % (record.payload[:-1], name.encode(), orjson.dumps(text)), record.key)


def _random(name: str, seed: int) -> random.Random:
    return random.Random(f"{name}:{seed}")  # noqa: S311 - made-up answers, nothing secret


def _drop_age(answers: dict[str, Any]) -> None:
    del answers["age"]


_SPOILS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "missing-required": _drop_age,
    "out-of-range": lambda answers: answers.update(tv_days=9),
    "wrong-type": lambda answers: answers.update(age="forty"),
    "unknown-column": lambda answers: answers.update(q99=1),
}

SCENARIOS: Mapping[str, DataScenario] = MappingProxyType(
    {
        scenario.name: scenario
        for scenario in (
            DataScenario(name="survey", about="an election study as it should be", make=_clean),
            DataScenario(name="faulty", about="2 % of the answers are missing, impossible or unknown", make=_faulty),
            DataScenario(name="duplicates", about="5 % of the records come again under their key", make=_duplicates),
            DataScenario(name="hostile", about="a fifth carries a text that breaks careless readers", make=_hostile),
            DataScenario(name="large", about="each carries a transcript of 8 to 48 KiB", make=_large),
            DataScenario(name="skewed", about="few places have most records, few records most text", make=_skewed),
        )
    }
)


def _find(name: str) -> DataScenario:
    try:
        return SCENARIOS[name]
    except KeyError:
        raise LookupError(f"no data are called {name!r}; there are {', '.join(SCENARIOS)}") from None


def _name(rows: Rows | str) -> str:
    return rows if isinstance(rows, str) else getattr(rows, "__name__", type(rows).__name__)


def _function(rows: Rows | str) -> Rows:
    if not isinstance(rows, str):
        return rows
    module, _, name = rows.partition(":")
    try:
        found: Rows = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"rows {rows!r} cannot be loaded: {error}; give module:function") from error
    return found


def _of_rows(rows: Iterable[NewRecord | Mapping[str, Any]], key: str | None) -> Iterator[NewRecord]:
    for row in rows:
        if isinstance(row, NewRecord):
            yield row
        else:
            yield NewRecord(orjson.dumps(row), None if key is None else str(row[key]))
