"""Which variables exist, which of the given ones nobody knows, and what their writer may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import BaseModel

from rpa_core.config.fields import Variable, declared, settings_variables
from rpa_core.config.models import ContainerConfig, DatabaseConfig, ServiceDependency
from rpa_core.config.sources import SECRETS_DIR, STRICT

DATABASE: Final = "CONTAINER_DATABASE_"
SERVICE: Final = "CONTAINER_SERVICE_"
CONTROL: Final = frozenset({SECRETS_DIR, STRICT})
# Podman owns the first three; the others are set by some platforms and images to say what runs
FOREIGN: Final = frozenset(
    {"CONTAINER_HOST", "CONTAINER_SSHKEY", "CONTAINER_CONNECTION", "CONTAINER_NAME", "CONTAINER_ID", "CONTAINER_IMAGE"}
)
_LINK_VALUE = re.compile(r"^(tcp|udp|sctp)://")
_LINK_NAME = re.compile(
    r"^CONTAINER(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$"
)
_NAME = r"([A-Z][A-Z0-9_]*?)"


class Catalogue:
    """The names that have a meaning: the flat ones, the two families, and a flow's own."""

    def __init__(self, flow_settings: type[BaseModel] | None = None) -> None:
        self.flat: dict[str, Variable] = {found.name: found for found in declared(ContainerConfig)}
        self.flow: dict[str, Variable] = (
            {found.name: found for found in settings_variables(flow_settings)} if flow_settings else {}
        )
        self.database: dict[str, Variable] = {found.name: found for found in declared(DatabaseConfig, "")}
        self.service: dict[str, Variable] = {found.name: found for found in declared(ServiceDependency, "")}

    def members(self, prefix: str, names: Iterable[str]) -> set[str]:
        """Lower-case names of the databases (or services) that some variable speaks of."""
        pattern = self._pattern(prefix)
        found = (pattern.match(name.removesuffix("_FILE")) for name in names)
        return {match[1].lower() for match in found if match and match[0] not in self.flat | self.flow}

    def knows(self, name: str) -> bool:
        """Whether `name` (or the name whose file it gives) is one of ours."""
        for each in (name, name.removesuffix("_FILE")):
            if each in self.flat or each in self.flow or each in CONTROL:
                return True
            if any(self._pattern(prefix).match(each) for prefix in (DATABASE, SERVICE)):
                return True
        return False

    def suggestions(self, name: str, members: Iterable[str] = ()) -> str | None:
        """The name that was probably meant; names in common use win over near-by rare ones."""
        suffix = "_FILE" if name.endswith("_FILE") else ""
        base = name.removesuffix("_FILE")
        known = [f"{DATABASE}RPA_DB_URL", f"{DATABASE}SURVEY_HUB_URL", *self.flat, *self.flow, *CONTROL]
        for member in sorted({"rpa_db", "survey_hub", *members}):
            known += [f"{DATABASE}{member.upper()}_{field}" for field in self.database]
        known += [f"{SERVICE}PREFECT_{field}" for field in self.service]
        if re.fullmatch(r"CONTAINER_DATA?BA?SE?S?_(URL|URI|DSN)|CONTAINER_DB_(URL|URI|DSN)", base):
            return f"{DATABASE}RPA_DB_URL{suffix}"
        close = difflib.get_close_matches(base, dict.fromkeys(known), n=1, cutoff=0.75)
        return f"{close[0]}{suffix}" if close else None

    def _pattern(self, prefix: str) -> re.Pattern[str]:
        fields = self.database if prefix == DATABASE else self.service
        return re.compile(f"^{prefix}{_NAME}_({'|'.join(sorted(fields, key=len, reverse=True))})$")


def is_service_link(name: str, text: str, environ: Mapping[str, str]) -> bool:
    """Whether Kubernetes put this variable here for a Service whose name starts with `container`.

    By value (`tcp://10.0.0.1:80`), or by name beside such a value: `CONTAINER_SERVICE_HOST` alone proves nothing.
    Source: Kubernetes, "Service", section Environment variables.
    """
    if not _LINK_NAME.match(name):
        return False
    if _LINK_VALUE.match(text):
        return True
    stem = re.sub(r"_(SERVICE_(HOST|PORT).*|PORT.*)$", "", name)
    return bool(_LINK_VALUE.match(environ.get(f"{stem}_PORT", "")))
