"""What a failed look at a dependency means, in words, and whether waiting can help."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """The kinds of trouble that are told apart."""

    REFUSED = "refused"
    UNRESOLVABLE = "unresolvable"
    TIMEOUT = "timeout"
    PASSWORD = "password"  # noqa: S105 - a kind of trouble, not a password
    NO_DATABASE = "no-database"
    NO_ROLE = "no-role"
    NOT_ADMITTED = "not-admitted"
    TLS = "tls"
    STARTING = "starting"
    FULL = "full"
    NOT_POSTGRES = "not-postgres"
    QUERY = "query"
    STATUS = "status"
    DENIED = "denied"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """`seen` is what happened, `advice` what to do; neither holds a secret. `final`: waiting cannot help."""

    fault: Fault
    seen: str
    advice: str
    final: bool

    @property
    def text(self) -> str:
        return f"{self.seen}; {self.advice}"


Probe = Callable[[], Diagnosis | None]


@dataclass(frozen=True, slots=True)
class _Rule:
    fault: Fault
    states: tuple[str, ...]
    words: str
    advice: str
    final: bool


# libpq has no SQLSTATE for what fails before or during authentication, only the message: hence words as well.
_DATABASE = (
    _Rule(Fault.PASSWORD, ("28P01",), r"password authentication failed|no password supplied|SCRAM|empty password",
          "correct the password, or the secret file it is read from", True),
    _Rule(Fault.NO_ROLE, (), r'role ".*" does not exist|role ".*" is not permitted to log in',
          "create the role or correct the user in the URL", True),
    _Rule(Fault.NO_DATABASE, ("3D000",), r'database ".*" does not exist',
          "create the database or correct its name in the URL", True),
    _Rule(Fault.TLS, (), r"does not support SSL|certificate|SSL error|sslmode|SSL connection is required|tlsv1",
          "make sslmode in the URL and the server's TLS set-up agree (sslrootcert names the CA)", True),
    _Rule(Fault.NOT_ADMITTED, ("28000",), r"no pg_hba.conf entry|pg_hba.conf rejects|not permitted to connect",
          "allow this user, address and TLS mode in pg_hba.conf, or set sslmode=require in the URL", True),
    _Rule(Fault.NOT_ADMITTED, ("42501",), r"permission denied for database",
          "grant CONNECT on the database to this role", True),
    _Rule(Fault.STARTING, ("57P03", "57P01", "57P02"),
          r"starting up|shutting down|recovery mode|not yet accepting|terminating connection",
          "the server says it will be back; nothing to do unless it lasts", False),
    _Rule(Fault.FULL, ("53300",), r"too many (clients|connections)|connection slots|no more connections allowed",
          "raise max_connections or lower CONTAINER_DATABASE_<NAME>_POOL_SIZE and the number of workers", False),
    _Rule(Fault.UNRESOLVABLE, (), r"could not translate host name|Name or service not known|name resolution|"
          r"nodename nor servname|failed to resolve host",
          "correct the host name, or check DNS and that the network is attached", False),
    _Rule(Fault.TIMEOUT, ("57014",), r"timeout expired|timed out|statement timeout",
          "check firewall, load and address; if it is just slow, raise CONTAINER_DATABASE_<NAME>_CONNECT_TIMEOUT",
          False),
    _Rule(Fault.REFUSED, (), r"Connection refused|No such file or directory|No route to host|Network is unreachable",
          "check host and port, and that the server runs and listens there", False),
    _Rule(Fault.NOT_POSTGRES, (), r"invalid response|expected authentication request|unsupported protocol",
          "something else than PostgreSQL listens there: correct host and port", True),
)  # fmt: skip


def of_database(message: str, sqlstate: str | None, *, query: bool = False) -> Diagnosis:
    """Diagnose a driver's error. `query` says that the connection stood and the health query failed."""
    seen = _first_words(message)
    for rule in _DATABASE:
        if (sqlstate in rule.states) if sqlstate else re.search(rule.words, message):
            return Diagnosis(fault=rule.fault, seen=seen, advice=rule.advice, final=rule.final)
    if query:
        advice = "correct CONTAINER_DATABASE_<NAME>_HEALTH_QUERY, or migrate the database that it asks"
        final = (sqlstate or "")[:2] in ("42", "0A", "22", "3F")
        return Diagnosis(fault=Fault.QUERY, seen=f"the health query failed: {seen}", advice=advice, final=final)
    advice = "look at the server's log; this will be tried again"
    return Diagnosis(fault=Fault.OTHER, seen=seen, advice=advice, final=False)


def of_status(status: int) -> Diagnosis:
    """Diagnose an HTTP status that is not 2xx."""
    seen = f"answered HTTP {status}"
    if status in (401, 403):
        return Diagnosis(fault=Fault.DENIED, seen=seen, advice="its health address must be open to us", final=True)
    if status in (400, 405, 406, 410):
        advice = "correct the path of the health address"
        return Diagnosis(fault=Fault.STATUS, seen=seen, advice=advice, final=True)
    if status == 404:  # gateways answer so until their backend is registered
        advice = "if it lasts, correct the path of the health address"
        return Diagnosis(fault=Fault.STATUS, seen=seen, advice=advice, final=False)
    advice = "it is up but not healthy: look at its log"
    return Diagnosis(fault=Fault.STATUS, seen=seen, advice=advice, final=False)


def _first_words(message: str) -> str:
    """The driver's own words on one line, without what it repeats for every address it tried."""
    first = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
    parts = [part.strip() for part in re.split(r"\bfailed: ", first)]
    text = parts[-1] if len(parts) > 1 else first
    address = re.search(r'server at "([^"]*)"(?: \([^)]*\))?, port (\d+)', message)
    where = f" at {address[1]}:{address[2]}" if address and address[1] not in text else ""
    text = re.sub(r"^(FATAL|ERROR):\s+", "", text)
    return f"{text}{where}"[:300]
