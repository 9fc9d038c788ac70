"""Lives: which earlier processes of a worker ended without a word, and how long the next one waits for that.

    begin   a marker, locked for life:  lives/<flow>@<label>@<incarnation>.life
    end     the marker is removed, with those of earlier crashes: a life that ended well breaks the loop
    crash   the lock is free and the marker still there: the next `begin` makes a `.crash` of it, dated then

The end of a process that was killed is known to nobody; the next one comes soon after, so its own beginning is the
time of the crash. What one `begin` finds is one crash, however many markers it is: workers that share a label and went
down together are no loop. Making a `.crash` of a marker takes no space, so it works on a full disk.

The first restart does not wait: the platform has waited already. From the second crash on the wait is at most
`min(cap_s, 1 s * 2**(n-1))`, spread over the upper half of that: a loop must never find a wait of nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rpa_core.resilience.retry import RetryPolicy

logger = logging.getLogger("rpa.lives")
_KIND = "rpa life"
_LIFE, _CRASH = ".life", ".crash"
_NAME = re.compile(r"[^@]+@[^@]+@[^@.]+\.(life|crash)")
_LONGEST = 4096
_FORGOTTEN_S = 7 * 86_400.0  # markers of workers that never came back under their label


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """An earlier life that ended without a word. Unix times in seconds; `found_at` is when the next life began."""

    incarnation: str
    began_at: float
    found_at: float


class Lives:
    """The lives of one worker, by flow and label. `directory` None remembers nothing. No method raises OSError."""

    def __init__(
        self,
        directory: Path | None,
        *,
        flow: str,
        label: str,
        incarnation: str,
        window_s: float,
        cap_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = directory / "lives" if directory is not None else None
        self._flow, self._label, self._incarnation = flow, label, incarnation
        self._window_s = window_s
        self._cap_s = cap_s
        self._now = now
        self._marker: Path | None = None
        self._descriptor: int | None = None

    def begin(self) -> Sequence[Crash]:
        """Set this life's marker; returns the crashes within the window, oldest first."""
        if self._folder is None:
            return ()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._folder.is_symlink():
                raise OSError(errno.ELOOP, f"{self._folder} is a link")
            found = self._look_back(self._folder)
            self._mark(self._folder)
        except OSError as error:
            logger.warning("lives are not remembered: %s", error, extra={"event.action": "lives.failed"})
            return ()
        return sorted(found, key=lambda crash: (crash.found_at, crash.began_at))

    def wait_s(self, crashes: Sequence[Crash], rand: random.Random) -> float:
        """How long to wait before anything is touched that may be the reason."""
        n = count(crashes)
        if n < 2 or self._cap_s <= 0:
            return 0.0
        return RetryPolicy(max_attempts=0, base_s=1.0, cap_s=self._cap_s).bound_s(n) * rand.uniform(0.5, 1.0)

    def end(self, *, well: bool = True) -> None:
        """This life is no crash. If it ended well, nothing that was before it counts any more either."""
        if self._folder is None or self._marker is None:
            return
        try:
            self._marker.unlink(missing_ok=True)
            for path, _ in self._of_this_worker(self._folder, _CRASH) if well else ():
                path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("a life's marker stays: %s", error, extra={"event.action": "lives.failed"})
        self._marker = None
        self.close()

    def close(self) -> None:
        """Let go of the marker and leave it: this life counts as a crash."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _mark(self, folder: Path) -> None:
        """The marker appears under its name when it is locked: nobody takes a beginning for an end."""
        name = "@".join(quote(part, safe="").replace(".", "%2E") for part in (self._flow, self._label))
        marker = folder / f"{name}@{quote(self._incarnation, safe='').replace('.', '%2E')}{_LIFE}"
        unfinished = marker.with_suffix(".new")
        content = {
            "kind": _KIND,
            "flow": self._flow,
            "label": self._label,
            "incarnation": self._incarnation,
            "began_at": self._now(),
        }
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, json.dumps(content).encode())
            os.fsync(descriptor)
            unfinished.rename(marker)
        except BaseException:
            os.close(descriptor)
            unfinished.unlink(missing_ok=True)
            raise
        self._marker, self._descriptor = marker, descriptor

    def _look_back(self, folder: Path) -> list[Crash]:
        now = self._now()
        for path, _ in self._of_this_worker(folder, _LIFE):
            _close_dead(path, now)
        found = []
        for path, content in self._of_this_worker(folder, _CRASH):
            found_at = path.stat().st_mtime
            if abs(now - found_at) > self._window_s:  # also after the clock was set back
                path.unlink(missing_ok=True)
                continue
            found.append(
                Crash(incarnation=content["incarnation"], began_at=float(content["began_at"]), found_at=found_at)
            )
        return found

    def _of_this_worker(self, folder: Path, suffix: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted(folder.glob(f"*{suffix}")):
            content = _content(path) if _NAME.fullmatch(path.name) else None
            if content is None:
                continue
            if (content["flow"], content["label"]) == (self._flow, self._label):
                yield path, content
            elif self._now() - path.lstat().st_mtime > _FORGOTTEN_S:
                _remove_dead(path)


def count(crashes: Sequence[Crash]) -> int:
    """How many times the worker went down: what was found at one time went down together."""
    return len({crash.found_at for crash in crashes})


def _close_dead(path: Path, now: float) -> None:
    """Make a `.crash` of the marker of a life that is over."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # another one was faster
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.utime(descriptor, (now, now))
        path.rename(path.with_suffix(_CRASH))
    except (BlockingIOError, FileNotFoundError):  # it lives, or another one was faster
        pass
    finally:
        os.close(descriptor)


def _remove_dead(path: Path) -> None:
    """Remove the marker of a life that is over; a long life keeps its own."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)


def _content(path: Path) -> dict[str, Any] | None:
    """What a marker says; None for a file that is none."""
    try:
        if path.is_symlink() or not path.is_file():
            return None
        content = json.loads(path.read_bytes()[:_LONGEST])
    except (OSError, ValueError):
        return None
    texts = ("flow", "label", "incarnation")
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        return None
    if not all(isinstance(content.get(name), str) for name in texts):
        return None
    return content if isinstance(content.get("began_at"), int | float) else None
