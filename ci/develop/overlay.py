"""What a container should hold, what it holds, and the difference as an archive and a list."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from ci.images import digests
from ci.images.model import Contents, Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """The files of one image that have a place, its parents' included."""

    entries: Mapping[str, Entry]  # absolute path in the container -> entry
    roots: tuple[str, ...]  # the folders that hold nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What brings a container in step. `remove` holds files and folders that have nothing left in them."""

    put: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.put or self.remove)


def lineage(image: str, contents: Mapping[str, Contents]) -> tuple[str, ...]:
    """An image and those it is built on, ancestors first."""
    above = [name for parent in contents[image].image.parents for name in lineage(parent, contents)]
    return tuple(dict.fromkeys([*above, image]))


def desired(image: str, contents: Mapping[str, Contents]) -> Overlay:
    """What a container of `image` would hold if the image were built now."""
    entries = dict[str, Entry]()
    roots = dict[str, None]()
    for name in lineage(image, contents):
        entries |= {entry.at: entry for entry in contents[name].entries if entry.at}
        roots |= {tree.at: None for tree in contents[name].image.trees if tree.at}
    return Overlay(entries=entries, roots=tuple(roots))


def value(entry: Entry) -> str:
    """Two files with one value are the same file."""
    if entry.link is not None:
        return f"-> {entry.link}"
    return f"{entry.digest} x" if entry.executable else entry.digest


def held(root: str, archive: bytes | None) -> dict[str, str]:
    """Absolute path -> value of the files below `root`, from its archive; compiled files are Python's own business."""
    found = dict[str, str]()
    if archive is None:
        return found
    above = PurePosixPath(root).parent
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            path = above / member.name
            if "__pycache__" in path.parts:
                continue
            if member.issym():
                found[str(path)] = f"-> {member.linkname}"
            elif member.isfile() and (file := tar.extractfile(member)):
                executable = " x" if member.mode & 0o100 else ""
                found[str(path)] = digests.of_bytes(file.read()) + executable
    return found


def step(holds: Mapping[str, str], overlay: Overlay) -> Step:
    """What is missing or different, and what should not be there."""
    put = tuple(path for path, entry in sorted(overlay.entries.items()) if holds.get(path) != value(entry))
    kept = {str(folder) for path in overlay.entries for folder in PurePosixPath(path).parents} | set(overlay.roots)
    remove = dict[str, None]()
    for path in sorted(holds.keys() - overlay.entries.keys()):
        # An empty package is still one that can be imported, so the topmost folder without a file goes as a whole.
        empty = [str(folder) for folder in PurePosixPath(path).parents if str(folder) not in kept]
        below_a_root = [folder for folder in empty if any(folder.startswith(f"{root}/") for root in overlay.roots)]
        remove[below_a_root[-1] if below_a_root else path] = None
    return Step(put=put, remove=tuple(remove))


def archive(paths: Iterable[str], overlay: Overlay, *, now_s: float | None = None) -> tuple[bytes, dict[str, str]]:
    """(tar for the root folder, path -> value of what is in it). A file that has just vanished is left out.

    Files belong to root and are as new as this moment, so that no compiled file is taken for theirs.
    """
    packed = dict[str, str]()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            entry = overlay.entries[path]
            member = tarfile.TarInfo(path.removeprefix("/"))
            member.mtime = int(time.time() if now_s is None else now_s)
            member.mode = 0o755 if entry.executable else 0o644
            if entry.link is not None:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
                tar.addfile(member)
                packed[path] = value(entry)
                continue
            try:
                data = entry.content if entry.source is None else entry.source.read_bytes()
            except OSError:
                continue
            assert data is not None, path
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            packed[path] = digests.of_bytes(data) + (" x" if entry.executable else "")
    return buffer.getvalue(), packed
