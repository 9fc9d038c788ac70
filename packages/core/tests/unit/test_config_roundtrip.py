"""Every field of the configuration goes through the environment and comes back."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from rpa_core.config.catalogue import DATABASE, SERVICE, Catalogue
from rpa_core.config.checks import cross_checks
from rpa_core.config.fields import Variable, leaf_types
from rpa_core.config.loading import Section
from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.models import FLOW_PATTERN, ContainerConfig, DatabaseConfig, ResourceLimits, ServiceDependency
from rpa_core.config.problems import Problem
from rpa_core.config.sources import Sources
from rpa_core.config.units import parse_bytes, parse_seconds

CATALOGUE = Catalogue()
PRINTABLE = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=("Cs", "Cc", "Cf", "Cn", "Zs")), min_size=1
).filter(lambda text: text[0] not in "\"'`[{")
TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=1024)
BASE = {"CONTAINER_FLOW_NAME": "f", "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://u@h/d"}


def bound(variable: Variable, names: tuple[str, str], default: float) -> float:
    for item in variable.metadata:
        for name in names:
            if getattr(item, name, None) is not None:
                return float(getattr(item, name))
    return default


def values(variable: Variable) -> st.SearchStrategy[tuple[str, Any]]:
    """(text for the environment, value that the field must then have)."""
    leaves = leaf_types(variable.field.annotation)
    literals = [
        choice for leaf in leaves if typing.get_origin(leaf) is typing.Literal for choice in typing.get_args(leaf)
    ]
    low, high = bound(variable, ("ge", "gt"), 0.0), bound(variable, ("le", "lt"), 1e9)
    validators = {getattr(item, "func", None) for item in variable.metadata}
    if literals:
        return st.sampled_from(literals).map(lambda choice: (choice, choice))
    if variable.name.endswith("WEBHOOK_URL"):
        return st.sampled_from([("http://h:4200/api", SecretStr("http://h:4200/api"))])
    if variable.name.endswith("API_URL"):
        return st.sampled_from([("http://h:4200/api", "http://h:4200/api"), ("https://h", "https://h")])
    if tuple in {typing.get_origin(leaf) for leaf in leaves}:
        return st.sampled_from([("http://a:1,http://b", ("http://a:1", "http://b")), ("https://c", ("https://c",))])
    if Path in leaves:
        return st.from_regex(r"\A/[a-z0-9_.\-]{1,20}\Z").map(lambda text: (text, Path(text)))
    if bool in leaves:
        return st.sampled_from([("true", True), ("false", False), ("1", True), ("0", False)])
    if variable.name == "CONTAINER_INTAKE_TOKENS":
        return TOKENS.map(lambda token: (text := json.dumps([{"token": token}]), SecretStr(text)))
    if variable.name.startswith("CONTAINER_INTAKE_") and SecretStr in leaves:
        return TOKENS.map(lambda token: (token, SecretStr(token)))
    if SecretStr in leaves:
        return PRINTABLE.map(lambda text: (text, SecretStr(text)))
    if parse_seconds in validators:
        whole = st.integers(int(low) + 1, min(int(high), 10**6))
        return whole.flatmap(
            lambda s: st.sampled_from([(f"{s}", float(s)), (f"{s}s", float(s)), (f"{s * 1000}ms", float(s))])
        )
    if parse_bytes in validators or int in leaves:
        return st.integers(int(low), int(high)).map(lambda number: (str(number), number))
    if float in leaves:
        return st.floats(max(low, 0.01), high).map(lambda number: (repr(number), number))
    if any(getattr(item, "pattern", None) == FLOW_PATTERN for item in variable.metadata):
        return st.from_regex(r"\A[a-z][a-z0-9_.\-]{0,40}\Z").map(lambda text: (text, text))
    if any(getattr(item, "pattern", None) for item in variable.metadata):
        return st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.\-]{0,30}\Z").map(lambda text: (text, text))
    return PRINTABLE.map(lambda text: (text, text))


def at(model: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        model = getattr(model, part)
    return model


@pytest.mark.requirement("R1.2")
@pytest.mark.parametrize("name", sorted(CATALOGUE.flat))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_flat_fields(name: str, data: st.DataObject) -> None:
    """A value written to its variable is the field's value."""
    variable = CATALOGUE.flat[name]
    text, wanted = data.draw(values(variable))
    manager = ContainerConfigManager(BASE | {name: text}, limits=ResourceLimits)
    contradictions = [problem for problem in manager.problems() if problem.code == "CFG006"]
    assert list(manager.problems()) == contradictions  # two settings may contradict; each must still be read
    if not contradictions:
        assert at(manager.load_container_config(), variable.path) == wanted
        assert manager.sources()[name] == "environment"


@pytest.mark.requirement("R1.2")
@pytest.mark.parametrize("field", sorted({*CATALOGUE.database, *CATALOGUE.service}))
@settings(max_examples=15, deadline=None)
@given(data=st.data(), member=st.from_regex(r"\A[A-Z][A-Z0-9]{0,8}(_[A-Z0-9]{1,8})?\Z"))
def test_fields_of_the_families(field: str, data: st.DataObject, member: str) -> None:
    """The same for databases and services, whatever they are called."""
    for prefix, family, model in (
        (DATABASE, CATALOGUE.database, DatabaseConfig),
        (SERVICE, CATALOGUE.service, ServiceDependency),
    ):
        if field not in family or any(f"_{member}_".endswith(f"_{other}_") for other in family):
            continue
        text, wanted = data.draw(values(family[field]))
        environ = {f"{prefix}{member}_URL": "tcp://h:1", f"{prefix}{member}_{field}": text}
        assert CATALOGUE.members(prefix, environ) == {member.lower()}
        section = Section(Sources(environ), family.values(), f"{prefix}{member}_")
        if model is ServiceDependency:
            section.put(("service_name",), member.lower())
        found: list[Problem] = []
        built = section.build(model, found)
        assert found == []
        assert at(built, family[field].path) == wanted


@pytest.mark.requirement("R1.2")
def test_every_field_has_a_variable() -> None:
    """No field of the configuration can be left out of the environment by mistake."""

    def leaves(model: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        from rpa_core.config.fields import section

        found: set[tuple[str, ...]] = set()
        for name, field in model.model_fields.items():
            inner = section(field.annotation)
            found |= leaves(inner, (*path, name)) if inner else {(*path, name)}
        return found

    families = {("database_connections",), ("service_dependencies",)}
    assert leaves(ContainerConfig) - families == {variable.path for variable in CATALOGUE.flat.values()}
    assert leaves(DatabaseConfig) == {variable.path for variable in CATALOGUE.database.values()}
    assert leaves(ServiceDependency) - {("service_name",)} == {v.path for v in CATALOGUE.service.values()}
    config = ContainerConfig(flow_name="f")
    assert list(cross_checks(config.worker, config.health_check_config, config.intake, config.disk)) == []
