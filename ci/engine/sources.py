"""Where this machine gets its Debian packages, and the same place for another release."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ci.errors import ToolError

APT = Path("/etc/apt")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"  # in every Debian system, the images made here included
_KEPT = ("Trusted", "Check-Valid-Until")  # what an administrator decided about a mirror holds for its other releases
_NAMES = ("stable", "oldstable", "testing", "unstable", "sid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place with packages, as a stanza of a *.sources file."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    options: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """The stanza."""
        lines = [
            "Types: deb",
            f"URIs: {' '.join(self.uris)}",
            f"Suites: {' '.join(self.suites)}",
            f"Components: {' '.join(self.components)}",
            *([f"Signed-By: {self.signed_by}"] if self.signed_by else []),
            *(f"{name}: {value}" for name, value in self.options),
        ]
        return "\n".join(lines) + "\n"


def read(folder: Path = APT) -> list[Source]:
    """Every enabled source of binary packages below `folder`, in both formats."""
    parts = folder / "sources.list.d"
    found = []
    for path in [folder / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            found += parse_lines(path.read_text(encoding="utf-8", errors="replace"))
    for path in sorted(parts.glob("*.sources")):
        found += parse_stanzas(path.read_text(encoding="utf-8", errors="replace"))
    return found


def parse_lines(text: str) -> list[Source]:
    """The one-line format: `deb [signed-by=/path] uri suite component...`."""
    found = []
    for line in text.splitlines():
        matched = re.match(r"\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<rest>[^#]+)", line)
        words = matched["rest"].split() if matched else []
        if matched is None or len(words) < 3:
            continue
        options = dict(_pairs(matched["options"] or ""))
        found.append(
            Source(
                uris=(words[0],),
                suites=(words[1],),
                components=tuple(words[2:]),
                signed_by=options.get("signed-by", ""),
                options=tuple((name, options[name.lower()]) for name in _KEPT if name.lower() in options),
            )
        )
    return found


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for word in shlex.split(text):
        name, _, value = word.partition("=")
        yield name.strip().lower(), value.strip()


def parse_stanzas(text: str) -> list[Source]:
    """The deb822 format: stanzas of `Field: value`, a value going on in indented lines."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and name:
                fields[name] += "\n" + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        found.append(
            Source(
                uris=tuple(fields.get("uris", "").split()),
                suites=tuple(fields.get("suites", "").split()),
                components=tuple(fields.get("components", "").split()),
                signed_by=fields.get("signed-by", ""),
                options=tuple((kept, fields[kept.lower()]) for kept in _KEPT if kept.lower() in fields),
            )
        )
    return found


def derive(sources: Iterable[Source], *, codename: str, suite: str) -> list[Source]:
    """Debian's own sources of a machine that runs `codename`, for the release `suite` instead; only `main`.

    Sources of others are left out: what they have for another release, nobody here knows. Raises ToolError where
    nothing is left.
    """
    found = []
    for source in sources:
        suites = [other for name in source.suites if (other := _renamed(name, codename, suite))]
        uris = tuple(uri for uri in source.uris if not uri.startswith("cdrom:"))
        if not suites or not uris or "main" not in source.components or not _debian(source.signed_by):
            continue
        found.append(
            Source(
                uris=uris,
                suites=tuple(dict.fromkeys(suites)),
                components=("main",),
                signed_by=source.signed_by,
                options=source.options,
            )
        )
    if not found:
        message = (
            f"No Debian source for {codename} is in {APT}/sources.list or sources.list.d, so {suite} cannot be reached "
            f"from here. Add one for {codename} main, signed by {KEYRING}, and run this again."
        )
        raise ToolError(message)
    return found


def inside(sources: Iterable[Source]) -> list[Source]:
    """The same places as a fresh Debian system knows them: with the keyring that it has itself."""
    return [
        Source(uris=one.uris, suites=one.suites, components=one.components, signed_by=KEYRING, options=one.options)
        for one in sources
    ]


def render(sources: Iterable[Source]) -> str:
    """The text of a *.sources file."""
    return "\n".join(source.text() for source in sources)


def _debian(signed_by: str) -> bool:
    return not signed_by or "debian-archive" in signed_by


def _renamed(name: str, codename: str, suite: str) -> str | None:
    """`suite` with the part of the archive that `name` has, or None where `name` is not of this release."""
    base, separator, part = name.replace("/updates", "-security").partition("-")
    if base != codename and base not in _NAMES:
        return None
    if part not in ("", "updates", "security"):
        return None
    return f"{suite}{separator}{part}"
