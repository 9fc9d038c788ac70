"""What the HTTP surface is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rpa_core.version import VERSION

if TYPE_CHECKING:
    from rpa_core.config.models import ContainerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """How the surface listens and what it bears.

    token             bearer token of /records; None leaves it open. Never shown.
    details           whether /health names its parts.
    max_uploads       uploads worked on at once; more get 429.
    idle_timeout_s    longest silence inside a body; `upload_timeout_s` bounds the whole.
    header_timeout_s  longest a connection may be without a request under way; `max_connections` bounds them all,
                      so that strangers cannot use up the process's file descriptors.
    linger_s          how long a refused client's body is still read, so that it sees the answer.
    retry_after_s     what is said in Retry-After where nothing better is known.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    service: str = "rpa"
    release: str = VERSION
    details: bool = True
    token: str | None = field(default=None, repr=False)
    max_body_bytes: int = 64 * 1024 * 1024
    max_uploads: int = 8
    idle_timeout_s: float = 15.0
    upload_timeout_s: float = 300.0
    header_timeout_s: float = 10.0
    max_connections: int = 512
    linger_s: float = 3.0
    retry_after_s: float = 5.0

    @classmethod
    def from_container(cls, config: ContainerConfig) -> HttpConfig:
        """What the container's configuration says about the surface."""
        health, intake = config.health_check_config, config.intake
        return cls(
            host=health.host,
            port=health.port,
            service=config.flow_name,
            details=health.details,
            token=intake.token.get_secret_value() if intake.token is not None else None,
            max_body_bytes=intake.max_body_bytes,
            max_uploads=intake.max_requests,
            retry_after_s=intake.retry_after_s,
        )
