"""From an environment to a configuration, or to everything that is wrong with it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.models import ContainerConfig, ResourceLimits
from rpa_core.config.problems import render
from rpa_core.errors import ConfigError

URL = "postgresql://worker@db.example:5432/rpa_db"
GOOD = {"CONTAINER_FLOW_NAME": "rpa1", "CONTAINER_DATABASE_RPA_DB_URL": URL}
AWKWARD = "a!b@c$d()e*_,/:;=?@ff[]22"


class FlowSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CONTAINER_")

    codebook: str = "anes96"
    target_token: SecretStr | None = None
    languages: list[str] = []


@pytest.fixture(autouse=True)
def no_machine_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is mounted on the machine that runs the tests must not matter."""
    monkeypatch.setattr("rpa_core.config.sources.DEFAULT_SECRETS_DIR", tmp_path / "run-secrets")


def load(environ: dict[str, str], **options: object) -> ContainerConfig:
    return ContainerConfigManager(environ, **options).load_container_config()  # type: ignore[arg-type]  # test options


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert caught.value.exit_code == 78
    return caught.value.problems


@pytest.mark.requirement("R1.2")
def test_sections_come_from_their_variables() -> None:
    """Flat names fill the sections; databases and services are named by the middle of their variables."""
    config = load(
        GOOD
        | {
            "CONTAINER_LEASE_TTL": "15s",
            "CONTAINER_INTAKE_MAX_BODY": "8MiB",
            "CONTAINER_DATABASE_SURVEY_HUB_URL": "postgresql://x@y/z",
            "CONTAINER_DATABASE_SURVEY_HUB_RETRY_ATTEMPTS": "3",
            "CONTAINER_SERVICE_GEO_CODER_URL": "https://geo.example/health",
            "CONTAINER_SERVICE_PREFECT_URL": "http://prefect:4200/api/health",
        }
    )
    assert config.worker.lease_ttl_s == 15.0
    assert config.intake.max_body_bytes == 8 * 1024 * 1024
    assert config.database_connections["survey_hub"].retry_config.max_attempts == 3
    assert [(each.service_name, each.required) for each in config.service_dependencies] == [
        ("geo_coder", True),
        ("prefect", False),
    ]


