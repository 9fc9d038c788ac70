"""A secret shows up nowhere: problems, reports, tables, repr, logs, tracebacks."""

from __future__ import annotations

import io
import json
import logging
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rpa_core.config.display import shown
from rpa_core.config.manager import ContainerConfigManager
from rpa_core.config.problems import lines, render
from rpa_core.config.redact import dsn_display, dsn_passwords
from rpa_core.errors import ConfigError
from rpa_core.observability.logs import configure
from rpa_core.observability.redaction import Redactor
from rpa_core.services.validator import ConfigurationValidator

CANARY = "c4n4ry-S3cr3t!@/:é'x"
TOKEN = "c4n4ry-S3cr3t-of-the-intake"
ENCODED = quote(CANARY, safe="")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CONTAINER_")

    api_token: SecretStr
    mode: str = "a"

    @field_validator("mode")
    @classmethod
    def known(cls, value: str) -> str:
        if value != "a":
            raise ValueError(f"mode {value} is not known")
        return value


def leaked(text: str) -> bool:
    return any(form in text for form in ("c4n4ry", CANARY, ENCODED, "S3cr3t"))


@pytest.mark.requirement("R7.2", "R1.1")
@pytest.mark.parametrize(
    "wrong",
    [
        {"CONTAINER_DATABASE_RPA_DB_URL": f"postgresql://u:{CANARY}@h/d"},
        {"CONTAINER_DATABASE_RPA_DB_URL": f"mysql://u:{ENCODED}@h/d"},
        {"CONTAINER_DATABASE_RPA_DB_URL": CANARY},
        {"CONTAINER_DATABASE_RPA_DB_URL": f"postgresql://u:%zz{ENCODED}@h/d"},
        {"CONTAINER_DATABASE_RPA_DB_URL": f"postgresql://u@h/d?{CANARY}=1"},
        {"CONTAINER_CHUNK_SIZE": CANARY},
        {"CONTAINER_LEASE_TTL": CANARY},
        {"CONTAINER_INTAKE_MAX_BODY": CANARY},
        {"CONTAINER_ENVIRONMENT": CANARY},
        {"CONTAINER_FLOW_NAME": CANARY},
        {"CONTAINER_NOTIFY": CANARY},
        {"CONTAINER_MODE": CANARY},
        {"CONTAINER_SERVICE_X_URL": CANARY},
        {"CONTAINER_SERVICE_X_URL": f"http://u:{CANARY}@[bad"},
        {"CONTAINER_UNKNOWN_THING": CANARY},
        {"CONTAINER_INTAKE_TOKEN": CANARY, "CONTAINER_INTAKE_TOKEN_FILE": "/x"},
    ],
)
def test_problems_never_repeat_a_value(wrong: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """A secret that landed in any variable, even the wrong one, is not printed with its problem."""
    environ = {
        "CONTAINER_FLOW_NAME": "f",
        "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://u@h/d",
        "CONTAINER_API_TOKEN": CANARY,
    }
    manager = ContainerConfigManager(environ | wrong, flow_settings=Settings)
    with pytest.raises(ConfigError) as caught:
        manager.load_container_config()
    trace = "".join(traceback.format_exception(caught.value))
    report = ConfigurationValidator(environ | wrong, flow_settings=Settings).generate_startup_report(connect=False)
    for text in (str(caught.value), repr(caught.value), trace, render(lines(manager.problems())), report.to_text()):
        assert not leaked(text)
    assert not leaked(report.to_json())
    assert not leaked(repr(report))
    assert not leaked(caplog.text)


@pytest.mark.requirement("R7.2", "R1.6")
def test_a_loaded_configuration_hides_its_secrets(tmp_path: Path) -> None:
    """repr, dump, the `show` table and the report hold hidden values; the registered ones cover all of them."""
    (tmp_path / "token").write_text(TOKEN)
    environ = {
        "CONTAINER_FLOW_NAME": "f",
        "CONTAINER_DATABASE_RPA_DB_URL": f"postgresql://u:{ENCODED}@h/d?sslmode=require",
        "CONTAINER_DATABASE_OTHER_URL": "host=h dbname=d user=u",
        "CONTAINER_DATABASE_OTHER_PASSWORD": CANARY,
        "CONTAINER_SERVICE_X_URL": f"https://u:{ENCODED}@x.example/health?key={ENCODED}",
        "CONTAINER_INTAKE_TOKEN_FILE": str(tmp_path / "token"),
        "CONTAINER_INTAKE_READ_TOKEN": TOKEN + "-r",
        "CONTAINER_INTAKE_TOKENS": json.dumps([{"token": TOKEN + "-more", "allow": ["read"]}]),
        "CONTAINER_API_TOKEN": CANARY,
    }
    manager = ContainerConfigManager(environ, flow_settings=Settings)
    config = manager.load_container_config()
    rows = shown(manager)
    table = json.dumps([(row.variable, row.value, row.source, row.text) for row in rows], ensure_ascii=False)
    for text in (repr(config.database_connections), str(config.intake), table, repr(manager.load_flow_settings())):
        assert not leaked(text)
    assert not leaked(config.model_dump_json(exclude={"service_dependencies"}))
    assert "postgresql://u:********@h/d?sslmode=require" in table
    assert "https://x.example/health" in table
    assert {CANARY, TOKEN, TOKEN + "-r", TOKEN + "-more"} <= set(manager.secret_values())


@pytest.mark.requirement("R7.2")
def test_an_address_whose_path_may_be_a_credential_is_a_secret() -> None:
    """A webhook's path and query, a token in a health address: hidden where they are shown, and registered for logs."""
    environ = {
        "CONTAINER_FLOW_NAME": "f",
        "CONTAINER_DATABASE_RPA_DB_URL": "postgresql://u@h/d",
        "CONTAINER_ALERT_WEBHOOK_URL": "https://hooks.example/services/T1/lowercasepath?a=canaryquery",
        "CONTAINER_SERVICE_X_URL": "https://x.example/ping/3fa85f64-5717-4562?token=canarytoken&format=json",
        "CONTAINER_SERVICE_PREFECT_URL": "http://prefect:4200/api/health",
        "CONTAINER_ALERTMANAGER_URLS": "http://am:9093/prefix/Canary1segment",
        "CONTAINER_API_TOKEN": "https://flow.example/own/canarypath",
    }
    manager = ContainerConfigManager(environ, flow_settings=Settings)
    rows = {row.variable: row.text for row in shown(manager)}
    assert rows["CONTAINER_ALERT_WEBHOOK_URL"] == "https://hooks.example/********"
    assert rows["CONTAINER_SERVICE_X_URL"] == "https://x.example/ping/********"
    assert rows["CONTAINER_SERVICE_PREFECT_URL"] == "http://prefect:4200/api/health"
    assert rows["CONTAINER_ALERTMANAGER_URLS"] == "['http://am:9093/prefix/********']"
    assert "hooks.example" not in repr(manager.load_container_config().alerts)
    redactor = Redactor(manager.secret_values())
    for echoed in (
        "POST /services/T1/lowercasepath?a=canaryquery HTTP/1.1",
        "lowercasepath",
        "x=canaryquery&y",
        "GET /ping/3fa85f64-5717-4562?token=canarytoken&format=json",
        "segment Canary1segment",
        "/own/canarypath",
    ):
        hidden = redactor.text(echoed)
        assert not any(part in hidden for part in ("lowercase", "canary", "Canary", "3fa85f64")), hidden
    plain = "services answer at http://prefect:4200/api/health in json"
    assert redactor.text(plain) == plain


@pytest.mark.requirement("R7.2", "R5.3")
@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://u:s3c@h/d", "postgresql://u:********@h/d"),
        ("(redis://:s3c@h, redis://u:a/b:c@d@h)", "(redis://:********@h, redis://u:********@h)"),
        ("'amqp://u:s3c@h' and x://v:w@h", "'amqp://u:********@h' and x://v:********@h"),
        ("http://h/x?next=postgresql://u:s3c@h/d", "http://h/x?next=postgresql://u:********@h/d"),
        ("http://h:8080/path mail@example.com", "http://h:8080/path mail@example.com"),
        ("http://u@h/x:y", "http://u@h/x:y"),
        ("scheme://b:" * 9 + "@h", "scheme://b:********@h"),
        ("://a:" * 9000, "://a:" * 9000),
    ],
)
def test_passwords_in_addresses_are_hidden(text: str, hidden: str) -> None:
    """Wherever the address stands; where there is none, nothing changes, however often one seems to begin."""
    assert Redactor().text(text) == hidden


