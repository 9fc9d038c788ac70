"""Made-up responses of any number that keep the joint structure of real ones.

Method: each row starts from a real respondent drawn at random with replacement (a smoothed bootstrap), so that answers
that go together in the data go together here. Then single answers move: with the probability `share` that the codebook
gives in `[jitter]`, by 1 to `steps`, up or down with equal chance, held inside the field's range. Fields without jitter
keep the real answer. A row gets a key of its own.

A `fault_share` of the rows carries one fault each, of the kinds in `Fault`, in equal shares: four that validation must
set aside, two that scoring must flag. A fault the codebook leaves no room for (no range to leave, no flag to raise) is
not used. The same codebook, rows, seed and number give the same responses on every machine.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from importlib import resources
from pathlib import Path

import orjson

from rpa_flows.codebook.model import Codebook, IntegerField, Jitter, MissingShare, NumberField, StraightLine, span

Row = dict[str, str]

_VARIANTS = 1024  # variants of an answer prepared per value: probabilities are exact to 1/1024


class Fault(StrEnum):
    """What is wrong with a made-up row. The first four must be set aside, the last two flagged."""

    MISSING_REQUIRED = "missing-required"
    OUT_OF_RANGE = "out-of-range"
    WRONG_TYPE = "wrong-type"
    UNKNOWN_COLUMN = "unknown-column"
    STRAIGHT_LINE = "straight-line"
    MANY_MISSING = "many-missing"

    @property
    def set_aside(self) -> bool:
        """Whether validation must refuse the row; otherwise scoring must flag it."""
        return self not in (Fault.STRAIGHT_LINE, Fault.MANY_MISSING)


def real_rows(book: Codebook, path: Path | None = None) -> list[Row]:
    """The rows of a survey file in the codebook's form, as text by column name; by default the shipped one."""
    source = path or resources.files("rpa_flows.data").joinpath(f"{book.name}.csv")
    lines = io.StringIO(source.read_bytes().decode(book.encoding), newline="")
    return list(csv.DictReader(lines, delimiter=book.delimiter, quotechar=book.quote))


def generate(
    book: Codebook, rows: Sequence[Row], number: int, *, seed: int = 1, fault_share: float = 0.02
) -> Iterator[Row]:
    """`number` made-up rows, text by column name, in constant memory."""
    return (row for row, _ in generate_labelled(book, rows, number, seed=seed, fault_share=fault_share))


def generate_labelled(
    book: Codebook, rows: Sequence[Row], number: int, *, seed: int = 1, fault_share: float = 0.02
) -> Iterator[tuple[Row, Fault | None]]:
    """The same rows, each with the fault it carries."""
    rng = random.Random(seed)  # noqa: S311 - made-up answers, nothing secret
    bits, pick = rng.getrandbits, rng.random
    respondents = [dict(row) for row in rows]
    count = len(respondents)
    tables = [(name, _variants(book, name, jitter, rows, rng)) for name, jitter in book.jitter.items()]
    key_field = next((name for name in book.key if name not in rows[0]), book.key[0] if book.key else None)
    faults = _faults(book)
    for serial in range(1, number + 1):
        row = respondents[int(pick() * count)].copy()
        for name, table in tables:
            row[name] = table[row[name]][bits(10)]
        if key_field is not None:
            row[key_field] = f"g{seed}-{serial:08d}"
        fault = None
        if faults and pick() < fault_share:
            fault = rng.choice(list(faults))
            faults[fault](row, rng)
        yield row, fault


def write_delimited(path: Path, book: Codebook, rows: Iterable[Row]) -> int:
    """Write rows as delimited text in the codebook's form, with a header; returns how many.

    Every field of the codebook is a column, and so is whatever else the first row has. Other columns of later rows are
    dropped: a delimited file has one header.
    """
    with path.open("w", encoding=book.encoding, newline="") as lines:
        written = 0
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                columns = list(dict.fromkeys((*row, *book.fields)))
                writer = csv.DictWriter(
                    lines,
                    columns,
                    restval="",
                    extrasaction="ignore",
                    delimiter=book.delimiter,
                    quotechar=book.quote,
                    lineterminator="\n",
                )
                writer.writeheader()
            writer.writerow(row)
            written += 1
    return written


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows as JSON lines; returns how many."""
    written = 0
    with path.open("wb") as lines:
        for row in rows:
            lines.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            written += 1
    return written


def _variants(
    book: Codebook, name: str, jitter: Jitter, rows: Sequence[Row], rng: random.Random
) -> dict[str, list[str]]:
    """For each answer in the data, the answers it becomes, in the stated proportions."""
    bounds = span(book.fields[name])
    low, high = bounds or (float("-inf"), float("inf"))
    codes = {str(code) for code in (*book.missing, *book.fields[name].missing)}
    moved = round(jitter.share * _VARIANTS)

    def variants(answer: str) -> list[str]:
        try:
            value = float(answer)
        except ValueError:
            value = float("nan")
        if answer in codes or not low <= value <= high:
            return [answer] * _VARIANTS  # a missing-value code stays what it is
        steps = [rng.choice((-1, 1)) * rng.randint(1, jitter.steps) for _ in range(moved)]
        shifted = [f"{min(high, max(low, value + step)):g}" for step in steps]
        return [*shifted, *([answer] * (_VARIANTS - moved))]

    return {answer: variants(answer) for answer in sorted({row[name] for row in rows})}


_Spoil = Callable[[Row, random.Random], None]


def _faults(book: Codebook) -> dict[Fault, _Spoil]:
    """How to put each fault into a row, for the faults this codebook can have."""
    required = [name for name, field in book.fields.items() if field.required]
    numeric = [name for name, field in book.fields.items() if isinstance(field, (IntegerField, NumberField))]
    ranged = {name: bounds for name in numeric if (bounds := span(book.fields[name])) is not None}
    straight = next((flag for flag in book.flags.values() if isinstance(flag, StraightLine)), None)
    missing = next((flag for flag in book.flags.values() if isinstance(flag, MissingShare)), None)
    spoil: dict[Fault, _Spoil] = {}
    if required:
        spoil[Fault.MISSING_REQUIRED] = lambda row, rng: _put(row, rng.choice(required), "")
    if ranged:

        def leave_range(row: Row, rng: random.Random) -> None:
            name = rng.choice(list(ranged))
            _put(row, name, f"{ranged[name][1] + rng.randint(100, 999):g}")

        spoil[Fault.OUT_OF_RANGE] = leave_range
    if numeric:
        spoil[Fault.WRONG_TYPE] = lambda row, rng: _put(row, rng.choice(numeric), rng.choice(("n/a", "?", "1O")))
    if book.unknown_columns == "refuse":
        spoil[Fault.UNKNOWN_COLUMN] = lambda row, rng: _put(row, "interviewer_note", "called twice")
    if straight is not None:
        anchor = next((name for name in straight.fields if name in required), straight.fields[0])

        def answer_the_same(row: Row, rng: random.Random) -> None:
            row.update(dict.fromkeys(straight.fields, row[anchor]))

        spoil[Fault.STRAIGHT_LINE] = answer_the_same
    if missing is not None:
        optional = [name for name in missing.fields if name not in required]
        if len(optional) >= missing.at_least * len(missing.fields):
            spoil[Fault.MANY_MISSING] = lambda row, rng: row.update(dict.fromkeys(optional, ""))
    return spoil


def _put(row: Row, name: str, value: str) -> None:
    row[name] = value
