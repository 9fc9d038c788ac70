"""postgres:17-trixie keeps the official image's contract, whoever made it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from ci.waits import until
from tests.containers.bootstrap_boxes import HARDENED, Box, Boxes, boxes_of, docker, image

REFERENCE = "postgres:17-trixie"
PASSWORD = 'it\'s a $ecret "word"'
RUN_POSTGRESQL = "--tmpfs=/var/run/postgresql:uid=999,gid=999,mode=3775"


@pytest.fixture
def boxes(engine: str, tmp_path: Path) -> Iterator[Boxes]:
    image(REFERENCE)
    yield from boxes_of(tmp_path)


def serves(box: Box, text: str = "ready for start up") -> None:
    """Wait until the real server answers, after what is done at the first start."""

    def ready() -> bool:
        assert box.inspect()["State"]["Running"], box.logs()
        return text in box.logs() and box.run("pg_isready", "--host=127.0.0.1", check=False).returncode == 0

    until(ready, timeout_s=180, what="PostgreSQL", every_s=0.3)


def ask(box: Box, sql: str, *options: str, user: str = "postgres", database: str = "postgres") -> str:
    command = ("psql", "--no-psqlrc", "--tuples-only", "--no-align", f"--username={user}", f"--dbname={database}")
    return box.run(*command, *options, "--command", sql).stdout


@pytest.mark.requirement("R5.7", "R7.1", "R7.2", "R7.4")
def test_the_first_start_makes_what_variables_and_scripts_say_and_the_second_nothing(boxes: Boxes) -> None:
    """As 999, read-only, without capabilities: user, database, password from a file, every kind of script."""
    boxes.file("init/10.sql", "CREATE TABLE seen (name text);\nINSERT INTO seen VALUES ('sql');\n")
    boxes.file("init/20.sql.gz", gzip.compress(b"INSERT INTO seen VALUES ('sql.gz');\n"))
    run = 'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c '
    boxes.file("init/30.sh", f"#!/bin/sh\nset -eu\n{run}\"INSERT INTO seen VALUES ('executed')\"\n", mode=0o755)
    boxes.file("init/40.sh", f"{run}\"INSERT INTO seen VALUES ('sourced')\"\n")
    boxes.file("init/45.sh", "docker_process_sql <<<\"INSERT INTO seen VALUES ('function')\"\n")
    boxes.file("init/50.sh", "#!/bin/sh\n! pg_isready --host=127.0.0.1\n", mode=0o755)  # over its socket alone
    boxes.file("init/60.txt", "INSERT INTO seen VALUES ('ignored')")
    box = boxes.start(
        *(*HARDENED, RUN_POSTGRESQL, "--user=999:999"),
        f"--volume={boxes.folder}/init:/docker-entrypoint-initdb.d:ro",
        f"--volume={boxes.file('password', PASSWORD)}:/run/secrets/password:ro",
        *("--env=POSTGRES_PASSWORD_FILE=/run/secrets/password", "--env=POSTGRES_USER=me", "--env=POSTGRES_DB=my db"),
        "--env=POSTGRES_INITDB_ARGS=--data-checksums --locale-provider=builtin --builtin-locale=C.UTF-8",
        *(REFERENCE, "-c", "max_connections=33"),
    )
    serves(box)
    seen = "sql,sql.gz,executed,sourced,function"
    count = "SELECT string_agg(name, ',') FROM seen"
    assert ask(box, count, user="me", database="my db") == seen
    assert "ignoring /docker-entrypoint-initdb.d/60.txt" in box.logs()
    settings = "SELECT string_agg(setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN "
    names = "('data_checksums', 'listen_addresses', 'max_connections', 'password_encryption', 'port')"
    assert ask(box, settings + names, user="me") == "on * 33 scram-sha-256 5432"
    assert ask(box, "SELECT datlocprovider FROM pg_database WHERE datname = 'my db'", user="me") == "b"
    assert box.run("stat", "-c", "%a %u", "/var/lib/postgresql/data").stdout == "700 999"
    assert ask(box, "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'me'", user="me") == "t"

    address = next(iter(box.inspect()["NetworkSettings"]["Networks"].values()))["IPAddress"]
    url = f"host={address} user=me dbname=postgres password="
    quoted = "'" + PASSWORD.replace("'", "\\'") + "'"
    assert box.run("psql", url + quoted, "--tuples-only", "--no-align", "--command=SELECT 1").stdout == "1"
    refused = box.run("psql", url + "wrong", "--command=SELECT 1", check=False)
    assert "password authentication failed" in refused.stderr

    docker("restart", box.name)
    serves(box, "Skipping initialization")
    assert ask(box, count, user="me", database="my db") == seen


@pytest.mark.requirement("R5.7", "R7.1")
def test_started_as_root_it_serves_as_999_and_a_stop_is_a_fast_shutdown(boxes: Boxes) -> None:
    """Root only hands the folders over; SIGINT ends sessions, and the exit code is 0."""
    box = boxes.start("--env=POSTGRES_PASSWORD=word", REFERENCE)
    serves(box)
    assert box.user() == "999"
    assert ask(box, "SELECT current_database()") == "postgres"
    assert box.run("stat", "-c", "%u:%g", "/var/lib/postgresql/data/PG_VERSION").stdout == "999:999"
    docker("stop", "--time", "60", box.name)
    assert box.ended() == 0
    assert "received fast shutdown request" in box.logs()


@pytest.mark.requirement("R5.7", "R7.2")
def test_without_a_password_it_refuses(boxes: Boxes) -> None:
    """No password, or two: exit code 1 and a message that names the variables; no cluster is made."""
    box = boxes.start(REFERENCE)
    assert box.ended() == 1
    assert "Database is uninitialized and superuser password is not specified" in box.logs()
    assert "POSTGRES_PASSWORD" in box.logs()
    box = boxes.start("--env=POSTGRES_PASSWORD=a", "--env=POSTGRES_PASSWORD_FILE=/b", REFERENCE)
    assert box.ended() == 1
    assert "both POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are set (but are exclusive)" in box.logs()


@pytest.mark.requirement("R5.7")
def test_trust_is_possible_where_it_is_asked_for(boxes: Boxes) -> None:
    """POSTGRES_HOST_AUTH_METHOD stands at the end of pg_hba.conf."""
    box = boxes.start("--env=POSTGRES_HOST_AUTH_METHOD=trust", REFERENCE)
    serves(box)
    address = next(iter(box.inspect()["NetworkSettings"]["Networks"].values()))["IPAddress"]
    assert ask(box, "SELECT 7", f"--host={address}") == "7"
    assert box.run("tail", "-n", "1", "/var/lib/postgresql/data/pg_hba.conf").stdout == "host all all all trust"


@pytest.mark.requirement("R5.7")
def test_a_script_that_fails_stops_the_first_start(boxes: Boxes) -> None:
    """A half-made database is not served."""
    boxes.file("init/10.sql", "SELECT 1 / 0;\n")
    boxes.file("init/20.sql", "CREATE TABLE never (i int);\n")
    mount = f"--volume={boxes.folder}/init:/docker-entrypoint-initdb.d:ro"
    box = boxes.start(mount, "--env=POSTGRES_PASSWORD=word", REFERENCE)
    assert box.ended() != 0
    assert "division by zero" in box.logs()
    assert "ready for start up" not in box.logs()
    assert "20.sql" not in box.logs()


@pytest.mark.requirement("R5.7")
def test_other_commands_are_run_as_they_are(boxes: Boxes) -> None:
    """Programs are on PATH, and only the server makes a cluster."""
    assert docker("run", "--rm", REFERENCE, "psql", "--version").stdout.startswith("psql (PostgreSQL) 17.")
    assert docker("run", "--rm", REFERENCE, "--version").stdout.startswith("postgres (PostgreSQL) 17.")
    assert docker("run", "--rm", REFERENCE, "locale", "-a").stdout.split().count("en_US.utf8") == 1
