"""Every kind of fault, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rpa_testkit.faults import database, network, process, resources
from rpa_testkit.faults.lease import FaultKind

KINDS: Mapping[str, FaultKind] = MappingProxyType(
    {kind.name: kind for kind in (*process.KINDS, *network.KINDS, *database.KINDS, *resources.KINDS)}
)
