"""What is to be done on a machine, from what was seen there."""

from __future__ import annotations

from dataclasses import dataclass

from ci.engine.machine import Seen, check

_DERIVED_RELEASE = 12  # its engine is too old and the next release's runs on its library


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """All empty: nothing is to be done."""

    install: tuple[str, ...] = ()  # packages of the machine's own release
    fetch: tuple[str, ...] = ()  # packages of the next one, unpacked beside the system
    link: tuple[str, ...] = ()  # programs of those for people: docker, docker-compose, docker-buildx
    start: bool = False


def steps(seen: Seen) -> Steps:
    """Raises ToolError where it cannot be done."""
    check(seen)
    absent = tuple(
        name for name, there in (("docker-compose", seen.compose), ("docker-buildx", seen.buildx)) if not there
    )
    if seen.answers is not None:
        if seen.release == _DERIVED_RELEASE:
            return Steps(fetch=absent, link=absent)
        return Steps(install=absent)
    wanted = (
        *(() if seen.dockerd else ("docker.io", "containerd")),
        *(() if seen.client else ("docker-cli",)),
        *absent,
    )
    if seen.release == _DERIVED_RELEASE:
        link = (*(() if seen.client else ("docker",)), *absent)
        return Steps(install=seen.missing, fetch=wanted, link=link, start=True)
    return Steps(install=(*seen.missing, *wanted), start=True)
