"""What a container of the production stack may not do, tried out."""

from __future__ import annotations

import re

import pytest

from .driver import Driver, docker, inspect

pytestmark = pytest.mark.xdist_group("stack-production")
SERVICES = ("postgres", "rpa1", "rpa2", "rpa3", "haproxy", "prefect", "prometheus", "alertmanager")
CONNECT = """
import sys, psycopg
try:
    psycopg.connect(sys.argv[1], password=open(sys.argv[2]).read() if sys.argv[2] else "x").close()
    print("connected")
except psycopg.Error as error:
    print(error)
"""
RPA_DB = "host=postgres user=rpa dbname=rpa_db sslrootcert=/run/secrets/ca.crt"
PASSWORD = "/run/secrets/database_rpa_db_password"


@pytest.mark.requirement("R5.7")
def test_the_production_stack_is_well(production: Driver) -> None:
    """Everything is up from production's images, with no receiver and no debugger."""
    found = production.containers()
    assert all(one.well for one in found), [(one.name, one.said) for one in found if not one.well]
    assert {one.service for one in found} == {*SERVICES, "migrate"}
    (worker,) = inspect(*production.names("rpa2"))
    assert worker["Config"]["Image"].endswith("rpa-flow2:production")
    assert "CONTAINER_ENVIRONMENT=production" in worker["Config"]["Env"]
    assert worker["Config"]["Entrypoint"] == ["rpa"]
    debugger = "import importlib.util as u; print(u.find_spec('debugpy'))"
    assert docker("exec", worker["Id"], "python", "-c", debugger).strip() == "None"


@pytest.mark.requirement("R7.1", "R7.4")
def test_the_engine_holds_every_container(production: Driver) -> None:
    """As the engine has it, not as the file says: user, capabilities, file system, limits, logs, ports."""
    for one in inspect(*(found.name for found in production.containers())):
        host, config, name = one["HostConfig"], one["Config"], one["Name"]
        user = config["User"].partition(":")[0]
        assert user.isdigit(), name
        assert int(user) > 0, name
        assert host["ReadonlyRootfs"] is True, name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert host["Privileged"] is False, name
        assert host["Init"] is True, name
        assert host["Memory"] > 0, name
        assert host["NanoCpus"] > 0, name
        assert host["PidsLimit"] > 0, name
        assert {"max-size", "max-file"} <= set(host["LogConfig"]["Config"]), name
        assert host["PidMode"] == "", name
        assert host["IpcMode"] == "private", name
        bound = [port["HostIp"] for ports in (host["PortBindings"] or {}).values() for port in ports]
        assert set(bound) <= {"127.0.0.1"}, name
        assert not any("docker.sock" in mount["Source"] for mount in one["Mounts"]), name


@pytest.mark.requirement("R7.1", "R7.4")
@pytest.mark.parametrize("service", SERVICES)
def test_processes_have_no_power(production: Driver, service: str) -> None:
    """The main process and its children: not root, no capability, none to be gained; the root is not writable."""
    name = production.names(service)[0]
    status = docker("exec", name, "sh", "-c", "cat /proc/[0-9]*/status 2>/dev/null; true")  # some end meanwhile
    assert set(re.findall(r"^CapEff:\s+(\S+)", status, re.MULTILINE)) == {"0" * 16}
    assert set(re.findall(r"^CapBnd:\s+(\S+)", status, re.MULTILINE)) == {"0" * 16}
    assert set(re.findall(r"^NoNewPrivs:\s+(\S+)", status, re.MULTILINE)) == {"1"}
    assert not any(user == "0" for user in re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE))
    for folder in ("/", "/usr", "/etc"):
        said = docker("exec", name, "sh", "-c", f"echo x > {folder.rstrip('/')}/proof", check=False)
        assert "Read-only file system" in said, said


@pytest.mark.requirement("R7.1")
def test_a_worker_cannot_become_root(production: Driver) -> None:
    """setuid, and a program that is root's by its mode, change nothing."""
    name = production.names("rpa1")[0]
    tried = "import os\ntry:\n    os.setuid(0)\nexcept PermissionError as error:\n    print(error)"
    assert "Operation not permitted" in docker("exec", name, "python", "-c", tried)
    found = docker("exec", name, "sh", "-c", "find / -xdev -perm /6000 -type f 2>/dev/null; true")
    assert found == ""