@pytest.mark.requirement("R7.2", "R5.3")
@pytest.mark.parametrize("kind", ["json", "console"])
def test_a_registered_secret_never_reaches_a_log(kind: str) -> None:
    """Not in a message, argument, extra, nested extra, key, traceback, cause or note; not encoded either."""
    stream = io.StringIO()
    logs = configure(kind, "debug", secrets=[CANARY], stream=stream, hooks=False)  # type: ignore[arg-type]  # one of two texts
    log = logging.getLogger("rpa.test")
    try:
        log.info("connecting with " + CANARY)
        log.info("connecting with %s", CANARY)
        log.info(
            "x", extra={"deep": {"list": [CANARY, {"k": CANARY}]}, "raw": CANARY.encode(), "obj": ValueError(CANARY)}
        )
        log.info("x", extra={"url": f"postgresql://u:{ENCODED}@h/d", f"odd.{CANARY}": {CANARY: 1}})
        log.info("%s", json.dumps({"v": CANARY}))
        log.info("GET /items?q=%s", ENCODED)
        try:
            try:
                raise ValueError(CANARY)
            except ValueError as error:
                error.add_note(f"note {CANARY}")
                raise RuntimeError(f"dsn postgresql://u:{ENCODED}@h/d {CANARY!r}") from error
        except RuntimeError:
            log.exception("failed %s", CANARY)
        log.info("stack", stack_info=True)
    finally:
        logs.stop()
    assert stream.getvalue().count("\n") >= 7
    assert not leaked(stream.getvalue())


@pytest.mark.requirement("R7.2")
@pytest.mark.parametrize(
    ("dsn", "display"),
    [
        ("postgresql://u:secret@h:5/d", "postgresql://u:********@h:5/d"),
        ("postgresql://u@h/d?password=secret&sslmode=x", "postgresql://u@h/d?password=********&sslmode=x"),
        ("host=h password=secret dbname=d", "host=h password=******** dbname=d"),
        ("host=h sslpassword='secret' dbname=d", "host=h sslpassword=******** dbname=d"),
        ("postgresql://u@h/d?sslpassword=secret&a=b", "postgresql://u@h/d?sslpassword=********&a=b"),
        ("postgresql://u@h/d?a=b&oauth_client_secret=secret", "postgresql://u@h/d?a=b&oauth_client_secret=********"),
        (r"host=h password='se\' cret' dbname=d", "host=h password=******** dbname=d"),
        ("postgresql://h/d", "postgresql://h/d"),
    ],
)
def test_connection_strings_are_shown_without_passwords(dsn: str, display: str) -> None:
    """The rest stays readable; the passwords found are what a log must hide."""
    assert dsn_display(dsn) == display
    assert bool(dsn_passwords(dsn)) == ("********" in display)
