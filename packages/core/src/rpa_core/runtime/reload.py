"""Watching what the configuration was read from: mounted secrets, `*_FILE`s, files that a flow's settings name.

Contents are compared, not names or times: Kubernetes swaps a symlink, Compose bind-mounts a folder or a file, an editor
writes in place or renames, and a touched file has not changed. A change counts when two looks in a row see the same,
so that a half-written file is nobody's configuration.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.problems import lines
from rpa_core.errors import ConfigError, describe
from rpa_core.processing.flow import Flow
from rpa_core.waits import pause

logger = logging.getLogger("rpa.runtime")
_SOON_S = 0.1


class ConfigWatch:
    """One thread that looks at `folders` of secrets and at `files` every `interval_s` seconds (0: never).

    `problems()` reads everything anew and says what is wrong with it. Where nothing is, `accept` is called, once, and
    the watch ends; otherwise `refuse` gets the problems, once for each content, and the watch goes on: the old
    configuration stays. `recover` is called when the files are again as they were.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        files: Iterable[Path],
        *,
        problems: Callable[[], tuple[str, ...]],
        accept: Callable[[], object],
        refuse: Callable[[tuple[str, ...]], object],
        recover: Callable[[], object],
        interval_s: float,
    ) -> None:
        self._problems = problems
        self._accept = accept
        self._refuse = refuse
        self._recover = recover
        self._interval_s = interval_s
        self._folders, self._files = sorted(folders), sorted(files)
        self._key = secrets.token_bytes(16)  # a plain digest of a short secret could be guessed from a memory dump
        self._known = self._fingerprint()
        self._refused: bytes | None = None
        self._stop = threading.Event()
        self._now = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config-watch", daemon=True)

    def start(self) -> None:
        """Begin, unless the interval is 0."""
        if self._interval_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._now.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=2)

    def look_now(self) -> None:
        """Do not wait for the interval: somebody was refused with what we have."""
        self._now.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._now.wait(self._interval_s)
            self._now.clear()
            seen = self._fingerprint()
            if seen in (self._known, self._refused):
                if seen == self._known and self._refused is not None:
                    self._refused = None
                    self._recover()
                continue
            if pause(self._stop, min(_SOON_S, self._interval_s)) or self._fingerprint() != seen:
                continue
            if self._decide(seen):
                return

    def _decide(self, seen: bytes) -> bool:
        found = self._problems()
        if not found:
            logger.info("the configuration has changed: draining, to go on with the new one", extra=_event("changed"))
            self._accept()
            return True
        self._refused = seen
        text = "\n  ".join(found)
        logger.error("the changed configuration is refused, the old one stays:\n  %s", text, extra=_event("refused"))
        self._refuse(found)
        return False

    def _fingerprint(self) -> bytes:
        digest = hashlib.blake2b(key=self._key)
        for folder in self._folders:
            for name in _names(folder):
                digest.update(b"\0name\0" + name.encode())
                digest.update(self._content(folder / name))
        for file in self._files:
            digest.update(b"\0file\0" + bytes(file))
            digest.update(self._content(file))
        return digest.digest()

    def _content(self, path: Path) -> bytes:
        try:
            return hashlib.blake2b(path.read_bytes(), key=self._key).digest()
        except OSError as error:
            return f"errno {error.errno}".encode()


def _names(folder: Path) -> Iterable[str]:
    """As `Sources` lists them: no hidden files, such as Kubernetes' own `..data`, and no folders."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir())
    except OSError:
        return ()


def _event(what: str) -> dict[str, str]:
    return {"event.action": f"config.{what}"}


def watch(
    flow: Flow,
    current: ContainerConfigManager,
    *,
    read: Callable[[], ContainerConfigManager],
    accept: Callable[[ContainerConfigManager], object],
    refuse: Callable[[tuple[str, ...]], object],
    recover: Callable[[], object],
) -> ConfigWatch:
    """A watch, not yet started, of everything that `current` and the flow's settings were read from.

    `accept` gets the new reading; see `ConfigWatch` for the others.
    """
    folders, files = current.watched()
    if flow.files is not None:
        files |= set(flow.files(current.load_flow_settings()))
    latest = current

    def problems() -> tuple[str, ...]:
        nonlocal latest
        latest = read()
        if found := latest.problems():
            return lines(found)
        try:
            if flow.validate is not None:
                flow.validate(latest.load_flow_settings())
        except ConfigError as error:
            return error.problems
        except BaseException as error:  # noqa: BLE001 - the flow's code must not end this thread
            return (f"flow {flow.name} cannot validate its settings: {describe(error)}",)
        return ()

    return ConfigWatch(
        folders,
        files,
        problems=problems,
        accept=lambda: accept(latest),
        refuse=refuse,
        recover=recover,
        interval_s=current.load_container_config().recovery.reload_interval_s,
    )
