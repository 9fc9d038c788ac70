"""Defaults that follow what the container may use; a variable that is set always wins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rpa_core.config.models import ResourceLimits

_CLAIM_RECORDS = 4000
_RECORD_BYTES = 16 * 1024  # a generous record with its result, decoded
_CLAIM_BYTES = 16 * 1024 * 1024
_BYTES_SHARE = 1 / 32  # decoded, a payload takes up to ten times its bytes
_CLAIM_SHARE = 0.1  # of the memory limit: the claim at hand may not be what kills the container
_UPLOADS = 8
_UPLOAD_BYTES = 24 * 1024 * 1024  # a block of records with its copies on the way to the database
_UPLOAD_SHARE = 0.25


def pool_size(limits: ResourceLimits) -> int:
    """Connections one process may use: two a core and one to spare, 3 to 10."""
    return max(3, min(10, 2 * math.ceil(limits.cpu_cores) + 1))


def claim_records(limits: ResourceLimits) -> int:
    """Upper bound of the records one claim holds, 50 to 4000."""
    if limits.memory_bytes is None:
        return _CLAIM_RECORDS
    return max(50, min(_CLAIM_RECORDS, int(limits.memory_bytes * _CLAIM_SHARE / _RECORD_BYTES)))


def claim_bytes(limits: ResourceLimits) -> int:
    """Upper bound of the payload bytes that one claim holds, 256 KiB to 16 MiB."""
    if limits.memory_bytes is None:
        return _CLAIM_BYTES
    return max(256 * 1024, min(_CLAIM_BYTES, int(limits.memory_bytes * _BYTES_SHARE)))


def uploads(limits: ResourceLimits) -> int:
    """Uploads worked on at once, 1 to 8: together they may not be what kills the container."""
    if limits.memory_bytes is None:
        return _UPLOADS
    return max(1, min(_UPLOADS, int(limits.memory_bytes * _UPLOAD_SHARE / _UPLOAD_BYTES)))


def from_limits(limits: ResourceLimits) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """(variable, path, value) of every top-level default that the limits decide."""
    yield "CONTAINER_CPU_LIMIT", ("resource_limits", "cpu_cores"), limits.cpu_cores
    yield "CONTAINER_MEMORY_LIMIT", ("resource_limits", "memory_bytes"), limits.memory_bytes
    yield "CONTAINER_PIDS_LIMIT", ("resource_limits", "pids"), limits.pids
    yield "CONTAINER_CLAIM_RECORDS", ("worker", "claim_records"), claim_records(limits)
    yield "CONTAINER_CLAIM_BYTES", ("worker", "claim_bytes"), claim_bytes(limits)
    yield "CONTAINER_INTAKE_MAX_REQUESTS", ("intake", "max_requests"), uploads(limits)
