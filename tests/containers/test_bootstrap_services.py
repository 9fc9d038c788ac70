"""The other base and service images keep their official contract, whoever made them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ci.waits import until
from tests.containers.bootstrap_boxes import HARDENED, Boxes, boxes_of, docker, image

PYTHON = "python:3.13-slim-trixie"
HAPROXY_CONFIG = """\
global
  log stdout format raw local0
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend all
  bind :8080
  http-request use-service prometheus-exporter if { path /metrics }
  http-request return status 200 content-type text/plain string hello
"""


@pytest.fixture
def boxes(engine: str, tmp_path: Path) -> Iterator[Boxes]:
    yield from boxes_of(tmp_path)


def config(reference: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("image", "inspect", image(reference)).stdout)[0]["Config"]
    return found


@pytest.mark.requirement("R5.7")
def test_debian_is_a_shell_with_working_package_sources(engine: str) -> None:
    """bash by default, apt finds packages, and nothing of the making is left."""
    reference = image("debian:trixie-slim")
    assert config(reference)["Cmd"] == ["bash"]
    script = """
set -eu
ls -d /var/lib/apt/lists/partial /var/cache/apt/archives/partial
find /var/lib/apt/lists /var/cache/apt /var/log -type f -size +0 ! -name lock
apt-get update >/dev/null
apt-cache policy tini | grep 'Candidate: 0'
. /etc/os-release
echo "release $VERSION_CODENAME"
"""
    lines = docker("run", "--rm", reference, "bash", "-c", script).stdout.splitlines()
    assert lines[:2] == ["/var/cache/apt/archives/partial", "/var/lib/apt/lists/partial"]
    assert lines[2].strip().startswith("Candidate: 0.")
    assert lines[3:] == ["release trixie"]


@pytest.mark.requirement("R4.1")
def test_python_is_where_dockerfiles_look_for_it(engine: str) -> None:
    """python, python3 and pip in /usr/local/bin; packages go to /usr/local; venvs have pip or not, as asked."""
    reference = image(PYTHON)
    environment = dict(pair.split("=", 1) for pair in config(reference)["Env"])
    assert environment["PATH"].startswith("/usr/local/bin:")
    assert config(reference)["Cmd"] == ["python3"]
    script = """
