"""The documents that are made from the models."""

from __future__ import annotations

import json

import pytest

from rpa_core.config.catalogue import Catalogue
from rpa_core.config.documents import env_example, json_schema
from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.units import parse_bytes, parse_seconds


@pytest.mark.requirement("R1.2")
def test_the_example_is_complete_and_valid() -> None:
    """Every variable is in it, and with all lines switched on it loads to the defaults."""
    catalogue = Catalogue()
    text = env_example(catalogue)
    assert [name for name in catalogue.flat if f"{name}=" not in text] == []
    pairs = [
        line.removeprefix("# ").partition("=") for line in text.splitlines() if "CONTAINER_" in line.partition("=")[0]
    ]
    environ = {name: value for name, _, value in pairs if name.replace("_", "").isalnum()}
    assert len(environ) > 50
    manager = ContainerConfigManager(environ, databases=("rpa_db", "survey_hub"))
    assert manager.problems() == ()
    plain = ContainerConfigManager(
        {"CONTAINER_FLOW_NAME": "rpa1", "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://u@h/d"}
    ).load_container_config()
    assert manager.load_container_config().monitoring_config == plain.monitoring_config
    assert manager.load_container_config().intake == plain.intake


@pytest.mark.requirement("R1.2")
def test_the_schema_names_every_variable() -> None:
    """It is JSON, holds each variable and hides the secret ones."""
    catalogue = Catalogue()
    schema = json.loads(json.dumps(json_schema(catalogue)))
    assert set(catalogue.flat) <= set(schema["properties"])
    assert schema["properties"]["CONTAINER_INTAKE_TOKEN"]["writeOnly"] is True
    assert "default" not in schema["properties"]["CONTAINER_INTAKE_TOKEN"]
    assert schema["properties"]["CONTAINER_CHUNK_SIZE"]["anyOf"][0] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
    }


@pytest.mark.requirement("R1.2")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10.0), ("2.5", 2.5), ("500ms", 0.5), ("10 s", 10.0), ("5m", 300.0), ("2h", 7200.0), ("7d", 604800.0)],
)
def test_durations(text: str, seconds: float) -> None:
    """Seconds, or a number with a unit."""
    assert parse_seconds(text) == seconds


@pytest.mark.requirement("R1.2")
@pytest.mark.parametrize(
    ("text", "size"),
    [("1024", 1024), ("64KiB", 65536), ("64Ki", 65536), ("1.5MiB", 1572864), ("10MB", 10_000_000), ("1g", 10**9)],
)
def test_sizes(text: str, size: int) -> None:
    """Bytes, or a number with a binary or decimal unit."""
    assert parse_bytes(text) == size


@pytest.mark.requirement("R1.1")
@pytest.mark.parametrize("text", ["", "-1", "1e", "inf", "nan", "1 parsec", "1,5", "s"])
def test_what_is_no_quantity(text: str) -> None:
    """Is refused with a message that does not repeat it."""
    for parse in (parse_seconds, parse_bytes):
        with pytest.raises(ValueError) as caught:
            parse(text)
        assert "write" in str(caught.value)
