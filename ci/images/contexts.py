"""Build contexts: folders that hold exactly an image's entries, and whose times tell different bytes apart.

BuildKit sends a file again only when its size or time changed, even from another folder or for another image
(moby/buildkit#2592, #4950). Here a file's time is made from its digest, so that other bytes have another time, and the
same bytes have the same one on every machine.

A process may be killed at any instruction. Each file appears under its name complete, and each is compared byte by byte
before it is used again, so that no earlier run decides what a later one builds.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.errors import ToolError
from ci.images import digests
from ci.images.model import Contents, Entry
from ci.workspace import ROOT

STATE = ".rpa"
_EARLIEST_NS = 946_684_800 * 10**9  # the year 2000
_SPAN_NS = 20 * 365 * 86_400 * 10**9  # all times lie in the past: a builder may distrust the future
_PARTIAL = ".partial-"


def folder(root: Path, environment: str, prefix: str) -> Path:
    """Where the contexts of one environment and prefix are."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", prefix).strip("._") if prefix else "plain"
    if prefix and safe != prefix:  # two prefixes must not share a folder
        safe = f"{safe[:40]}-{hashlib.blake2b(prefix.encode(), digest_size=4).hexdigest()}"
    return root / STATE / "contexts" / environment / safe


@contextmanager
def locked(place: Path, *, waiting: Callable[[], object] = lambda: None) -> Iterator[int]:
    """One build at a time in `place`; yields the lock's descriptor.

    Hand it to the builder's process: if this one is killed, the lock is kept until the builder is gone as well, and
    nobody changes a context that is still being read. `waiting` is called where another build has it.
    """
    place.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def materialise(contents: Contents, place: Path) -> Path:
    """Make `place`/<image> hold exactly the entries; returns it.

    ToolError where a file changed since it was hashed: what would be built is not what the key says.
    """
    target = place / contents.image.name
    target.mkdir(parents=True, exist_ok=True)
    wanted = {entry.path: entry for entry in contents.entries}
    folders = {str(parent) for path in wanted for parent in Path(path).parents} - {"."}
    _clear(target, wanted, folders)
    for name in sorted(folders):
        (target / name).mkdir(exist_ok=True)
        (target / name).chmod(0o755)
    for entry in contents.entries:
        _put(target / entry.path, entry)
    # Putting a file into a folder changes the folder's time.
    for name in sorted(folders, reverse=True):
        os.utime(target / name, ns=(_EARLIEST_NS, _EARLIEST_NS))
    target.chmod(0o755)
    return target


def _clear(target: Path, wanted: dict[str, Entry], folders: set[str]) -> None:
    """Remove whatever has no place here, and whatever is of the wrong kind."""
    for parent, names, files in os.walk(target, topdown=True):
        for name in list(names):
            path = Path(parent, name)
            if path.is_symlink():
                files.append(name)
            elif path.relative_to(target).as_posix() not in folders:
                shutil.rmtree(path)
                names.remove(name)
        for name in files:
            path = Path(parent, name)
            if path.relative_to(target).as_posix() not in wanted:
                path.unlink()


def _put(path: Path, entry: Entry) -> None:
    moment = _time_ns(entry)
    partial = path.with_name(f"{_PARTIAL}{hashlib.blake2b(path.name.encode(), digest_size=8).hexdigest()}")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    if entry.link is not None:
        if not (path.is_symlink() and os.readlink(path) == entry.link):  # noqa: PTH115 - as written, "a//b" too
            partial.symlink_to(entry.link)
            partial.replace(path)
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
        return
    data = _bytes(entry)
    mode = 0o755 if entry.executable else 0o644
    if _is(path, data, mode, moment):
        return
    with partial.open("wb") as stream:
        stream.write(data)
        os.fchmod(stream.fileno(), mode)
    os.utime(partial, ns=(moment, moment))
    partial.replace(path)


def _is(path: Path, data: bytes, mode: int, moment: int) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    right = stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == mode and found.st_mtime_ns == moment
    return right and path.read_bytes() == data


def _bytes(entry: Entry) -> bytes:
    if entry.content is not None:
        return entry.content
    assert entry.source is not None, entry.path
    try:
        data = entry.source.read_bytes()
    except OSError as error:
        raise ToolError(f"{entry.source} cannot be read any more ({error.strerror}); run the build again") from error
    if digests.of_bytes(data) != entry.digest:
        raise ToolError(f"{entry.source} changed while the build was prepared; run the build again")
    return data


def _time_ns(entry: Entry) -> int:
    return _EARLIEST_NS + int(hashlib.blake2b(entry.digest.encode(), digest_size=8).hexdigest(), 16) % _SPAN_NS


def remove(root: Path = ROOT) -> None:
    """Remove all contexts; they are made again when they are needed."""
    shutil.rmtree(root / STATE / "contexts", ignore_errors=True)
