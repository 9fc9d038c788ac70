"""Logging for a container: `configure` sets up the root logger once, `Logging.stop` flushes and undoes it.

Loggers are the standard library's, `logging.getLogger("rpa.…")`; events carry their fields in `extra`, with dotted
ECS names: `extra={"event.action": "lease.lost", "rpa.chunk": 7}`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Literal, TextIO

from rpa_core.observability.files import LogFiles
from rpa_core.observability.format import ConsoleFormatter, JsonFormatter, Service
from rpa_core.observability.hooks import Hooks
from rpa_core.observability.redaction import Redactor
from rpa_core.observability.writer import QueueWriter

logger = logging.getLogger("rpa.log")
_COPIES_S = 0.5


class OwnLines(logging.Filter):
    """Lets through every line of rpa, of the flow and of the program around it; of libraries, from warning on.

    A library is what is installed and imported under the name that its logger begins with: a client that writes a line
    for every request would otherwise be most of the log. `own` are packages that are the flow's, installed or not.
    """

    def __init__(self, own: Iterable[str] = ()) -> None:
        super().__init__()
        self._own = dict.fromkeys(("root", "rpa", "rpa_core", "__main__", *own), True)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.levelno >= logging.WARNING:
            return True
        root = record.name.partition(".")[0]
        found = self._own.get(root)
        if found is None:
            found = self._own[root] = not _is_library(root)
        return found


def _is_library(name: str) -> bool:
    place = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None) or ""
    return name in sys.stdlib_module_names or any(part in place for part in ("site-packages", "dist-packages"))


class Logging:
    """The running set-up. `dropped` counts records that a blocked stream cost; `files` are the copies in a folder.

    `own_lines` is to filter every further handler of the root logger, too.
    """

    def __init__(
        self,
        writer: QueueWriter,
        redactor: Redactor,
        hooks: Hooks,
        level: int,
        *,
        copies: QueueWriter | None = None,
        files: LogFiles | None = None,
        own_lines: OwnLines | None = None,
    ) -> None:
        self._writer, self._hooks, self._copies = writer, hooks, copies
        self.redactor = redactor
        self.files = files
        self.own_lines = own_lines or OwnLines()
        for handler in (writer, copies):
            if handler is not None:
                handler.addFilter(self.own_lines)
        root = logging.getLogger()
        self._before = (root.level, list(root.handlers))
        root.handlers = [writer, copies] if copies is not None else [writer]
        root.setLevel(level)
        hooks.install()

    @property
    def dropped(self) -> int:
        return self._writer.dropped + (self.files.dropped if self.files is not None else 0)

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until everything logged so far is written; False when the stream did not take it in time."""
        taken = self._writer.drain(timeout_s)
        if self._copies is not None:
            self._copies.drain(min(timeout_s, _COPIES_S))  # a courtesy: stdout is what counts
        return taken

    def stop(self, timeout_s: float = 2.0) -> None:
        """Flush, end the writer thread and restore what was there before. Safe to call twice."""
        root = logging.getLogger()
        self._hooks.remove()
        if self._writer in root.handlers:
            root.setLevel(self._before[0])
            root.handlers = self._before[1]
        self._writer.stop(timeout_s)
        if self._copies is not None and self._copies.stop(min(timeout_s, _COPIES_S)) and self.files is not None:
            self.files.close()


def configure(
    format: Literal["json", "console"] = "json",  # noqa: A002 - the variable's name, CONTAINER_LOG_FORMAT
    level: str = "info",
    *,
    secrets: Iterable[str] = (),
    service: Service | None = None,
    stream: TextIO | None = None,
    queue_records: int = 10_000,
    hooks: bool = True,
    files: LogFiles | None = None,
    own: Iterable[str] = (),
) -> Logging:
    """Send every log record, warning and unhandled exception through one formatter to `stream` (stdout).

    Of libraries, warnings and what is worse are written; packages named in `own` count as none.
    `files` get a copy of each as JSON, by a thread of their own: a disk that hangs holds up neither work nor stdout.
    """
    redactor = Redactor(secrets)
    as_json = format == "json"
    formatter = JsonFormatter(redactor, service or Service()) if as_json else ConsoleFormatter(redactor)
    writer = QueueWriter(stream or sys.stdout, formatter, queue_records)
    copies = QueueWriter(files, JsonFormatter(redactor, service or Service()), queue_records) if files else None
    severity = logging.getLevelName(level.upper())
    logging_ = Logging(
        writer,
        redactor,
        Hooks(writer, enabled=hooks),
        severity,
        copies=copies,
        files=files,
        own_lines=OwnLines(own),
    )
    if files is not None and files.error is not None:
        logger.error("no log files: %s", files.error, extra={"event.action": "log.files_failed"})
    return logging_
