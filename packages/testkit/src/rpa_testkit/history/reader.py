"""Reading a history, in constant memory; a tail that was cut off by a crash is said, not guessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from rpa_testkit.history.entries import Entry, Header

HISTORY = "history.jsonl"
SCHEDULE = "schedule.jsonl"
VERDICT = "verdict.json"


class HistoryError(ValueError):
    """The file is no history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A run's history on disk. Iterating reads the file anew."""

    path: Path
    header: Header

    @classmethod
    def open(cls, path: Path) -> History:
        """Of a file, or of a run's folder."""
        file = path / HISTORY if path.is_dir() else path
        try:
            with file.open("rb") as lines:
                given = orjson.loads(lines.readline())
            if given.get("format") != 1:
                raise HistoryError(f"{file}: format {given.get('format')!r}, this version reads 1")
            return cls(path=file, header=Header(**{**given, "checkers": tuple(given["checkers"])}))
        except FileNotFoundError:
            raise HistoryError(f"{path}: no {HISTORY} there; give a run's folder or its history file") from None
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError) as error:
            raise HistoryError(f"{file} does not begin with a history's header: {error}") from None

    def __iter__(self) -> Iterator[Entry]:
        """Entries in order. HistoryError names the line that cannot be read, a cut-off last one included."""
        loads, make = orjson.loads, Entry._make
        with self.path.open("rb") as lines:
            next(lines)
            for number, line in enumerate(lines, 2):
                try:
                    yield make(loads(line))
                except (orjson.JSONDecodeError, TypeError) as error:
                    raise HistoryError(f"{self.path}:{number} cannot be read: {error}") from None
