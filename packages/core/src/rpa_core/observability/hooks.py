"""Routing what does not come through a logger: warnings, unhandled exceptions, unraisable ones."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from types import TracebackType
from typing import Any

from rpa_core.observability.writer import QueueWriter

_log = logging.getLogger("rpa.process")


class Hooks:
    """Installs the interpreter's hooks and puts back what was there."""

    def __init__(self, writer: QueueWriter, *, enabled: bool) -> None:
        self._writer = writer
        self._enabled = enabled
        self._before: tuple[Any, ...] | None = None

    def install(self) -> None:
        if not self._enabled:
            return
        self._before = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning)
        sys.excepthook = self._unhandled
        threading.excepthook = self._thread
        sys.unraisablehook = self._unraisable
        warnings.showwarning = self._warning

    def remove(self) -> None:
        if self._before is not None:
            sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = self._before
            self._before = None

    def asyncio_handler(self, loop: Any, context: dict[str, Any]) -> None:
        """For `loop.set_exception_handler`."""
        error = context.get("exception")
        message = str(context.get("message") or "unhandled exception in the event loop")
        _log.error("%s", message, exc_info=error, extra={"event.action": "process.async_exception"})

    def _unhandled(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        extra = {"event.action": "process.unhandled_exception"}
        _log.critical("unhandled exception, the process ends", exc_info=(kind, error, trace), extra=extra)
        self._writer.drain(2.0)

    def _thread(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        error = args.exc_value or args.exc_type()
        name = args.thread.name if args.thread else "unknown"
        extra = {"event.action": "process.thread_exception", "process.thread.name": name}
        _log.critical("thread %s died of an exception", name, exc_info=error, extra=extra)

    def _unraisable(self, args: sys.UnraisableHookArgs) -> None:
        extra = {"event.action": "process.unraisable_exception"}
        where = type(args.object).__name__ if args.object is not None else "unknown"
        text = args.err_msg or "exception ignored"
        _log.error("%s in %s", text, where, exc_info=args.exc_value or args.exc_type(), extra=extra)

    def _warning(
        self, message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
    ) -> None:
        extra = {"event.action": "process.warning", "warning.category": category.__name__}
        _log.warning("%s:%d: %s: %s", filename, lineno, category.__name__, message, extra=extra)
