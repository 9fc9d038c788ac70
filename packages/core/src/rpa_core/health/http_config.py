"""Settings of the HTTP surface."""

from __future__ import annotations

import ipaddress
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rpa_core.config.tokens import Grant
from rpa_core.version import VERSION

if TYPE_CHECKING:
    from rpa_core.config.models import ContainerConfig

_CONNECTIONS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """How the surface listens and what it tolerates.

    move_on           whether a port that is taken gives way to any free one.
    details           whether /health names its parts, and /version the Python, to clients without a token for it.
    grants            the bearer tokens, by what they may do; with none of them every request to /records is refused.
    max_uploads       uploads worked on at once; more get 429.
    idle_timeout_s    longest silence inside a body; `upload_timeout_s` bounds the whole.
    header_timeout_s  longest a connection may be without a request under way.
    write_timeout_s   longest a client may take to receive what was written to it.
    max_connections   connections at once; when all are taken, a new one replaces the one that is missed least.
    linger_s          how long a refused client's body is still read, so that it sees the answer.
    retry_after_s     the value of Retry-After where nothing better is known.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    move_on: bool = False
    service: str = "rpa"
    release: str = VERSION
    details: bool = True
    grants: tuple[Grant, ...] = ()
    max_body_bytes: int = 64 * 1024 * 1024
    max_uploads: int = 8
    idle_timeout_s: float = 15.0
    upload_timeout_s: float = 300.0
    header_timeout_s: float = 10.0
    write_timeout_s: float = 15.0
    max_connections: int = _CONNECTIONS
    linger_s: float = 3.0
    retry_after_s: float = 5.0

    @classmethod
    def from_container(cls, config: ContainerConfig) -> HttpConfig:
        """The settings in a container's configuration."""
        health, intake = config.health_check_config, config.intake
        details = health.details
        if details is None:
            details = config.environment in ("development", "test") and _is_loopback(health.host)
        return cls(
            host=health.host,
            port=health.port,
            move_on="port" not in health.model_fields_set,
            service=config.flow_name,
            details=details,
            grants=intake.grants(config.flow_name),
            max_body_bytes=intake.max_body_bytes,
            max_uploads=intake.max_requests,
            max_connections=max(_affordable_connections(), 2 * intake.max_requests),
            retry_after_s=intake.retry_after_s,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _affordable_connections() -> int:
    """Half of the process's file descriptors, at most 512: databases and files need the others."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(_CONNECTIONS, soft // 2))