@pytest.mark.requirement("R7.2", "R7.4")
def test_no_secret_is_seen_from_outside(production: Driver) -> None:
    """Not in environments, commands or logs; and each container has only the secrets that it needs."""
    names = [one.name for one in production.containers()]
    told = docker("inspect", *names) + "".join(docker("logs", name, check=False) for name in names)
    files = ("postgres_password", "database_rpa_db_password", "database_survey_hub_password", "intake_token")
    for file in (*files, "delivery_token"):
        assert production.secret(file) not in told, file
    held = {
        service: set(docker("exec", production.names(service)[0], "ls", "/run/secrets").split())
        for service in ("rpa1", "rpa2", "rpa3")
    }
    assert held == {
        "rpa1": {"ca.crt", "database_rpa_db_password", "database_survey_hub_password", "intake_token"},
        "rpa2": {"ca.crt", "database_rpa_db_password"},
        "rpa3": {"ca.crt", "database_rpa_db_password", "delivery_token"},
    }


@pytest.mark.requirement("R7.3", "R1.3")
def test_every_connection_to_postgresql_is_encrypted(production: Driver) -> None:
    """By PostgreSQL's own account: TLS 1.3 for each client from the network, and no other client."""
    rows = production.sql(
        "SELECT a.usename, s.ssl, s.version FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)"
        " WHERE a.backend_type = 'client backend' AND a.client_addr IS NOT NULL"
    )
    assert {user for user, _, _ in rows} == {"rpa", "survey_hub"}
    assert {(ssl, version) for _, ssl, version in rows} == {("t", "TLSv1.3")}
    assert production.sql("SHOW data_checksums") == [("on",)]


@pytest.mark.requirement("R7.3", "R1.3")
@pytest.mark.parametrize(
    ("address", "password", "answer"),
    [
        pytest.param(f"{RPA_DB} sslmode=verify-full", PASSWORD, "connected", id="as the workers do"),
        pytest.param(f"{RPA_DB} sslmode=disable", PASSWORD, "no encryption", id="without TLS"),
        pytest.param(f"{RPA_DB} sslmode=verify-full", "", "password authentication failed", id="wrong password"),
        pytest.param(
            "host=postgres user=rpa dbname=rpa_db sslmode=verify-full sslrootcert=system",
            PASSWORD,
            "certificate verify failed",
            id="another CA",
        ),
        pytest.param(
            "host=postgres user=postgres dbname=postgres sslmode=require", "", "no pg_hba.conf entry", id="superuser"
        ),
        pytest.param(
            "host=postgres user=rpa dbname=survey_hub sslmode=require",
            PASSWORD,
            "no pg_hba.conf entry",
            id="the other role's database",
        ),
    ],
)
def test_who_gets_into_postgresql(production: Driver, address: str, password: str, answer: str) -> None:
    """Only each role, to its own database, with its password, over TLS by our CA."""
    assert answer in docker("exec", production.names("rpa2")[0], "python", "-c", CONNECT, address, password)


@pytest.mark.requirement("R7.1", "R7.3")
def test_networks_keep_apart_what_need_not_meet(production: Driver) -> None:
    """The database's network has no way out, and only who needs the database is in it."""
    project = production.stack.project
    for network in ("database", "services"):
        told = docker("network", "inspect", "--format", "{{.Internal}}", f"{project}_{network}")
        assert told.strip() == "true"
    for service in ("haproxy", "prefect", "prometheus", "alertmanager"):
        (one, *_) = inspect(production.names(service)[0])
        assert f"{project}_database" not in one["NetworkSettings"]["Networks"], service
    asked = (
        "import socket\n"
        "try:\n    print('found', socket.gethostbyname('postgres'))\n"
        "except OSError as error:\n    print('unknown', error)"
    )
    for service, said in (("prefect", "unknown"), ("rpa2", "found")):
        assert docker("exec", production.names(service)[0], "python", "-c", asked).startswith(said), service
