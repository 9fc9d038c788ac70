"""A log handler that never blocks its caller: a bounded queue, and a thread that writes."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from typing import Protocol

from rpa_core.observability.printable import ESCAPING


class Stream(Protocol):
    """Where lines go: stdout, or rotated files."""

    def write(self, text: str, /) -> object:
        """Take whole lines."""
        ...

    def flush(self) -> object:
        """Pass on what is held back."""
        ...


class QueueWriter(logging.Handler):
    """Formats in the caller's thread (arguments may change later), writes in its own.

    When the stream blocks and the queue is full, records are dropped and counted; the next one that gets through
    is followed by a line that says how many.
    """

    def __init__(self, stream: Stream, formatter: logging.Formatter, limit: int) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._stream = stream
        self._limit = limit
        self._lines: deque[str] = deque()
        self._change = threading.Condition(threading.Lock())
        self._written = self._taken = 0
        self._reported = 0
        self.dropped = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="rpa-log-writer", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the handler's lock: the queue has its own, and formatting may run in parallel."""
        passed = bool(self.filter(record))
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the formatted record; never raises, never waits for the stream."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a log call must not fail its caller; the loss is reported
            line = f'{{"log.level":"error","message":"a log record could not be formatted: {type(error).__name__}"}}'
        with self._change:
            if len(self._lines) >= self._limit or self._stopping:
                self.dropped += 1
                return
            self._lines.append(line)
            self._taken += 1
            self._change.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until what was queued before this call is written."""
        with self._change:
            goal = self._taken
            return self._change.wait_for(lambda: self._written >= goal or not self._thread.is_alive(), timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Write the rest and end the thread, as far as the stream allows within the time; whether it has ended."""
        self.drain(timeout_s)
        with self._change:
            self._stopping = True
            self._change.notify_all()
        self._thread.join(timeout_s)
        self.close()
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._lines) or self._stopping)
                if not self._lines:
                    return
                lines = list(self._lines)
                self._lines.clear()
                lost, self._reported = self.dropped - self._reported, self.dropped
            if lost:
                lines.append(self._loss(lost))
            # A closed or broken stream: there is nowhere left to say so, and work must go on.
            with contextlib.suppress(OSError, ValueError):
                self._write("\n".join(lines) + "\n")
                self._stream.flush()
            with self._change:
                self._written += len(lines) - bool(lost)
                self._change.notify_all()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:  # a stdout in Latin-1 or ASCII: escapes, and not lines that are missing
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            self._stream.write(text.encode(encoding, ESCAPING).decode(encoding))

    def _loss(self, lost: int) -> str:
        record = logging.LogRecord(
            "rpa.log",
            logging.WARNING,
            __file__,
            0,
            "%d log records were dropped: the stream was blocked",
            (lost,),
            None,
        )
        record.__dict__.update({"event.action": "log.dropped", "rpa.dropped": lost})
        return self.format(record)
