"""What is to be made, and why; what stays, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ci.bootstrap.images import LABEL, SERVICES, Service
from ci.errors import ToolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One image: made or left alone, and the reason for a person."""

    service: Service
    make: bool
    reason: str


def choose(
    labels: Mapping[str, Mapping[str, str] | None],
    keys: Mapping[str, str],
    *,
    names: Iterable[str] = (),
    force: bool = False,
) -> list[Choice]:
    """Decide about `names` (all where empty) and the parents that they need; parents come first.

    `labels` has, by image name, the labels of the image that is there, or None. Parents that nobody asked for are made
    where they are missing and else left as they are, `force` or not.
    """
    asked = set(names) or {service.name for service in SERVICES}
    if unknown := asked - {service.name for service in SERVICES}:
        known = ", ".join(service.name for service in SERVICES)
        raise ToolError(f"There is no image {', '.join(sorted(unknown))} to make; there are: {known}")
    needed = set(asked)
    for service in reversed(SERVICES):
        if service.name in needed and service.parent:
            needed.add(service.parent)
    return [
        _choice(service, labels.get(service.name), keys[service.name], service.name in asked, force)
        for service in SERVICES
        if service.name in needed
    ]


def _choice(service: Service, labels: Mapping[str, str] | None, key: str, asked: bool, force: bool) -> Choice:
    if labels is None:
        return Choice(service=service, make=True, reason="missing")
    there = labels.get(LABEL)
    if there is None:
        how = f"; to make it here, remove it first: docker image rm {service.reference}" if force and asked else ""
        return Choice(service=service, make=False, reason=f"is there and was not made here: left alone{how}")
    if force and asked:
        return Choice(service=service, make=True, reason="forced: with the newest packages")
    if there != key:
        return Choice(service=service, make=True, reason="its definition changed")
    return Choice(service=service, make=False, reason="current")
