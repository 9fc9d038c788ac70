"""ConfigurationValidator: form, databases and services, checked before any work starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pydantic_settings import BaseSettings

from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.models import DatabaseConfig, ServiceDependency
from rpa_core.config.problems import Code, Problem
from rpa_core.services.database import probe_database
from rpa_core.services.diagnosis import Diagnosis
from rpa_core.services.endpoint import probe_service
from rpa_core.services.reports import StartupReport, ValidationResult
from rpa_core.version import VERSION


class ConfigurationValidator:
    """Validates container configuration before startup.

    Each method checks what it can even when others find problems: databases that are configured well are connected
    to although another variable is wrong. Probes run side by side, each within its own timeout.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        flow_settings: type[BaseSettings] | None = None,
        flow_name: str | None = None,
        databases: Iterable[str] = ("rpa_db",),
        needs_flow: bool = True,
        others: Callable[[], Iterable[type[BaseSettings]]] = tuple,
        probe_database: Callable[[str, DatabaseConfig], Diagnosis | None] = probe_database,
        probe_service: Callable[[ServiceDependency], Diagnosis | None] = probe_service,
    ) -> None:
        self._manager = ContainerConfigManager(
            environ,
            flow_settings=flow_settings,
            flow_name=flow_name,
            databases=databases,
            needs_flow=needs_flow,
            others=others,
        )
        self._probe_database = probe_database
        self._probe_service = probe_service

    def validate_environment_variables(self) -> ValidationResult:
        """Presence and form of every variable, and contradictions between them."""
        return ValidationResult(
            area="environment",
            checked=(f"{len(self._manager.sources())} variables",),
            problems=self._manager.problems(),
            warnings=self._manager.warnings(),
        )

    def validate_database_connections(self) -> ValidationResult:
        """Connect to each database (TLS mode, authentication, existence) and ask its health query."""
        databases = self._manager.valid_databases()

        def look(name: str) -> Problem | None:
            found = self._probe_database(name, databases[name])
            variable = f"CONTAINER_DATABASE_{name.upper()}_URL"
            return Problem(variable=variable, text=found.text, code=Code.DATABASE) if found else None

        problems = _side_by_side(look, databases)
        return ValidationResult(area="databases", checked=tuple(databases), problems=problems)

    def validate_service_dependencies(self) -> ValidationResult:
        """Look at each service once; one that is not required gives a warning."""
        services = {service.service_name: service for service in self._manager.valid_services()}

        def look(name: str) -> Problem | None:
            found = self._probe_service(services[name])
            variable = f"CONTAINER_SERVICE_{name.upper()}_URL"
            return Problem(variable=variable, text=found.text, code=Code.SERVICE) if found else None

        found = _side_by_side(look, services)
        needed = {f"CONTAINER_SERVICE_{name.upper()}_URL" for name, each in services.items() if each.required}
        return ValidationResult(
            area="services",
            checked=tuple(services),
            problems=tuple(problem for problem in found if problem.variable in needed),
            warnings=tuple(problem for problem in found if problem.variable not in needed),
        )

    def generate_startup_report(self, *, connect: bool = True, further: tuple[Problem, ...] = ()) -> StartupReport:
        """All of the above in one value; without `connect`, the form alone. `further`: problems found elsewhere."""
        environment = self.validate_environment_variables()
        results = [replace(environment, problems=(*further, *environment.problems))]
        if connect:
            results += [self.validate_database_connections(), self.validate_service_dependencies()]
        config = None if self._manager.problems() else self._manager.load_container_config()
        return StartupReport(
            version=VERSION,
            environment=config.environment if config else "unknown",
            flow_name=config.flow_name if config else "unknown",
            results=tuple(results),
            sources=self._manager.sources(),
            limits=config.resource_limits.model_dump() if config else {},
        )


def _side_by_side(look: Callable[[str], Problem | None], names: Iterable[str]) -> tuple[Problem, ...]:
    wanted = list(names)
    if not wanted:
        return ()
    with ThreadPoolExecutor(max_workers=min(8, len(wanted)), thread_name_prefix="rpa-check") as pool:
        return tuple(problem for problem in pool.map(look, wanted) if problem is not None)