@pytest.mark.requirement("R1.1")
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CONTAINER_ENVIRONMENT", "prod", ("a word of 4 letters", "Did you mean production?", "CFG003")),
        ("CONTAINER_FLOW_NAME", "two words", ("9 characters of text", "give a name", "CFG003")),
        ("CONTAINER_LEASE_TTL", "0.5", ("got 0.5", "at least 1", "CFG003")),
        ("CONTAINER_LEASE_TTL", "soon", ("not a duration", "10s", "CFG003")),
        ("CONTAINER_LEASE_TTL", "nan", ("not a duration", "CFG003")),
        ("CONTAINER_CHUNK_SIZE", "0", ("got 0", "at least 1, at most 1000", "CFG003")),
        ("CONTAINER_CHUNK_SIZE", "1001", ("got 1001", "at most 1000", "CFG003")),
        ("CONTAINER_CHUNK_SIZE", "ten", ("a word of 3 letters", "give a whole number", "CFG003")),
        ("CONTAINER_INTAKE_MAX_BODY", "1.5 furlongs", ("not a size", "64MiB", "CFG003")),
        ("CONTAINER_NOTIFY", "perhaps", ("a word of 7 letters", "true or false", "CFG003")),
        ("CONTAINER_HEALTH_PORT", "99999", ("got 99999", "at most 65535", "CFG003")),
        ("CONTAINER_HEALTH_PORT", "tcp://10.0.0.1:80", ("service-link", "enableServiceLinks: false", "CFG007")),
        ("CONTAINER_LOW_WATER", "1000000", ("below CONTAINER_HIGH_WATER (1000000)", "CFG006")),
        ("CONTAINER_SHUTDOWN_TIMEOUT", "30", ("CONTAINER_STOP_GRACE", "30 s", "CFG006")),
        ("CONTAINER_RETRY_BASE", "1h", ("CONTAINER_RETRY_CAP", "CFG006")),
        ("CONTAINER_PERIOD_DAYS", "60", ("CONTAINER_RETENTION_DAYS", "CFG006")),
        ("CONTAINER_INTAKE_MAX_LINE", "1GiB", ("CONTAINER_INTAKE_MAX_BODY", "CFG006")),
        ("CONTAINER_HEALTH_HEARTBEAT_MAX_AGE", "1", ("CONTAINER_POLL_MAX", "CFG006")),
        ("CONTAINER_DATABASE_RPA_DB_URL", "mysql://h/d", ("mysql://", "postgresql://user@host", "CFG003")),
        ("CONTAINER_DATABASE_RPA_DB_URL", "just text", ("neither a URL nor key=value", "CFG003")),
        ("CONTAINER_DATABASE_RPA_DB_URL", "postgresql://h:5432", ("names no database", "CFG003")),
        ("CONTAINER_DATABASE_RPA_DB_URL", "postgresql://h:99999/d", ("a port that is no number", "CFG003")),
        ("CONTAINER_DATABASE_RPA_DB_URL", "postgresql://u:p@q@h/d", ("percent-encode", "RPA_DB_PASSWORD", "CFG003")),
        ("CONTAINER_DATABASE_RPA_DB_URL", "postgresql://h/d?nonsense=1", ("cannot be parsed", "CFG003")),
        ("CONTAINER_DATABASE_RPA_DB_POOL_SIZE", "0", ("got 0", "at least 1", "CFG003")),
        ("CONTAINER_SERVICE_GEO_URL", "geo.example", ("is not an address", "https://", "CFG003")),
        ("CONTAINER_SERVICE_GEO_URL", "tcp://geo", ("names no port", "CFG003")),
        ("CONTAINER_SERVICE_GEO_TIMEOUT", "3", ("required and not set", "CFG002")),
        ("CONTAINER_SECRETS_DIR", "/no/such/place", ("not a directory", "CFG005")),
    ],
)
def test_a_bad_value_is_one_message(variable: str, value: str, said: tuple[str, ...]) -> None:
    """Each bad value makes one line naming the variable, what was got in form, and the correction."""
    found = problems(GOOD | {variable: value})
    assert len(found) == 1, found
    prefix = "CONTAINER_SERVICE_GEO_URL" if "TIMEOUT" in variable and "GEO" in variable else variable
    assert found[0].startswith(prefix)
    assert [part for part in said if part not in found[0]] == [], found[0]


@pytest.mark.requirement("R1.1")
def test_all_problems_come_at_once() -> None:
    """One start names the unknown, the missing, the malformed and the contradicting together."""
    found = problems(
        {
            "CONTAINER_LEASE_TLL": "3",
            "CONTAINER_CHUNK_SIZE": "0",
            "CONTAINER_SHUTDOWN_TIMEOUT": "60",
            "CONTAINER_SERVICE_GEO_URL": "geo",
        }
    )
    assert [line.split()[0] for line in found] == [
        "CONTAINER_LEASE_TLL",
        "CONTAINER_DATABASE_RPA_DB_URL",
        "CONTAINER_SERVICE_GEO_URL",
        "CONTAINER_FLOW_NAME",
        "CONTAINER_CHUNK_SIZE",
        "CONTAINER_SHUTDOWN_TIMEOUT",
    ]
    assert render(found).startswith("Configuration invalid: 6 problems (source order: environment > ")


@pytest.mark.requirement("R1.1")
def test_a_rule_about_a_malformed_value_stays_silent() -> None:
    """A contradiction is not invented from the default of a value that could not be read."""
    found = problems(GOOD | {"CONTAINER_HIGH_WATER": "many", "CONTAINER_LOW_WATER": "2000000"})
    assert [line.split()[0] for line in found] == ["CONTAINER_HIGH_WATER"]


