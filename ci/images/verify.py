"""Looks into a built image: are exactly the declared files at their places, byte by byte?

The engine streams the folders out of a container that is created and never started, so that the image needs no shell.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from ci import docker
from ci.errors import ToolError
from ci.images import digests
from ci.images.model import Contents, Entry

LABEL = "rpa.verify"  # on the container; what a killed run leaves behind is found by it
_CACHES = "__pycache__"  # made in the image from what was verified
_STREAM_S = 300.0


def verify(contents: Contents, image: str) -> list[str]:
    """Differences between what `contents` puts into the image and what is in `image`, a line each; empty: none.

    ToolError where the image is not there or cannot be read.
    """
    wanted = {entry.at: entry for entry in contents.entries if entry.at is not None}
    places = sorted({tree.at for tree in contents.image.trees if tree.at is not None})
    if not wanted:
        return []
    found = _read(image, _outermost(places))
    return _differences(wanted, found)


def _differences(wanted: Mapping[str, Entry], found: Mapping[str, str]) -> list[str]:
    lines = []
    for place, entry in sorted(wanted.items()):
        there = found.get(place)
        if there is None:
            lines.append(f"missing: {place}")
        elif there != (expected := describe(entry)):
            lines.append(f"different: {place} is {there}, should be {expected}")
    lines += [f"extra: {place}" for place in sorted(found.keys() - wanted.keys())]
    return lines


def describe(entry: Entry) -> str:
    """What `verify` compares: "link to X", or kind and digest."""
    if entry.link is not None:
        return f"a link to {entry.link}"
    return _file(entry.executable, entry.digest)


def _file(executable: bool, digest: str) -> str:
    return f"{'an executable' if executable else 'a file'} {digest}"


def _outermost(places: list[str]) -> list[str]:
    """Without those that lie in another."""
    return [one for one in places if not any(one != other and one.startswith(f"{other}/") for other in places)]


def _read(image: str, places: list[str]) -> dict[str, str]:
    """Path -> what it is, for every file and link below `places`."""
    created = docker.run("create", "--network", "none", "--label", LABEL, image, "nothing", check=False, timeout_s=60)
    if created.returncode:
        raise ToolError(f"{image} cannot be looked into: {created.stderr.strip()}; build it: invoke build.selective")
    container = created.stdout.strip()
    try:
        found = dict[str, str]()
        for place in places:
            found.update(_stream(container, place))
        return found
    finally:
        docker.run("rm", "--force", "--volumes", container, check=False, timeout_s=60)


def _stream(container: str, place: str) -> Iterator[tuple[str, str]]:
    try:
        done = subprocess.run(
            ["docker", "cp", f"{container}:{place}", "-"], capture_output=True, timeout=_STREAM_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(
            f"{place} was not read within {_STREAM_S:g} s; is the engine busy? docker info tells"
        ) from error
    if done.returncode:
        if b"no such" in done.stderr.lower() or b"could not find" in done.stderr.lower():
            return  # nothing at that place: everything will be missing
        raise ToolError(f"{place} cannot be read: {done.stderr.decode(errors='replace').strip()}; try again")
    parent = PurePosixPath(place).parent  # the names in the stream begin with the folder's own
    with tarfile.open(fileobj=io.BytesIO(done.stdout), mode="r:") as archive:
        for member in archive:
            if member.isdir() or _CACHES in PurePosixPath(member.name).parts:
                continue
            path = str(parent / member.name)
            if member.issym():
                yield path, f"a link to {member.linkname}"
            elif (member.isfile() or member.islnk()) and (stream := archive.extractfile(member)) is not None:
                yield path, _mode(member.mode) or _file(bool(member.mode & 0o100), digests.of_bytes(stream.read()))
            else:
                yield path, f"neither file nor link (type {member.type!r})"


def _mode(mode: int) -> str:
    """What is wrong with a mode; a context knows 0644 and 0755."""
    return "" if mode & 0o7777 in (0o644, 0o755) else f"a file with mode {mode & 0o7777:04o}"
