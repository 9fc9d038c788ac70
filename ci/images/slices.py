"""What an image installs of a hashed lock: the packages whose markers hold for its Python and platform.

The slice's text is what goes into the build context, so that a comment, an order or another platform's package in the
lock changes no image. Hashes stay complete: which wheel is chosen is the installer's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ci.errors import ToolError

MACHINES = {  # platform of an image -> platform.machine() there
    "linux/amd64": "x86_64",
    "linux/arm64": "aarch64",
    "linux/ppc64le": "ppc64le",
    "linux/riscv64": "riscv64",
    "linux/s390x": "s390x",
}
_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?P<extras>\[[^\]]*\])?==(?P<version>[^\s;\\]+)\s*(;(?P<marker>.*))?"
)
_HASH = re.compile(r"\s--hash=(?P<hash>\w+:[0-9a-fA-F]+)(?=\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One line of a slice."""

    name: str  # as indexes compare it: lower case, with -
    version: str
    extras: tuple[str, ...]
    hashes: tuple[str, ...]

    def text(self) -> str:
        """The requirement as pip and uv read it."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return " \\\n    ".join([f"{self.name}{extras}=={self.version}", *(f"--hash={one}" for one in self.hashes)])


def cut(lock: str, *, file: str, python: str, platform: str) -> tuple[Package, ...]:
    """The slice of a lock's text, sorted by name. ToolError names the line of `file` that is no pinned package."""
    found = dict[str, Package]()
    for number, line in _logical(lock):
        package, marker = _parse(line, f"{file}:{number}")
        if marker and not _holds(marker, python, platform, f"{file}:{number}"):
            continue
        other = found.get(package.name, package)
        if (other.version, other.extras) != (package.version, package.extras):
            raise ToolError(
                f"{file}:{number}: {package.name} is {package.version} and {other.version} on Python {python}, "
                f"{platform}; compile the lock anew: invoke deps.lock"
            )
        hashes = tuple(sorted({*other.hashes, *package.hashes}))
        found[package.name] = Package(name=package.name, version=package.version, extras=package.extras, hashes=hashes)
    return tuple(found[name] for name in sorted(found))


def text(packages: tuple[Package, ...]) -> str:
    """The slice as a requirements file."""
    return "".join(f"{package.text()}\n" for package in packages)


def _logical(lock: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, without comments, each with the number of its first line."""
    pending, start = "", 0
    for number, line in enumerate(lock.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        start = start if pending else number
        pending += re.sub(r"\s#.*$", "", line)
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        if pending.strip():
            yield start, pending.strip()
        pending = ""
    if pending.strip():
        yield start, pending.strip()


def _parse(line: str, where: str) -> tuple[Package, str]:
    hashes = tuple(match["hash"].lower() for match in _HASH.finditer(line))
    pin = _PIN.fullmatch(_HASH.sub("", line).strip())
    if pin is None:
        raise ToolError(f"{where}: not a pinned package: {line[:60]!r}; a lock has lines like name==1.2 --hash=...")
    if not hashes:
        raise ToolError(f"{where}: {pin['name']} has no --hash; compile the lock with hashes: invoke deps.lock")
    extras = tuple(sorted({one.strip().lower() for one in (pin["extras"] or "[]")[1:-1].split(",") if one.strip()}))
    name = re.sub(r"[-_.]+", "-", pin["name"]).lower()
    return Package(name=name, version=pin["version"], extras=extras, hashes=hashes), (pin["marker"] or "").strip()


def _holds(marker: str, python: str, platform: str, where: str) -> bool:
    """Whether a marker holds in the image; the patch release of its Python is not known unless declared."""
    from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName  # slow, and only for new locks

    patches = [python] if python.count(".") == 2 else [f"{python}.0", f"{python}.99"]
    try:
        answers = {Marker(marker).evaluate(_environment(patch, platform)) for patch in patches}
    except (InvalidMarker, UndefinedEnvironmentName) as error:
        raise ToolError(f"{where}: marker {marker!r} cannot be evaluated: {str(error).splitlines()[0]}") from error
    if len(answers) > 1:
        raise ToolError(f"{where}: {marker!r} depends on the patch release; declare python with it, like {patches[0]}")
    return answers.pop()


def _environment(python: str, platform: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": MACHINES[platform],
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
        "extra": "",
    }