@pytest.mark.requirement("R1.4")
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CONTAINER_DATABSE_URL", "CONTAINER_DATABASE_RPA_DB_URL"),
        ("CONTAINER_DATABASE_URL", "CONTAINER_DATABASE_RPA_DB_URL"),
        ("CONTAINER_DB_URL", "CONTAINER_DATABASE_RPA_DB_URL"),
        ("CONTAINER_DATABSE_RPA_DB_URL", "CONTAINER_DATABASE_RPA_DB_URL"),
        ("CONTAINER_DATABASE_SURVEYHUB_URLL", "CONTAINER_DATABASE_SURVEY_HUB_URL"),
        ("CONTAINER_DATABASE_RPA_DB_PASWORD_FILE", "CONTAINER_DATABASE_RPA_DB_PASSWORD_FILE"),
        ("CONTAINER_LEASE_TTL_S", "CONTAINER_LEASE_TTL"),
        ("CONTAINER_LOGLEVEL", "CONTAINER_LOG_LEVEL"),
        ("CONTAINER_CODE_BOOK", "CONTAINER_CODEBOOK"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(name: str, meant: str) -> None:
    """A misspelt variable fails the start and names what was probably meant; a flow's own names count."""
    manager = ContainerConfigManager(GOOD | {name: "x"}, flow_settings=FlowSettings)
    (found,) = manager.problems()
    assert found.variable == name
    assert f"Did you mean {meant}?" in found.text
    assert found.code == "CFG001"


@pytest.mark.requirement("R1.4")
def test_unknown_names_can_be_allowed() -> None:
    """CONTAINER_CONFIG_STRICT=false lets unknown variables be."""
    assert load(GOOD | {"CONTAINER_WHATEVER_ELSE": "x", "CONTAINER_CONFIG_STRICT": "false"}).flow_name == "rpa1"


@pytest.mark.requirement("R1.4")
def test_other_owners_of_the_prefix_are_left_alone() -> None:
    """Podman's variables and Kubernetes' service links are no problems; they are listed as ignored."""
    links = {
        "CONTAINER_HOST": "unix:///run/podman.sock",
        "CONTAINER_SSHKEY": "/home/me/.ssh/id",
        "CONTAINER_PORT": "tcp://10.0.0.1:8080",
        "CONTAINER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "CONTAINER_PORT_8080_TCP_ADDR": "10.0.0.1",
        "CONTAINER_SERVICE_HOST": "10.0.0.1",
        "CONTAINER_SERVICE_PORT": "8080",
        "CONTAINER_SERVICE_PORT_HTTP": "8080",
        "CONTAINER_WEB_SERVICE_HOST": "10.0.0.2",
        "CONTAINER_WEB_PORT": "tcp://10.0.0.2:80",
    }
    manager = ContainerConfigManager(GOOD | links)
    assert manager.problems() == ()
    assert set(manager.ignored) == set(links)


@pytest.mark.requirement("R1.4")
def test_a_required_variable_is_named() -> None:
    """What is missing is named with its form; a tool that runs no flow does without the flow's name."""
    assert [line.split()[0] for line in problems({})] == ["CONTAINER_DATABASE_RPA_DB_URL", "CONTAINER_FLOW_NAME"]
    assert load({"CONTAINER_DATABASE_RPA_DB_URL": URL}, needs_flow=False).flow_name == "none"
    with pytest.raises(ConfigError, match=r"CONTAINER_DATABASE_SURVEY_HUB_URL .*required"):
        load(GOOD, databases=("rpa_db", "survey_hub"))


@pytest.mark.requirement("R1.2", "R7.2")
def test_sources_in_order(tmp_path: Path) -> None:
    """Environment, then file, then mounted secret, then default; each value's source is on record."""
    (tmp_path / "token").write_text("the-token-from-the-file\n\n")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "container_lease_ttl").write_text("20\n")
    (mounted / "chunk_size").write_text("10")
    (mounted / "container_poll_max").write_text("2")
    (mounted / "database_survey_hub_url").write_text("postgresql://m@h/survey")
    (mounted / "unrelated").write_text("x")
    manager = ContainerConfigManager(
        GOOD
        | {
            "CONTAINER_SECRETS_DIR": f"{mounted}",
            "CONTAINER_INTAKE_TOKEN_FILE": str(tmp_path / "token"),
            "CONTAINER_POLL_MAX": "3",
            "CONTAINER_LOG_LEVEL": "",
        },
        flow_name="argument",
    )
    config, sources = manager.load_container_config(), manager.sources()
    assert config.intake.token is not None
    assert config.intake.token.get_secret_value() == "the-token-from-the-file"
    assert (config.worker.lease_ttl_s, config.worker.chunk_size, config.worker.poll_max_s) == (20, 10, 3)
    assert config.database_connections["survey_hub"].dsn() == "postgresql://m@h/survey"
    assert config.flow_name == "argument"
    assert sources["CONTAINER_FLOW_NAME"] == "argument"
    assert sources["CONTAINER_POLL_MAX"] == "environment"
    assert sources["CONTAINER_INTAKE_TOKEN"] == f"file {tmp_path / 'token'} (CONTAINER_INTAKE_TOKEN_FILE)"
    assert sources["CONTAINER_LEASE_TTL"] == f"secret {mounted / 'container_lease_ttl'}"
    assert sources["CONTAINER_LOG_LEVEL"] == "default"
    assert sources["CONTAINER_CPU_LIMIT"] == "cgroup limits"


