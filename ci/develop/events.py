"""What wakes the development loop: files that were saved, and containers that started."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ci.develop.containers import PROJECT_LABEL
from ci.errors import ToolError

_IGNORED = {"__pycache__", "node_modules", "venv", "dist", "build", "reports"}
_QUIET_MS = 30  # a batch ends when nothing was saved for this long
_LONGEST_MS = 3000
_GLANCE_MS = 2000  # how often the workspace's top folder is looked at
_POLL_MS = 300
_RETRY_S = 3.0
FOLDER = "folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Files that were touched, by their paths; or a container that started; or what keeps us from watching."""

    paths: frozenset[Path] = frozenset()
    container: str = ""
    problem: str = ""
    at_s: float  # monotonic seconds


def require_watchfiles() -> Any:
    """The library, or what to do where it is missing."""
    try:
        import watchfiles
    except ImportError as error:
        raise ToolError("watching needs watchfiles: python -m pip install watchfiles") from error
    return watchfiles


class Events:
    """Two threads that fill one queue; `with` starts and ends them."""

    def __init__(self, root: Path, project: str, *, force_polling: bool = False) -> None:
        self._watchfiles = require_watchfiles()
        self._root = root
        self._project = project
        self._force_polling = force_polling
        self._queue = queue.SimpleQueue[Event]()
        self._stop = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Events:
        for target in (self._watch_files, self._watch_containers):
            thread = threading.Thread(target=target, name=target.__name__, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._process is not None:
            self._process.terminate()
        for thread in self._threads:
            thread.join(5)

    def next(self, timeout_s: float | None = None) -> list[Event]:
        """Everything that has come since, at least one event; empty after `timeout_s`."""
        try:
            found = [self._queue.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        if git_is_busy(self._root):  # what it does is one batch
            until(lambda: not git_is_busy(self._root), self._stop)
            self._stop.wait(3 * _QUIET_MS / 1000)
        with suppress(queue.Empty):
            while True:
                found.append(self._queue.get_nowait())
        return found

    def _watch_files(self) -> None:
        seen = top(self._root)
        while not self._stop.is_set():
            try:
                for touched in self._touched(seen):
                    # A watch on the top folder itself would be one on every virtual environment in it.
                    now = top(self._root)
                    changed = {path for path in {**seen, **now} if seen.get(path) != now.get(path)}
                    if touched | changed:
                        self._put(touched | changed | {one for path in changed for one in path.rglob("*")})
                    seen = now
                    if any(now.get(path) == FOLDER for path in changed):
                        break
            except OSError as error:  # too many watches, a folder that has just gone
                self._queue.put(Event(problem=f"no file events ({error}): looking in turns", at_s=time.monotonic()))
                self._force_polling = True
                seen = top(self._root)

    def _touched(self, seen: dict[Path, str]) -> Iterator[set[Path]]:
        """Files that were touched, as soon as it is quiet again; nothing, now and then, where there are none."""
        batches = self._watchfiles.watch(
            *(path for path, kind in seen.items() if kind == FOLDER),
            watch_filter=lambda _, path: concerns(self._root, Path(path)),
            debounce=_LONGEST_MS,
            step=_QUIET_MS,
            rust_timeout=_GLANCE_MS,
            yield_on_timeout=True,
            stop_event=self._stop,
            force_polling=self._force_polling,
            poll_delay_ms=_POLL_MS,
        )
        return ({Path(path) for _, path in batch} for batch in batches)

    def _put(self, paths: set[Path]) -> None:
        self._queue.put(Event(paths=frozenset(paths), at_s=time.monotonic()))

    def _watch_containers(self) -> None:
        since = int(time.time())
        while not self._stop.is_set():
            command = ["docker", "events", "--since", str(since), "--format", "{{json .}}"]
            for name in ("type=container", "event=start", f"label={PROJECT_LABEL}={self._project}"):
                command += ["--filter", name]
            try:
                with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
                    self._process = process
                    assert process.stdout is not None
                    if self._stop.is_set():
                        process.terminate()
                    for name in started(process.stdout):
                        since = int(time.time())
                        self._queue.put(Event(container=name, at_s=time.monotonic()))
            except OSError as error:
                said = f"no container events ({error}): a container that starts is brought in step by the next save"
                self._queue.put(Event(problem=said, at_s=time.monotonic()))
                return
            self._stop.wait(_RETRY_S)  # the engine has gone; it may come back


def started(lines: IO[str]) -> Iterator[str]:
    """The ids of containers, from `docker events`."""
    for line in lines:
        with suppress(ValueError, KeyError):
            yield str(json.loads(line)["Actor"]["ID"])


def top(root: Path) -> dict[Path, str]:
    """What stands directly in the workspace: folders that are watched, files by their time of change."""
    found = dict[Path, str]()
    for path in root.iterdir():
        with suppress(OSError):
            if path.is_dir():
                if not path.name.startswith(".") and path.name not in _IGNORED:
                    found[path] = FOLDER
            else:
                found[path] = str(path.stat().st_mtime_ns)
    return found


def concerns(root: Path, path: Path) -> bool:
    """Whether a file can matter: not one of a tool's caches, nor what an editor puts beside the file it writes."""
    parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    if any(part.startswith(".") or part in _IGNORED for part in parts):
        return False
    return not path.name.endswith(("~", ".pyc", ".swp", ".swx", ".tmp")) and path.name != "4913"


def git_is_busy(root: Path) -> bool:
    """While git rewrites the working tree it holds a lock."""
    return (root / ".git" / "index.lock").exists()


def until(condition: Callable[[], bool], stop: threading.Event, *, longest_s: float = 10.0) -> None:
    """Wait for `condition`, for `stop`, or no longer than that."""
    deadline = time.monotonic() + longest_s
    while not condition() and time.monotonic() < deadline and not stop.wait(0.02):
        pass
