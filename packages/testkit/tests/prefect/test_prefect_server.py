"""The Prefect server of the testkit: it keeps what it was told, and it never outlives its tester."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from rpa_testkit.prefect_server import PrefectServer
from rpa_testkit.waits import until

_OWNER = """
import signal
from rpa_testkit.prefect_server import PrefectServer
with PrefectServer() as server:
    print(server.pid, server.folder, flush=True)
    signal.pause()
"""


def _ask(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.requirement("R2.3")
def test_a_killed_server_comes_back_with_what_it_knew(own_prefect_server: PrefectServer) -> None:
    """SIGKILL, then a start: the same address, the same flow, and both lives in one log."""
    server = own_prefect_server
    url = server.api_url
    flow = _ask(f"{url}/flows/", {"name": "kept"})["id"]
    server.kill()
    assert not server.running
    server.start()
    assert server.api_url == url
    assert _ask(f"{url}/flows/{flow}")["name"] == "kept"
    assert server.log_text().count("PREFECT_API_URL=") == 2


@pytest.mark.slow
@pytest.mark.requirement("R5.3")
def test_it_ends_with_its_tester(prefect_server: PrefectServer) -> None:
    """A killed tester takes its server along, data and all; the one of this process still answers."""
    with subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        try:
            pid, folder = owner.stdout.readline().split()
            assert Path(folder, "server.log").exists()
        finally:
            owner.send_signal(signal.SIGKILL)
    until(lambda: _gone(int(pid)), 20, "the server to end with its tester")
    assert not Path(folder).exists()
    assert _ask(f"{prefect_server.api_url}/health") is True


@pytest.mark.requirement("R7.2")
def test_it_is_reached_from_this_machine_alone_and_reports_to_nobody(prefect_server: PrefectServer) -> None:
    """Loopback is all it listens on, and analytics are off."""
    assert prefect_server.api_url.startswith("http://127.0.0.1:")
    settings = _ask(f"{prefect_server.api_url}/admin/settings")
    assert settings["server"]["analytics_enabled"] is False
    assert settings["server"]["api"]["host"] == "127.0.0.1"
