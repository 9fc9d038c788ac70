"""Where texts come from: the given environment, `*_FILE`, mounted secrets. Reads, never interprets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rpa_core.config.fields import PREFIX
from rpa_core.config.problems import Code, Problem
from rpa_core.config.texts import bare, home, quoted

DEFAULT_SECRETS_DIR = Path("/run/secrets")
SECRETS_DIR = "CONTAINER_SECRETS_DIR"
STRICT = "CONTAINER_CONFIG_STRICT"
_NO, _YES = ("false", "0", "no", "off", "n", "f"), ("true", "1", "yes", "on", "y", "t")
_MOST_BYTES = 1024 * 1024  # no setting is larger; a variable that points at a log file must not fill memory


@dataclass(frozen=True, slots=True)
class Found:
    """A variable's text and, for people, where it stood."""

    text: str = field(repr=False)
    source: str


class Sources:
    """One reading of all sources; `problems` grows while they are read.

    An empty variable counts as not set, as in `${NAME:-}`; an empty file is a problem. Values lose line ends and a byte
    order mark around them and nothing else. `folders` and `files` are where it looked: what has to be watched for
    changes.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = {name: text for name, text in environ.items() if name.startswith(PREFIX) and text != ""}
        self.problems: list[Problem] = []
        self.folders: set[Path] = set()
        self.files: set[Path] = set()
        self._mounted = dict(self._list_mounted())
        if bare(self.environ.get(STRICT, "true")).strip().lower() not in (*_NO, *_YES):
            self.problems.append(Problem(variable=STRICT, text="write true or false", code=Code.INVALID))

    @property
    def strict(self) -> bool:
        return bare(self.environ.get(STRICT, "true")).strip().lower() not in _NO

    @property
    def mounted_names(self) -> frozenset[str]:
        """Names under which secrets are mounted, in the spelling of variables (upper case)."""
        return frozenset(self._mounted)

    def get(self, name: str) -> Found | None:
        """The text of variable `name` from the first source that has it."""
        direct, file_name = self.environ.get(name), self.environ.get(f"{name}_FILE")
        if direct is not None and file_name is not None:
            text = f"both {name} and {name}_FILE are set, but they are exclusive; unset one of them"
            self.problems.append(Problem(variable=name, text=text, code=Code.EXCLUSIVE))
            return None
        if direct is not None:
            return Found(bare(direct) or direct, "environment")
        if file_name is not None:
            return self._named(name, bare(file_name))
        for mounted in (name, name.removeprefix(PREFIX)):
            if mounted in self._mounted:
                path = self._mounted[mounted]
                return self._read(name, path, f"secret {path}")
        return None

    def _named(self, name: str, file_name: str) -> Found | None:
        try:
            path = Path(home(file_name))
        except ValueError as error:
            self.problems.append(Problem(variable=f"{name}_FILE", text=str(error), code=Code.INVALID))
            return None
        if quoted(file_name) and not path.exists():
            text = "is in quotes, which become part of the path; remove the quotes"
            self.problems.append(Problem(variable=f"{name}_FILE", text=text, code=Code.INVALID))
            return None
        return self._read(name, path, f"file {file_name} ({name}_FILE)")

    def _list_mounted(self) -> Iterator[tuple[str, Path]]:
        given = self.environ.get(SECRETS_DIR)
        folders = [Path(_at_home(part.strip())) for part in re.split(r"[,:]", given) if part.strip()] if given else []
        for folder in folders:
            if not folder.is_dir():
                text = f"{folder} is not a directory this process can see; mount it or correct the path"
                self.problems.append(Problem(variable=SECRETS_DIR, text=text, code=Code.UNREADABLE))
        for folder in reversed(folders or [DEFAULT_SECRETS_DIR]):  # the first folder of the list wins
            self.folders.add(folder)
            try:
                entries = sorted(folder.iterdir()) if folder.is_dir() else []
            except OSError as error:
                text = f"{folder}: {_reason(folder, error)}"
                self.problems.append(Problem(variable=SECRETS_DIR, text=text, code=Code.UNREADABLE))
                continue
            for path in entries:
                if not path.name.startswith(".") and not path.is_dir():
                    yield path.name.upper(), path

    def _read(self, name: str, path: Path, source: str) -> Found | None:
        self.files.add(path)
        try:
            if path.is_dir():
                raise IsADirectoryError(21, os.strerror(21))
            with path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except OSError as error:
            self._unreadable(name, path, _reason(path, error))
            return None
        if len(data) > _MOST_BYTES:
            self._unreadable(name, path, "larger than 1 MiB; is this the right file?")
            return None
        try:
            text = bare(data.decode())
        except UnicodeDecodeError as error:
            self._unreadable(name, path, f"not UTF-8 text (byte {error.start}); save it as UTF-8")
            return None
        if not text:
            self._unreadable(name, path, "empty; write the value into it, or remove it")
            return None
        return Found(text, source)

    def _unreadable(self, name: str, path: Path, reason: str) -> None:
        self.problems.append(Problem(variable=name, text=f"file {path}: {reason}", code=Code.UNREADABLE))


def _at_home(text: str) -> str:
    try:
        return home(text)
    except ValueError:  # reported as a folder that is not there
        return text


def _reason(path: Path, error: OSError) -> str:
    """Why a file cannot be read and what to do; bind-mounted secrets keep the host's owner and mode."""
    if isinstance(error, PermissionError):
        try:
            seen = path.stat()
        except OSError:  # the folder itself is closed to us
            return f"permission denied (running as {os.getuid()}:{os.getgid()}); open the folder to this user"
        return (
            f"permission denied (owner {seen.st_uid}:{seen.st_gid} mode {seen.st_mode & 0o7777:04o}, "
            f"running as {os.getuid()}:{os.getgid()}); chmod 0444 it or give it to this user"
        )
    if isinstance(error, FileNotFoundError):
        return "does not exist; mount it or correct the path"
    return f"{(error.strerror or type(error).__name__).lower()}; correct the path"