@pytest.mark.requirement("R1.1", "R7.2")
@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", "{}\n\r\n\n", "\ufeff{}", "\ufeff{}\r\n", "\n{}"])
@pytest.mark.parametrize("way", ["variable", "file", "mounted"])
def test_line_ends_and_marks_around_a_value_are_taken_off(tmp_path: Path, around: str, way: str) -> None:
    """Of secrets, addresses, paths, words and numbers alike, wherever they are read from."""
    wanted = {
        "CONTAINER_DATABASE_RPA_DB_PASSWORD": AWKWARD,
        "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://u@h/d",
        "CONTAINER_PREFECT_API_URL": "http://h:4200/api",
        "CONTAINER_ALERT_WEBHOOK_URL": "https://h/hook",
        "CONTAINER_LOG_DIR": "/logs",
        "CONTAINER_LOG_FORMAT": "console",
        "CONTAINER_CHUNK_SIZE": "7",
        "CONTAINER_WORKER_ID": "w1",
    }
    environ = {"CONTAINER_FLOW_NAME": "f", "CONTAINER_SECRETS_DIR": str(tmp_path)}
    for name, text in wanted.items():
        written = around.format(text)
        if way == "variable":
            environ[name] = written
            continue
        file = tmp_path / (name.lower() if way == "mounted" else f"at-{name}")
        file.write_bytes(written.encode())
        if way == "file":
            environ[f"{name}_FILE"] = str(file)
    config = load(environ)
    database = config.database_connections["rpa_db"]
    assert database.password is not None
    assert database.password.get_secret_value() == AWKWARD
    assert database.connection_string.get_secret_value() == "postgresql://u@h/d"
    assert config.prefect.api_url == "http://h:4200/api"
    assert config.alerts.webhook_url is not None
    assert config.alerts.webhook_url.get_secret_value() == "https://h/hook"
    assert (config.disk.log_dir, config.monitoring_config.log_format) == (Path("/logs"), "console")
    assert (config.worker.chunk_size, config.worker.worker_id) == (7, "w1")


KINDS = {
    "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://u@h/d",
    "CONTAINER_DATABASE_RPA_DB_PASSWORD": "secret-secret",
    "CONTAINER_PREFECT_API_KEY": "secret-secret",
    "CONTAINER_PREFECT_API_URL": "http://h:4200/api",
    "CONTAINER_ALERT_WEBHOOK_URL": "https://h/hook",
    "CONTAINER_SERVICE_X_URL": "http://h/health",
    "CONTAINER_SPOOL_DIR": "/var/spool/x",
    "CONTAINER_LOG_LEVEL": "info",
    "CONTAINER_NOTIFY": "true",
    "CONTAINER_CHUNK_SIZE": "7",
    "CONTAINER_LEASE_TTL": "10s",
    "CONTAINER_SPOOL_MAX": "2MiB",
    "CONTAINER_CPU_LIMIT": "0.5",
    "CONTAINER_WORKER_ID": "w1",
    "CONTAINER_HEALTH_HOST": "127.0.0.1",
}
LITERAL = [name for name in KINDS if name.endswith(("URL", "PASSWORD", "KEY", "DIR"))]


