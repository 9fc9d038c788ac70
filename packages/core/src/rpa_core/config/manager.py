"""ContainerConfigManager: the whole configuration, read once, checked completely, with the source of each value."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings

from rpa_core.config import derive
from rpa_core.config.catalogue import DATABASE, FOREIGN, SERVICE, Catalogue, is_service_link
from rpa_core.config.cgroup import read_limits
from rpa_core.config.checks import address_checks, cross_checks, database_checks, service_checks, tight_limits
from rpa_core.config.fields import Variable
from rpa_core.config.loading import Section
from rpa_core.config.models import (
    ContainerConfig,
    DatabaseConfig,
    DiskConfig,
    HealthCheckConfig,
    IntakeConfig,
    ResourceLimits,
    ServiceDependency,
    WorkerConfig,
)
from rpa_core.config.problems import Code, Problem, lines
from rpa_core.config.redact import dsn_passwords, url_secrets
from rpa_core.config.sources import Sources
from rpa_core.errors import ConfigError

if TYPE_CHECKING:
    from rpa_core.health.monitor import HealthMonitor

# Rooms above this one, found by name when their method is called; see the room's docstring.
_WAIT = "rpa_core.services.orchestrator:wait_for_dependencies"
_MONITOR = "rpa_core.runtime.monitoring:build_monitor"


class ContainerConfigManager:
    """Maps `CONTAINER_*` to the sections of `ContainerConfig`.

    `flow_settings` is a flow's own settings model; its variables become known names. `flow_name` given here wins
    over `CONTAINER_FLOW_NAME`. `others` is asked for the models of other flows only when a name is unknown: one
    environment may serve several flows. `databases` are the ones that must be configured. With `needs_flow=False`
    (tools that run no flow) the flow's name may be absent and becomes `none`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        flow_settings: type[BaseSettings] | None = None,
        flow_name: str | None = None,
        databases: Iterable[str] = ("rpa_db",),
        needs_flow: bool = True,
        limits: Callable[[], ResourceLimits] = read_limits,
        wait: Callable[[ContainerConfig, float], bool] | None = None,
        monitor: Callable[[ContainerConfig], HealthMonitor] | None = None,
        others: Callable[[], Iterable[type[BaseSettings]]] = tuple,
    ) -> None:
        self._environ = dict(environ)
        self._flow_settings = flow_settings
        self._flow_name = flow_name
        self._databases = tuple(dict.fromkeys(databases))
        self._needs_flow = needs_flow
        self._limits = limits
        self._wait = wait
        self._monitor = monitor
        self._others = others
        self._catalogue = Catalogue(flow_settings)
        self._loaded: ContainerConfig | None = None
        self._settings: BaseModel | None = None
        self._sources: dict[str, str] = {}
        self._texts: dict[str, tuple[Variable, Any]] = {}
        self._problems: tuple[Problem, ...] | None = None
        self._watched: tuple[frozenset[Path], frozenset[Path]] = (frozenset(), frozenset())
        self._valid_databases: dict[str, DatabaseConfig] = {}
        self._valid_services: list[ServiceDependency] = []
        self.ignored: tuple[str, ...] = ()
        self._of_others: tuple[str, ...] = ()

    @property
    def catalogue(self) -> Catalogue:
        """The names that are known."""
        return self._catalogue

    def load_container_config(self) -> ContainerConfig:
        """The complete configuration; raises ConfigError with every problem there is. Reads once."""
        problems = self.problems()
        if problems or self._loaded is None:
            raise ConfigError(lines(problems))
        return self._loaded

    def load_flow_settings(self) -> Any:
        """The flow's own settings, or None when it has no model; raises ConfigError like the above."""
        problems = self.problems()
        if problems:
            raise ConfigError(lines(problems))
        return self._settings

    def validate_container_environment(self) -> bool:
        """Whether `load_container_config` would succeed."""
        return not self.problems()

    def sources(self) -> dict[str, str]:
        """Variable -> where its value came from: environment, a file, a mounted secret, default, cgroup limits."""
        self.problems()
        return dict(self._sources)

    def readable(self) -> dict[str, Any]:
        """Variable -> value of each one that is sound by itself, its default where it is not set."""
        self.problems()
        wrong = {problem.variable for problem in self.problems()}
        return {name: _alone(variable, value) for name, (variable, value) in self._texts.items() if name not in wrong}

    def wait_for_dependencies(self, timeout: int) -> bool:
        """Wait up to `timeout` seconds until every required database and service answers."""
        wait = self._wait or pkgutil.resolve_name(_WAIT)
        return bool(wait(self.load_container_config(), float(timeout)))

    def setup_health_monitoring(self) -> HealthMonitor:
        """A monitor with this configuration's checks registered; the caller starts and stops it."""
        build = self._monitor or pkgutil.resolve_name(_MONITOR)
        monitor: HealthMonitor = build(self.load_container_config())
        return monitor

    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong, in a stable order; empty when all is well."""
        if self._problems is None:
            sources = Sources(self._environ)
            self._problems = tuple(dict.fromkeys(self._read(sources)))
            self._watched = (frozenset(sources.folders), frozenset(sources.files))
        return self._problems

    def watched(self) -> tuple[frozenset[Path], frozenset[Path]]:
        """(folders of mounted secrets, files) that were looked at: another reading may find other values there."""
        self.problems()
        return self._watched

    def secret_values(self) -> tuple[str, ...]:
        """Every secret of the configuration and of the flow's own settings, for the logs' redaction."""
        own = self.load_flow_settings()
        values = (getattr(own, name) for name in type(own).model_fields) if own is not None else ()
        secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        parts = [part for secret in secrets if secret.startswith("http") for part in url_secrets(secret, secret=True)]
        parts += [part for secret in secrets if "://" in secret for part in dsn_passwords(secret)]
        return (*self.load_container_config().secret_values(), *secrets, *parts)

    def warnings(self) -> tuple[Problem, ...]:
        """What was seen and left alone: variables that other programs own, and settings of other flows."""
        self.problems()
        text = "belongs to another program (Kubernetes service links, Podman) and is left alone"
        found = [Problem(variable=name, text=text, code=Code.SERVICE_LINK) for name in self.ignored]
        text = "is a setting of another installed flow and was not checked; `rpa config check --flow FLOW` checks it"
        found += [Problem(variable=name, text=text, code=Code.UNKNOWN) for name in self._of_others]
        return (*found, *(tight_limits(self._loaded) if self._loaded is not None else ()))

    def valid_databases(self) -> dict[str, DatabaseConfig]:
        """The databases whose own settings are sound, whatever else is wrong."""
        self.problems()
        return dict(self._valid_databases)

    def valid_services(self) -> list[ServiceDependency]:
        """The services whose own settings are sound, whatever else is wrong."""
        self.problems()
        return list(self._valid_services)

    def _read(self, sources: Sources) -> list[Problem]:
        problems: list[Problem] = []
        names = [*sources.environ, *sources.mounted_names]
        names += [f"CONTAINER_{name}" for name in sources.mounted_names if not name.startswith("CONTAINER_")]
        links = {name for name, text in sources.environ.items() if is_service_link(name, text, sources.environ)}
        problems += self._link_problems(sources, links)
        usable = [name for name in names if name not in links]
        top = Section(sources, [known for name, known in self._catalogue.flat.items() if name not in links])
        limits = _with_given(self._limits(), top)
        databases = self._read_databases(sources, usable, limits, problems)
        services = self._read_services(sources, usable, problems)
        self._fill(top, databases, services, limits)
        config = top.build(ContainerConfig, problems)
        self._note(top, self._catalogue.flat)
        self._loaded = config
        problems += self._contradictions(top)
        problems += address_checks(config) if config is not None else ()
        if self._flow_settings is not None:
            own = Section(sources, self._catalogue.flow.values())
            self._settings = own.build(self._flow_settings, problems)
            self._note(own, self._catalogue.flow)
        return [*self._unknown(sources, links, databases), *sources.problems, *problems]

    def _contradictions(self, top: Section) -> Iterable[Problem]:
        worker = top.valid_part("worker", WorkerConfig)
        health = top.valid_part("health_check_config", HealthCheckConfig)
        intake = top.valid_part("intake", IntakeConfig)
        disk = top.valid_part("disk", DiskConfig)
        if worker and health and intake and disk:
            return cross_checks(worker, health, intake, disk, top.failed)
        return ()

    def _fill(
        self,
        top: Section,
        databases: dict[str, DatabaseConfig],
        services: list[ServiceDependency],
        limits: ResourceLimits,
    ) -> None:
        top.put(("database_connections",), databases)
        top.put(("service_dependencies",), services)
        flow = self._flow_name if self._flow_name is not None else (None if self._needs_flow else "none")
        if flow is not None and (self._flow_name is not None or "CONTAINER_FLOW_NAME" not in top.found):
            top.put(("flow_name",), flow)
            top.found.pop("CONTAINER_FLOW_NAME", None)
            self._sources["CONTAINER_FLOW_NAME"] = "argument" if self._flow_name is not None else "default"
        for variable, path, value in derive.from_limits(limits):
            if variable not in top.found:
                top.put(path, value)
                self._sources[variable] = "cgroup limits"

    def _read_databases(
        self, sources: Sources, names: Iterable[str], limits: ResourceLimits, problems: list[Problem]
    ) -> dict[str, DatabaseConfig]:
        found: dict[str, DatabaseConfig] = {}
        members = self._catalogue.members(DATABASE, names)
        for name in sorted({*members, *self._databases}):
            prefix = f"{DATABASE}{name.upper()}_"
            part = Section(sources, self._catalogue.database.values(), prefix)
            if f"{prefix}POOL_SIZE" not in part.found:
                part.put(("connection_pool_size",), derive.pool_size(limits))
                self._sources[f"{prefix}POOL_SIZE"] = "cgroup limits"
            database = part.build(DatabaseConfig, problems)
            self._note(part, {f"{prefix}{field}": known for field, known in self._catalogue.database.items()})
            if database is not None:
                wrong = list(database_checks(name, database))
                problems += wrong
                found[name] = database
                if not wrong:
                    self._valid_databases[name] = database
        return found

    def _read_services(
        self, sources: Sources, names: Iterable[str], problems: list[Problem]
    ) -> list[ServiceDependency]:
        found: list[ServiceDependency] = []
        for name in sorted(self._catalogue.members(SERVICE, names)):
            prefix = f"{SERVICE}{name.upper()}_"
            part = Section(sources, self._catalogue.service.values(), prefix)
            part.put(("service_name",), name)
            if name == "prefect" and f"{prefix}REQUIRED" not in part.found:
                part.put(("required",), False)  # it is told, never asked
            service = part.build(ServiceDependency, problems)
            self._note(part, {f"{prefix}{field}": known for field, known in self._catalogue.service.items()})
            if service is not None:
                wrong = list(service_checks(service))
                problems += wrong
                found.append(service)
                if not wrong:
                    self._valid_services.append(service)
        return found

    def _note(self, part: Section, known: Mapping[str, Variable]) -> None:
        for name, variable in known.items():
            if name in part.found:
                self._sources[name] = part.found[name].source
            else:
                self._sources.setdefault(name, "default")
            self._texts[name] = (variable, part.get(variable))

    def _link_problems(self, sources: Sources, links: set[str]) -> list[Problem]:
        text = "got a Kubernetes service-link value (tcp://...); set enableServiceLinks: false in the pod's spec"
        ours = [name for name in sorted(links) if self._catalogue.knows(name) and "://" in sources.environ[name]]
        self.ignored = tuple(sorted((links - set(ours)) | (FOREIGN & sources.environ.keys())))
        return [Problem(variable=name, text=text, code=Code.SERVICE_LINK) for name in ours]

    def _unknown(self, sources: Sources, links: set[str], databases: Iterable[str]) -> list[Problem]:
        if not sources.strict:
            return []
        given = [name for name in sources.environ if name not in links and name not in FOREIGN]
        given += [name for name in sources.mounted_names if name.startswith("CONTAINER_")]
        unknown = {name for name in given if not self._catalogue.knows(name)}
        if unknown:
            others = [Catalogue(other) for other in self._others()]
            self._of_others = tuple(name for name in sorted(unknown) if any(other.knows(name) for other in others))
            unknown -= {*self._of_others}
        problems = []
        for name in sorted(unknown):
            meant = self._catalogue.suggestions(name, databases)
            hint = f"Did you mean {meant}?" if meant else "`rpa config example` lists the known ones"
            text = f"unknown variable. {hint} (CONTAINER_CONFIG_STRICT=false allows it)"
            problems.append(Problem(variable=name, text=text, code=Code.UNKNOWN))
        return problems


def _with_given(limits: ResourceLimits, top: Section) -> ResourceLimits:
    """The limits by which defaults are set: variables win over the cgroup, as everywhere."""
    try:
        return ResourceLimits(**{**limits.model_dump(), **top.values.get("resource_limits", {})})
    except ValidationError:  # reported when the configuration is built
        return limits


def _alone(variable: Variable, value: Any) -> Any:
    """The value that the field has for a text, judged without the others; None where that cannot be."""
    field = variable.field
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    try:
        return TypeAdapter(kind).validate_python(value) if value is not None else None
    except ValidationError:  # a rule about several fields failed first, and hid this one
        return None
