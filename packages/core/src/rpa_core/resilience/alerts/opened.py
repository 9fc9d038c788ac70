"""Which alerts are open, durably: one small file each, in a folder that all workers of a volume share."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from rpa_core.resilience.alerts.model import Notice

logger = logging.getLogger("rpa.alerts")
_NAME = re.compile(r"[0-9a-f]{32}\.alert")
_FORGOTTEN_S = 7 * 86_400.0  # of a worker that never came back; its alerts have long ended by themselves
_LONGEST = 64 * 1024


class OpenAlerts:
    """The folder; None keeps nothing. What is not a file of ours there is left alone. Raises OSError."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def durable(self) -> bool:
        """Whether what is remembered outlives the process."""
        return self._folder is not None

    def remember(self, notice: Notice) -> None:
        """It is open; on the disk when this returns."""
        if self._folder is None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(notice.fingerprint)
        unfinished = path.with_suffix(f".{os.getpid()}.new")
        try:
            with unfinished.open("wb") as file:
                file.write(notice.dumps())
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise

    def forget(self, fingerprint: str) -> None:
        """It has ended."""
        if self._folder is not None:
            self._path(fingerprint).unlink(missing_ok=True)

    def is_open(self, fingerprint: str) -> bool:
        """Whether it is remembered; True where nothing is."""
        return self._folder is None or self._path(fingerprint).exists()

    def of(self, service: str, instance: str, *, now: float) -> list[Notice]:
        """What was left open under these labels; files that have lain here for a week are removed on the way."""
        found = []
        for path, notice in self._all():
            if notice.labels.get("service") == service and notice.labels.get("instance") == instance:
                found.append(notice)
            elif now - path.stat().st_mtime > _FORGOTTEN_S:
                path.unlink(missing_ok=True)
        return found

    def _all(self) -> Iterator[tuple[Path, Notice]]:
        if self._folder is None or not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if not _NAME.fullmatch(path.name) or path.is_symlink() or not path.is_file():
                continue
            try:
                notice = Notice.loads(path.read_bytes()[:_LONGEST])
            except (OSError, ValueError) as error:
                logger.warning("%s is left alone: %s", path, error, extra={"event.action": "alert.file_odd"})
                continue
            if notice.fingerprint == path.stem:
                yield path, notice

    def _path(self, fingerprint: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{fingerprint}.alert"
