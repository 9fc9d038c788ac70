"""Lines: ECS JSON for machines, one readable line for people.

ECS field names after "Elastic Common Schema" 8.x; keys are dotted and flat, `log.level` is lower case.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rpa_core.observability.printable import printable
from rpa_core.observability.redaction import HIDDEN, Redactor

ECS_VERSION = "8.11.0"
MAX_LINE_BYTES = 8 * 1024  # CRI-O splits at 8 KiB, Docker and containerd at 16: a split line is broken JSON
_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}
_DEEPEST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Who writes: the `service.*` fields of every line."""

    name: str = "rpa"
    version: str = ""
    environment: str = ""
    node: str = ""


class JsonFormatter(logging.Formatter):
    """One JSON object of at most 8 KiB, newline not counted."""

    def __init__(self, redactor: Redactor, service: Service) -> None:
        super().__init__()
        self._redactor = redactor
        named = {
            "service.name": service.name,
            "service.version": service.version,
            "service.environment": service.environment,
            "service.node.name": service.node,
        }
        self._service = {name: text for name, text in named.items() if text}

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "@timestamp": _timestamp(record.created),
            "log.level": record.levelname.lower(),
            "message": self._redactor.text(_message(record)),
            "ecs.version": ECS_VERSION,
            "log.logger": record.name,
            "log.origin.file.name": record.filename,
            "log.origin.file.line": record.lineno,
            "log.origin.function": record.funcName,
            "process.pid": record.process,
            "process.thread.name": record.threadName,
            **self._service,
        }
        fields |= _error_fields(self, record, self._redactor)
        for key, value in vars(record).items():
            if key not in _STANDARD and not key.startswith("_"):
                name = self._redactor.text(key if key not in fields else f"labels.{key}")
                fields[name] = _clean(value, key, self._redactor)
        return _fit(fields)


class ConsoleFormatter(logging.Formatter):
    """`12:00:01.234 INFO  rpa.worker  text  key=value`, then the traceback, indented.

    One line a record, whatever is in it, and nothing that steers a terminal: what a message quotes forges no other.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        extras = " ".join(
            f"{self._redactor.text(key)}={_clean(value, key, self._redactor)}"
            for key, value in vars(record).items()
            if key not in _STANDARD and not key.startswith("_") and key != "event.action"
        )
        line = f"{clock} {record.levelname:<8} {record.name:<20} {self._redactor.text(_message(record))}"
        stack = _error_fields(self, record, self._redactor).get("error.stack_trace", "")
        head = printable(f"{line}{'  ' + extras if extras else ''}")
        return "\n".join([head, *(f"    {printable(one)}" for one in stack.split("\n"))] if stack else [head])


def _timestamp(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a wrong format string must not fail the work that it reports
        return f"{record.msg!s} (its arguments do not fit: {type(error).__name__})"


def _error_fields(formatter: logging.Formatter, record: logging.LogRecord, redactor: Redactor) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields["error.type"] = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        fields["error.message"] = redactor.text(_text(error))
        code = getattr(error, "code", None)
        if isinstance(code, str):
            fields["error.code"] = code
        fields["error.stack_trace"] = redactor.text(formatter.formatException(record.exc_info))
    elif record.exc_text:
        fields["error.stack_trace"] = redactor.text(record.exc_text)
    if record.stack_info:
        fields.setdefault("error.stack_trace", redactor.text(record.stack_info))
    return fields


def _clean(value: Any, key: str, redactor: Redactor, depth: int = 0) -> Any:
    """A JSON value without secrets; a copy, the caller's object stays as it is."""
    if redactor.key_is_secret(key):
        return HIDDEN
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, str):
        return redactor.text(value)
    if depth >= _DEEPEST:
        return redactor.text(_text(value))
    if isinstance(value, dict):
        items = list(value.items())  # another thread may be changing it
        return {redactor.text(_text(name)): _clean(item, _text(name), redactor, depth + 1) for name, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item, "", redactor, depth + 1) for item in list(value)]
    return redactor.text(_text(value))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - somebody else's __str__; its failure is what is worth writing
        return f"<{type(value).__name__}: str() raised {type(error).__name__}>"


def _fit(fields: dict[str, Any]) -> str:
    line = _dumps(fields)
    if len(line.encode()) <= MAX_LINE_BYTES:
        return line
    fields = {**fields, "log.truncated": True}
    # The longest text gives way first: its middle goes, where a stack trace says least.
    for keep in (4096, 2048, 1024, 512, 256, 128, 64):
        fields = {key: _shortened(value, keep, key) for key, value in fields.items()}
        line = _dumps(fields)
        if len(line.encode()) <= MAX_LINE_BYTES:
            return line
    kept = ("@timestamp", "log.level", "message", "ecs.version", "log.logger", "event.action", "log.truncated")
    return _dumps({key: fields[key] for key in kept if key in fields})


def _shortened(value: Any, keep: int, key: str) -> Any:
    if isinstance(value, dict | list):
        value = _dumps(value)
        if len(value) <= keep:
            return json.loads(value)
    if isinstance(value, str) and len(value) > keep:
        half = keep // 2
        return f"{value[:half]} … {len(value) - 2 * half} characters left out … {value[-half:]}"
    return value


def _dumps(fields: Any) -> str:
    return (
        json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=_text).encode("utf-8", "replace").decode()
    )
