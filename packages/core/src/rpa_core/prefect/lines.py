"""Log records on their way to Prefect: gathered where they are logged, cut into batches elsewhere."""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import UTC, datetime
from typing import NamedTuple

from rpa_core.observability.redaction import Redactor
from rpa_core.prefect.entries import Line
from rpa_core.prefect.model import timestamp

BATCH_LINES = 500
BATCH_CHARS = 400_000  # well below the 1 MB that a reverse proxy lets through and the 4 MB of the SDK
_LINE_CHARS = 25_000  # Prefect Cloud takes no longer ones
_MOST_WAITING = 10_000
_MICROSECOND = 1_000_000
# Whoever carries reports must not be reported on: each request would be followed by another one.
_OWN = ("httpx", "httpcore", "rpa.prefect", "rpa.spool", "prefect")


class _Raw(NamedTuple):
    name: str
    level: int
    text: str
    at_us: int


class RunLog(logging.Handler):
    """Takes what is logged; never blocks, never raises. Where it waits too long, new lines are dropped and counted.

    What the caller pays for is one formatted text; secrets are taken out and lines cut by who takes the batch.
    Timestamps are those of the records, a microsecond later where that one is taken (also when the clock was set
    back): the server orders lines by nothing else.
    """

    def __init__(self, level: int, redactor: Redactor) -> None:
        super().__init__(level)
        self._redactor = redactor
        self._lock = threading.Lock()
        self._waiting: deque[_Raw] = deque()
        self._last_us = 0
        self._dropped = 0
        self._ended = False
        self.due = threading.Event()  # set when a whole batch waits

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the handler's lock: there is one of its own around what needs it."""
        passed = bool(self.filter(record))
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        name = record.name
        if name.startswith(_OWN) and any(name == own or name.startswith(f"{own}.") for own in _OWN):
            return
        text = _text(record)
        with self._lock:
            if self._ended or len(self._waiting) >= _MOST_WAITING:
                self._dropped += not self._ended
                return
            at_us = max(self._last_us + 1, round(record.created * _MICROSECOND))
            self._last_us = at_us
            self._waiting.append(_Raw(name, record.levelno, text, at_us))
            if len(self._waiting) == BATCH_LINES:
                self.due.set()

    def take(self) -> list[Line]:
        """The next batch, oldest first, without secrets; empty when nothing waits."""
        with self._lock:
            taken: list[_Raw] = []
            size = 0
            while self._waiting and len(taken) < BATCH_LINES:
                size += min(len(self._waiting[0].text), _LINE_CHARS)
                if taken and size > BATCH_CHARS:
                    break
                taken.append(self._waiting.popleft())
            dropped, self._dropped = self._dropped, 0
            if dropped:
                self._last_us += 1
                text = f"{dropped} lines are left out: more was logged than could be kept"
                self._waiting.append(_Raw("rpa.log", logging.WARNING, text, self._last_us))
        return [Line(raw.name, raw.level, _cut(self._redactor.text(raw.text)), _time(raw.at_us)) for raw in taken]

    def lost(self, lines: int) -> None:
        """So many lines were taken and could not be kept: the next batch says so."""
        with self._lock:
            self._dropped += lines

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be taken."""
        return not self._waiting

    def end(self) -> None:
        """What is logged from now on is not part of the run."""
        with self._lock:
            self._ended = True


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001 - a wrong format string must not fail the work that it reports
        text = f"{record.msg!s} (its arguments do not fit: {type(error).__name__})"
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}\n{_FORMAT.formatException(record.exc_info)}"
    return text


_FORMAT = logging.Formatter()


def _cut(text: str) -> str:
    text = text.replace("\0", "").encode("utf-8", "replace").decode()
    if len(text) <= _LINE_CHARS:
        return text
    half = _LINE_CHARS // 2 - 30
    return f"{text[:half]} … {len(text) - 2 * half} characters left out … {text[-half:]}"


def _time(at_us: int) -> str:
    seconds, microseconds = divmod(at_us, _MICROSECOND)
    return timestamp(datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds))