@pytest.mark.requirement("R1.1", "R7.2")
@pytest.mark.parametrize("name", KINDS)
def test_what_is_written_around_or_into_a_value_is_named(name: str, tmp_path: Path) -> None:
    """Quotes, blanks, line ends, invisible characters, NUL: one problem that says what to do, and never the value."""
    text = KINDS[name]
    cases = {
        f'"{text}"': "remove the quotes",
        f"'{text}'": "remove the quotes",
        f'"{text}"\r\n': "remove the quotes",
        " ": "white space alone",
        "\udcff" + text: "UTF-8",
    }
    if name in LITERAL:
        cases |= {
            f" {text}": "begins or ends with a blank",
            f"{text}\u00a0": "begins or ends with a blank",
            f"{text[:9]}\n{text[9:]}": "line end within",
            f"{text[:4]}\u200b{text[4:]}": "invisible",
            f"{text[:4]}\x1b{text[4:]}": "control",
        }
    for written, words in cases.items():
        (found,) = problems(GOOD | {name: written})
        assert found.startswith(f"{name}  "), (written, found)
        assert words in found, (written, found)
        assert not any(part in found for part in ("secret-", "h/hook", "h:4200", "u@h")), found
    (tmp_path / "nul").write_bytes(text.encode("utf-16-le"))
    (tmp_path / "empty").write_bytes(b"\xef\xbb\xbf\r\n")
    bare = {each: GOOD[each] for each in GOOD if each != name}
    (found,) = problems(bare | {f"{name}_FILE": str(tmp_path / "nul")})
    assert "UTF-16" in found
    (found,) = problems(bare | {f"{name}_FILE": str(tmp_path / "empty")})
    assert "empty; write the value into it" in found
    (found,) = problems(bare | {f"{name}_FILE": f'"{tmp_path}/x"'})
    assert found.startswith(f"{name}_FILE  is in quotes")


@pytest.mark.requirement("R1.1")
def test_words_of_a_closed_set_are_taken_in_any_case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """INFO is info; and a path may begin with ~, where there is a home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load(
        GOOD
        | {"CONTAINER_LOG_LEVEL": "INFO", "CONTAINER_ENVIRONMENT": "Production", "CONTAINER_LOG_FORMAT": " JSON "}
        | {"CONTAINER_SPOOL_DIR": "~/spool", "CONTAINER_CONFIG_STRICT": "False"}
    )
    assert (config.monitoring_config.log_level, config.environment) == ("info", "production")
    assert config.spool.directory == tmp_path / "spool"
    (found,) = problems(GOOD | {"CONTAINER_SPOOL_DIR": "~no_such_user/spool"})
    assert "write the whole path" in found
    (found,) = problems(GOOD | {"CONTAINER_CONFIG_STRICT": "'false'"})
    assert found.startswith("CONTAINER_CONFIG_STRICT  write true or false")


@pytest.mark.requirement("R1.1", "N1")
def test_a_flows_name_has_one_rule() -> None:
    """The configuration, the library and the database take the same names."""
    from rpa_core.config.models import FLOW_PATTERN
    from rpa_core.store.intake import FLOW_NAME

    ledger = resources.files("rpa_core.store.migrations").joinpath("0001_ledger.sql").read_text()
    assert FLOW_PATTERN.replace("\\", "") == f"^{FLOW_NAME.pattern}$"
    assert f"CHECK (name ~ '^{FLOW_NAME.pattern}$')" in ledger
    for name in ("Orders", "a" * 42, "1a", "a b"):
        (found,) = problems(GOOD | {"CONTAINER_FLOW_NAME": name})
        assert "at most 41" in found


@pytest.mark.requirement("R1.1", "R7.2")
def test_unreadable_files_are_explained(tmp_path: Path) -> None:
    """A file that is absent, a directory, too large or no text is named with the reason; so are both forms at once."""
    (tmp_path / "binary").write_bytes(b"abc\xff")
    (tmp_path / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    cases = {
        str(tmp_path / "absent"): "does not exist",
        str(tmp_path): "is a directory",
        str(tmp_path / "binary"): "not UTF-8",
        str(tmp_path / "large"): "larger than 1 MiB",
    }
    for path, reason in cases.items():
        (found,) = problems(GOOD | {"CONTAINER_INTAKE_TOKEN_FILE": path})
        assert path in found
        assert reason in found
        assert "[CFG005]" in found
    (found,) = problems(GOOD | {"CONTAINER_INTAKE_TOKEN": "x", "CONTAINER_INTAKE_TOKEN_FILE": "/y"})
    assert "both CONTAINER_INTAKE_TOKEN and CONTAINER_INTAKE_TOKEN_FILE are set" in found


@pytest.mark.requirement("R1.1", "R7.2")
def test_a_forbidden_file_tells_owner_mode_and_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual trouble with mounted secrets: the message has what is needed to repair it."""
    file = tmp_path / "secret"
    file.write_text("x")
    file.chmod(0o600)

    plain_open = Path.open

    def deny(self: Path, *args: Any, **options: Any) -> Any:
        if self == file:
            raise PermissionError(13, "Permission denied")
        return plain_open(self, *args, **options)

    monkeypatch.setattr(Path, "open", deny)
    (found,) = problems(GOOD | {"CONTAINER_INTAKE_TOKEN_FILE": str(file)})
    assert "permission denied (owner " in found
    assert "mode 0600, running as " in found
    assert "chmod 0444" in found