set -eu
command -v python python3 pip
python -m pip --version
python -m venv /tmp/with && /tmp/with/bin/pip --version >/dev/null
python -m venv --without-pip /tmp/without && ! test -e /tmp/without/bin/pip
mkdir -p /tmp/own && cd /tmp/own
printf '[build-system]\\nrequires = []\\nbuild-backend = "b"\\nbackend-path = ["."]\\n' >pyproject.toml
python - <<'P'
import zipfile
with zipfile.ZipFile("own-1-py3-none-any.whl", "w") as wheel:
    wheel.writestr("own.py", "import ssl, sqlite3, lzma, bz2, ctypes, zoneinfo; zoneinfo.ZoneInfo('Europe/Oslo')")
    wheel.writestr("own-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: own\\nVersion: 1\\n")
    wheel.writestr("own-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr("own-1.dist-info/RECORD", "")
P
python -m pip install --quiet --no-index --root-user-action=ignore ./own-1-py3-none-any.whl
cd / && python -c 'import own; print(own.__file__)'
python -c 'import ssl, sys; print(sys.prefix, len(ssl.create_default_context().get_ca_certs()) > 50)'
"""
    lines = docker("run", "--rm", "--network=none", reference, "bash", "-c", script).stdout.splitlines()
    assert lines[:3] == ["/usr/local/bin/python", "/usr/local/bin/python3", "/usr/local/bin/pip"]
    assert lines[3].startswith("pip ")
    assert lines[-2:] == ["/usr/local/lib/python3.13/site-packages/own.py", "/usr/local True"]


@pytest.mark.requirement("R5.7", "R7.1", "R7.4")
def test_haproxy_serves_with_its_exporter(boxes: Boxes) -> None:
    """Its default command reads the mounted file, as 99, read-only; a bare option is its own; SIGUSR1 ends it well."""
    reference = image("haproxy:3.0")
    assert docker("run", "--rm", reference, "-v").stdout.startswith("HAProxy version 3.0")
    file = boxes.file("haproxy.cfg", HAPROXY_CONFIG)
    mount = f"--volume={file}:/usr/local/etc/haproxy/haproxy.cfg:ro"
    box = boxes.start(*HARDENED, mount, "--publish=127.0.0.1::8080", reference)
    assert box.answers(8080, "/") == "hello"
    assert "haproxy_process_uptime_seconds" in box.get(8080, "/metrics")[1]
    assert box.user() == "99"
    assert box.inspect()["Config"]["StopSignal"] == "SIGUSR1"
    docker("stop", "--time", "60", box.name)
    assert box.ended() == 0


@pytest.mark.requirement("R5.2", "R7.1", "R7.4")
def test_prometheus_scrapes_with_its_default_arguments(boxes: Boxes) -> None:
    """The mounted configuration is read, data go to /prometheus, and it scrapes itself."""
    reference = image("prom/prometheus:v2.53.3")
    file = boxes.file(
        "prometheus.yml",
        "global: {scrape_interval: 1s}\n"
        "scrape_configs: [{job_name: self, static_configs: [{targets: ['127.0.0.1:9090']}]}]\n",
    )
    mount = f"--volume={file}:/etc/prometheus/prometheus.yml:ro"
    box = boxes.start(*HARDENED, mount, "--publish=127.0.0.1::9090", reference)
    box.answers(9090, "/-/ready")
    assert box.user() == "65534"
    assert config(reference)["Entrypoint"] == ["/bin/prometheus"]
    assert "SUCCESS" in box.run("promtool", "check", "config", "/etc/prometheus/prometheus.yml").stdout
    query = "/api/v1/query?query=sum_over_time(up%5B1h%5D)%3E0"
    assert box.answers(9090, query)
    until(lambda: json.loads(box.get(9090, query)[1])["data"]["result"], timeout_s=60, what="a scrape")
    docker("stop", "--time", "60", box.name)
    assert box.ended() == 0


@pytest.mark.requirement("R7.1", "R7.4")
def test_alertmanager_takes_an_alert_with_its_default_arguments(boxes: Boxes) -> None:
    """The mounted configuration is read, and an alert that amtool sends is there."""
    reference = image("prom/alertmanager:v0.28.1")
    file = boxes.file("alertmanager.yml", "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    mount = f"--volume={file}:/etc/alertmanager/alertmanager.yml:ro"
    box = boxes.start(*HARDENED, mount, "--publish=127.0.0.1::9093", reference)
    box.answers(9093, "/-/ready")
    assert box.user() == "65534"
    assert config(reference)["Entrypoint"] == ["/bin/alertmanager"]
    url = "--alertmanager.url=http://127.0.0.1:9093"
    box.run("amtool", url, "alert", "add", "Broken", "severity=high")
    assert "Broken" in box.run("amtool", url, "alert", "query").stdout


@pytest.mark.requirement("R7.1", "R7.4")
def test_prefect_answers_as_an_unknown_user_on_a_read_only_root(boxes: Boxes) -> None:
    """`prefect server start` behind tini: healthy, its API works, and a stop is quick."""
    reference = image("prefecthq/prefect:3.8.8-python3.13")
    assert config(reference)["Entrypoint"] == ["/usr/bin/tini", "-g", "--", "/opt/prefect/entrypoint.sh"]
    box = boxes.start(
        *(*HARDENED, "--user=10001:10001", "--publish=127.0.0.1::4200"),
        *("--env=HOME=/tmp", "--env=PREFECT_HOME=/tmp/prefect", "--env=PREFECT_UI_STATIC_DIRECTORY=/tmp/ui"),
        *("--env=PREFECT_SERVER_ANALYTICS_ENABLED=false", "--env=DO_NOT_TRACK=1"),
        *(reference, "prefect", "server", "start", "--host", "0.0.0.0"),
    )
    assert box.answers(4200, "/api/health", timeout_s=300) == "true"
    assert json.loads(box.answers(4200, "/api/admin/version")) == "3.8.8"
    assert "<html" in box.answers(4200, "/")
    assert box.user() == "10001"
    docker("stop", "--time", "60", box.name)
    assert box.ended() in (0, 143)
