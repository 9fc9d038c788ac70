"""The services' own checkers on the files that they are given."""

from __future__ import annotations

import pytest
from ci.workspace import ROOT

from .driver import docker

CHECKS = {
    "prometheus": ("prometheus", "promtool", "check", "config", "/given/prometheus.yml"),
    "alert rules": ("prometheus", "promtool", "test", "rules", "/given/alerts.test.yml"),
    "alertmanager": ("alertmanager", "amtool", "check-config", "/given/alertmanager.yml", "/given/development.yml"),
    "haproxy": ("haproxy", "haproxy", "-c", "-f", "/given/haproxy.cfg"),
}
IMAGES = {
    "prometheus": "prom/prometheus:v2.53.3",
    "alertmanager": "prom/alertmanager:v0.28.1",
    "haproxy": "haproxy:3.0",
}


@pytest.mark.requirement("R5.2", "R5.7")
@pytest.mark.parametrize("what", list(CHECKS))
def test_services_accept_their_files(engine: str, what: str) -> None:
    """Valid by the program that reads them; each alert fires when it should and only then."""
    folder, program, *arguments = CHECKS[what]
    mounts = [
        "--volume",
        f"{ROOT / 'docker' / folder}:/given:ro",
        "--volume",
        f"{ROOT / 'docker'}/prometheus:/etc/prometheus:ro",
    ]
    alone = ["--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"]
    said = docker("run", *alone, *mounts, "--entrypoint", program, IMAGES[folder], *arguments, check=False)
    docker("run", *alone, *mounts, "--entrypoint", program, IMAGES[folder], *arguments)
    assert "FAILED" not in said
    assert "WARNING" not in said, said
