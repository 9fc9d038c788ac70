"""A server lives exactly as long as somebody owns it.

Every owner holds the FIFO `owners` of the server's home open for writing. The guardian, a small process in
a session of its own, blocks reading it: the kernel ends that read when the last owner has closed the FIFO or
has died, however it died. The guardian then stops the server and removes the home. So the kernel counts the
owners: no counter that a crash could leave wrong, and nothing polls.

`home/lock` (flock) is held while a server is being set up, joined or taken down. A home is taken down by
renaming it first: whoever waited for its lock sees another file under the name and starts again.

Run as a script it is the guardian itself, on the standard library alone: guardian.py HOME KEEP UID GID BIN.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home's lock; makes the home if it is not there."""
    while True:
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # taken down in between
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _same_file(home / "lock", descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def own(home: Path) -> int:
    """Become an owner of `home`; returns the descriptor whose closing (or the process's death) ends it."""
    fifo = home / "owners"
    if not fifo.exists():
        os.mkfifo(fifo, 0o600)
    # Read-write, so that the first owner need not wait for a reader; not inherited by programs it starts.
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK)


def appoint(home: Path, *, bin_folder: Path, keep: bool, uid: int | None, gid: int | None) -> None:
    """Start the guardian of `home`; the caller owns it already. Returns when the guardian stands."""
    arguments = [str(home), "keep" if keep else "remove", _text(uid), _text(gid), str(bin_folder)]
    subprocess.run(
        [sys.executable, "-I", "-S", __file__, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the owner's terminal is not for the guardian
        cwd="/",
        check=True,
        timeout=30,
    )


def remove(home: Path) -> None:
    """Remove `home`; call with its lock held."""
    gone = home.with_name(f"{home.name}.gone-{os.getpid()}")
    home.rename(gone)
    shutil.rmtree(gone)


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _guard(home: Path, *, keep: bool, uid: int | None, gid: int | None, bin_folder: Path) -> None:
    # Without O_NONBLOCK the opening would wait for an owner, for ever if the first one has been killed meanwhile.
    owners = os.open(home / "owners", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(owners, True)
    lock = os.open(home / "lock", os.O_RDWR)  # now, for its name may be reused later
    if os.fork():
        os._exit(0)  # the starter's wait ends here; nobody has to reap the guardian
    while True:
        while os.read(owners, 1024):
            pass
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _same_file(home / "lock", lock):
            return  # an owner took it down in order
        if _deserted(owners):
            break
        fcntl.flock(lock, fcntl.LOCK_UN)  # somebody joined between the end of the read and the lock
    if (home / "data" / "postmaster.pid").exists():
        mode = "fast" if keep else "immediate"
        subprocess.run(
            [str(bin_folder / "pg_ctl"), "stop", "-D", str(home / "data"), "-m", mode, "-w", "-t", "60"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            check=False,
        )
    if not keep:
        remove(home)


def _deserted(owners: int) -> bool:
    os.set_blocking(owners, False)
    try:
        return os.read(owners, 1) == b""
    except BlockingIOError:
        return False
    finally:
        os.set_blocking(owners, True)


def _main(arguments: list[str]) -> None:
    home, keep, uid, gid, bin_folder = arguments
    with suppress(FileNotFoundError):  # somebody removed the home by hand: nothing is left to guard
        _guard(
            Path(home),
            keep=keep == "keep",
            uid=int(uid) if uid else None,
            gid=int(gid) if gid else None,
            bin_folder=Path(bin_folder),
        )


if __name__ == "__main__":
    _main(sys.argv[1:])
