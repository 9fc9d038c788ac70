"""One folder of the workspace as a build sees it: listed once, symbolic links followed by hand so that each is seen.

A link is part of an image as a link, together with what it leads to. One that leads out of its folder, or is absolute,
would mean something else inside the image than here: it is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ci.errors import ToolError
from ci.images import globs

# What tools and editors leave behind: in no image, whatever a pattern says.
_JUNK = re.compile(
    r"__pycache__|.*\.py[cod]|.*\.egg-info|\.git|\.(mypy|pytest|ruff)_cache|\.hypothesis|\.DS_Store"
    r"|.*~|\..*\.sw[a-z]|\.#.*|#.*#",
    re.DOTALL,
)
_MOST_LINKS = 40  # as the kernel has it


class Kind(Enum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"
    SPECIAL = "socket, pipe or device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where a path leads: `path` is free of links, `kind` None means nowhere; `links` were passed on the way."""

    kind: Kind | None
    path: str
    links: tuple[str, ...] = ()


class Folder:
    """`name` under `root`. Paths are POSIX and relative to it; "" is the folder itself."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self._base = str(root / name)
        self._listed = dict[str, dict[str, Kind]]()
        self._located = dict[str, Located]()

    def full(self, path: str) -> str:
        return f"{self._base}/{path}" if path else self._base

    def listing(self, path: str) -> dict[str, Kind]:
        """Names in a folder, sorted, without junk; empty where there is no such folder."""
        if path not in self._listed:
            try:
                with os.scandir(self.full(path)) as found:
                    kinds = {one.name: _kind(one) for one in found if not _JUNK.fullmatch(one.name)}
            except (FileNotFoundError, NotADirectoryError):
                kinds = {}
            except OSError as error:
                raise ToolError(f"{self.name}/{path}: cannot be listed: {error.strerror}; mend its mode") from error
            self._listed[path] = {name: kinds[name] for name in sorted(kinds)}
        return self._listed[path]

    def target(self, link: str) -> str:
        """What a link says. ToolError where that could not be meant inside an image."""
        target = str(Path(self.full(link)).readlink())
        if target.startswith("/"):
            raise ToolError(f"{self.name}/{link}: links to {target}; in an image a link must be relative")
        return target

    def locate(self, path: str) -> Located:
        """Follow every link of `path`."""
        if path not in self._located:
            self._located[path] = self._locate(path)
        return self._located[path]

    def _locate(self, path: str) -> Located:
        ahead, here = path.split("/")[::-1], list[str]()
        links, kind = dict[str, None](), Kind.FOLDER
        hops = 0
        while ahead:
            part = ahead.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not here:
                    link = next(reversed(links), path)
                    raise ToolError(f"{self.name}/{link}: links out of {self.name}, which no image could follow")
                here.pop()
                continue
            if kind is not Kind.FOLDER:
                return Located(kind=None, path="/".join(here), links=tuple(links))
            place = "/".join([*here, part])
            found = self.listing("/".join(here)).get(part)
            if found is Kind.LINK:
                links[place] = None
                hops += 1
                if hops > _MOST_LINKS:
                    return Located(kind=None, path=place, links=tuple(links))
                ahead += self.target(place).split("/")[::-1]
                continue
            if found is None:
                # What is missing may still be followed by "..", which must not lead outside unseen.
                if ".." in ahead:
                    self._refuse_escape([*here, part], ahead, links)
                return Located(kind=None, path=place, links=tuple(links))
            here.append(part)
            kind = found
        return Located(kind=kind, path="/".join(here), links=tuple(links))

    def _refuse_escape(self, here: list[str], ahead: list[str], links: dict[str, None]) -> None:
        depth = len(here)
        for part in reversed(ahead):
            depth += -1 if part == ".." else part not in ("", ".")
            if depth < 0:
                link = next(reversed(links), "/".join(here))
                raise ToolError(f"{self.name}/{link}: links out of {self.name}, which no image could follow")

    def match(self, pattern: str) -> set[str]:
        """The files and links that `pattern` means, with what the links lead to."""
        found = set[str]()
        seen = set[tuple[str, int]]()
        parts = pattern.split("/")

        def search(folder: str, at: int) -> None:
            if (folder, at) in seen:
                return
            seen.add((folder, at))
            part, last = parts[at], at == len(parts) - 1
            if part == "**" and not last:
                search(folder, at + 1)
            whole = None if part == "**" else globs.name_pattern(part)
            for name in self.listing(folder):
                if whole is None or whole.fullmatch(name):
                    place = self.locate(f"{folder}/{name}" if folder else name)
                    if place.kind is Kind.FOLDER:
                        if whole is None or not last:
                            found.update(place.links)
                            search(place.path, at if whole is None else at + 1)
                        elif place.links:  # a link named as if it were a file: it and what it leads to
                            found.update(place.links, self.below(place.path))
                    elif last:
                        found.update(place.links, () if place.kind is None else (place.path,))

        search("", 0)
        return found

    def below(self, path: str) -> set[str]:
        """Every file and link below a folder, with what the links lead to."""
        found, ahead, seen = set[str](), [path], set[str]()
        while ahead:
            folder = ahead.pop()
            if folder in seen:
                continue
            seen.add(folder)
            for name in self.listing(folder):
                place = self.locate(f"{folder}/{name}" if folder else name)
                found.update(place.links)
                if place.kind is Kind.FOLDER:
                    ahead.append(place.path)
                elif place.kind is not None:
                    found.add(place.path)
        return found

    def kind(self, path: str) -> Kind | None:
        """What stands at a path, a link being a link."""
        folder, _, name = path.rpartition("/")
        return self.listing(folder).get(name)


def _kind(entry: os.DirEntry[str]) -> Kind:
    if entry.is_symlink():
        return Kind.LINK
    if entry.is_dir(follow_symlinks=False):
        return Kind.FOLDER
    return Kind.FILE if entry.is_file(follow_symlinks=False) else Kind.SPECIAL


def python_files(folder: Folder, path: str) -> Iterator[str]:
    """The logical paths of the modules' files below `path`: through every link, but no folder inside itself."""
    start = folder.locate(path)
    ahead = list[tuple[str, tuple[str, ...]]]()
    ahead += [(path, (start.path,))] if start.kind is Kind.FOLDER else []
    while ahead:
        here, above = ahead.pop()
        for name in folder.listing(above[-1]):
            inner = f"{here}/{name}" if here else name
            place = folder.locate(inner)
            if place.kind is Kind.FOLDER and place.path not in above:
                ahead.append((inner, (*above, place.path)))
            elif place.kind is Kind.FILE and name.endswith(".py"):
                yield inner
