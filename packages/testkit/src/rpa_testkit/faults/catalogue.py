"""Every kind of fault, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rpa_testkit.faults import database, http, network, process, resources, severed
from rpa_testkit.faults.lease import FaultKind

KINDS: Mapping[str, FaultKind] = MappingProxyType(
    {kind.name: kind for room in (process, network, database, resources, http, severed) for kind in room.KINDS}
)
