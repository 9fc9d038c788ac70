"""How a worker reaches what it needs: through its own edges of the proxy, by no other way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from rpa_testkit.drivers.settings import LEDGER, ROLE, worker_environment
from rpa_testkit.proxy.rules import Speaks
from rpa_testkit.scenario.model import POSTGRES, Service, Topology, edge

PROXY = "proxy"
HEALTH_PORT = 8080
SPOOL = "/var/lib/rpa/spool"
SECRETS = "/run/rpa-secrets"
SECRET = "database-password"  # noqa: S105 - a file's name
_DATABASE = re.compile(r"CONTAINER_DATABASE_[A-Z0-9_]+_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where an edge leads: the host as the proxy's container knows it, and what is spoken there."""

    host: str
    port: int
    protocol: Speaks


def upstream_of(target: str, ports: Mapping[str, int]) -> Upstream:
    """Of the node that an edge ends at; `ports` are those of the dependencies, in their containers."""
    if target == POSTGRES:
        return Upstream(host=POSTGRES, port=5432, protocol="postgres")
    return Upstream(host=target, port=ports[target], protocol="http")


def environment(
    service: Service, node: str, topology: Topology, *, edges: Mapping[str, int], password: str
) -> dict[str, str]:
    """A worker's variables. `edges` are the ports that the proxy listens on, by the edges' names.

    A database that the service's own `env` puts on the host `postgres` is on the topology's server: its URL is led
    through the worker's edge and given the ledger's role.
    """
    listen = edges[edge(node, POSTGRES)]
    reached = {
        dependency: f"http://{PROXY}:{edges[edge(node, dependency.name)]}" for dependency in topology.dependencies
    }
    known = "" if topology.secret_file else password
    told = worker_environment(
        service,
        node,
        database=_led(f"postgresql://{POSTGRES}/{LEDGER}", listen, known),
        reached=reached,
        spool=SPOOL,
        secret=f"{SECRETS}/{SECRET}" if topology.secret_file else None,
    )
    return {
        **{
            name: _led(value, listen, password) if name in _on_our_server(service) else value
            for name, value in told.items()
        },
        "CONTAINER_HEALTH_HOST": "0.0.0.0",  # noqa: S104 - of its container
        "CONTAINER_HEALTH_PORT": str(HEALTH_PORT),
    }


def databases(topology: Topology) -> list[str]:
    """The databases on the topology's server besides the ledger."""
    found = {
        urlsplit(service.env[name]).path.strip("/") for service in topology.services for name in _on_our_server(service)
    }
    return sorted(found - {LEDGER, ""})


def _on_our_server(service: Service) -> set[str]:
    return {
        name
        for name, value in service.env.items()
        if _DATABASE.fullmatch(name) and urlsplit(value).hostname == POSTGRES
    }


def _led(url: str, port: int, password: str) -> str:
    who = f"{ROLE}:{password}" if password else ROLE
    return urlunsplit(urlsplit(url)._replace(netloc=f"{who}@{PROXY}:{port}"))