@pytest.mark.requirement("R1.2", "R7.2")
@pytest.mark.parametrize("password", [AWKWARD, "with space", "quo'te\\back", "ünï", "%41"])
def test_any_password_is_merged_into_the_dsn(password: str) -> None:
    """A password given apart from the URL arrives at the driver as it is and wins over the URL's."""
    from psycopg.conninfo import conninfo_to_dict

    url = "postgresql://worker:old@db.example:5432/rpa_db?sslmode=require"
    config = load(GOOD | {"CONTAINER_DATABASE_RPA_DB_URL": url, "CONTAINER_DATABASE_RPA_DB_PASSWORD": password})
    parts = conninfo_to_dict(config.database_connections["rpa_db"].dsn())
    assert parts["password"] == password
    assert (parts["host"], parts["dbname"], parts["sslmode"]) == ("db.example", "rpa_db", "require")


@pytest.mark.requirement("R1.2")
def test_a_flow_brings_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow's model is read from the same sources, with the process environment left out."""
    monkeypatch.setenv("CONTAINER_CODEBOOK", "from the process")
    given = GOOD | {"CONTAINER_TARGET_TOKEN": "t0ken", "CONTAINER_LANGUAGES": "de, fr"}
    manager = ContainerConfigManager(given, flow_settings=FlowSettings)
    settings = manager.load_flow_settings()
    assert isinstance(settings, FlowSettings)
    assert (settings.codebook, settings.languages) == ("anes96", ["de", "fr"])
    assert "t0ken" in manager.secret_values()


@pytest.mark.requirement("R1.2")
def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the mapping that is passed in counts."""
    monkeypatch.setenv("CONTAINER_LEASE_TTL", "99")
    assert load(GOOD).worker.lease_ttl_s == 10.0
    assert ContainerConfig(flow_name="x").worker.lease_ttl_s == 10.0


@pytest.mark.requirement("R6.1")
@pytest.mark.parametrize(
    ("cores", "memory", "pool", "claim"),
    [(0.25, 64 << 20, 3, 409), (1.0, 128 << 20, 3, 819), (2.0, None, 5, 4000), (64.0, 64 << 30, 10, 4000)],
)
def test_defaults_follow_the_limits(cores: float, memory: int | None, pool: int, claim: int) -> None:
    """Pools and claims fit the container; a variable that is set wins."""
    limits = ResourceLimits(cpu_cores=cores, memory_bytes=memory)
    config = load(GOOD, limits=lambda: limits)
    assert config.resource_limits == limits
    assert config.database_connections["rpa_db"].connection_pool_size == pool
    assert config.worker.claim_records == claim
    given = GOOD | {"CONTAINER_DATABASE_RPA_DB_POOL_SIZE": "7", "CONTAINER_CLAIM_RECORDS": "77"}
    set_by_hand = load(given, limits=lambda: limits)
    assert set_by_hand.database_connections["rpa_db"].connection_pool_size == 7
    assert set_by_hand.worker.claim_records == 77


@pytest.mark.requirement("R1.2")
def test_the_managers_other_methods() -> None:
    """Validation is a yes or no; waiting and monitoring are done by what is handed in."""
    assert not ContainerConfigManager({}).validate_container_environment()
    waited: list[float] = []

    def wait(config: ContainerConfig, timeout_s: float) -> bool:
        waited.append(timeout_s)
        return config.flow_name == "rpa1"

    manager = ContainerConfigManager(GOOD, wait=wait)
    assert manager.validate_container_environment()
    assert manager.wait_for_dependencies(7)
    assert waited == [7.0]
