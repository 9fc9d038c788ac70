"""What workers depend on, as programs of this machine: the real ones, or a stand-in that says so."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path

import pytest

from rpa_testkit.checkers.verdict import Status
from rpa_testkit.drivers.process.dependencies import program_of
from rpa_testkit.drivers.process.driver import ProcessDriver
from rpa_testkit.drivers.process.small_disk import small_disk
from rpa_testkit.drivers.protocol import NotPossible
from rpa_testkit.history.entries import Kind
from rpa_testkit.processes import WorkerProcesses
from rpa_testkit.proxy.client import HttpRule
from rpa_testkit.runner.run import run
from rpa_testkit.scenario.model import ALERTING, Dependency, Scenario, Service, Topology, Workload, edge
from rpa_testkit.waits import until
from rpa_testkit.warden.client import Warden

_ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
ONE = (Service(replicas=1),)


@pytest.mark.slow
@pytest.mark.requirement("R8.5", "R9.5")
@pytest.mark.skipif(not _ALERTMANAGER, reason="no Alertmanager is installed (Debian: prometheus-alertmanager)")
def test_the_real_alertmanager_is_reached_through_edges(open_folder: Path, warden: Warden) -> None:
    """What is posted through an edge is there; a rule of the edge answers in its place; killed, it comes back."""
    warden.adopt("test-dependencies")
    topology = Topology(services=ONE, dependencies=(ALERTING,))
    with ProcessDriver().start(topology, open_folder, run_id="test-dependencies", seed=1, warden=warden) as system:
        node = system.nodes["alertmanager"]
        until(node.ready, 30, "Alertmanager to answer", node.log_text)
        assert system.stand_ins == {}
        host, port = system.proxy.address(edge("worker-1", "alertmanager"))
        body = json.dumps([{"labels": {"alertname": "Posted"}}]).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{host}:{port}/api/v2/alerts", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"{system.url('alertmanager')}/api/v2/alerts", timeout=10) as answer:
            assert [alert["labels"]["alertname"] for alert in json.load(answer)] == ["Posted"]
        system.proxy.set_http(edge("worker-1", "alertmanager"), HttpRule(status=503))
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            urllib.request.urlopen(request, timeout=10)
        refused.value.close()
        node.kill()
        assert not node.ready()
        node.start()
        until(node.ready, 30, "Alertmanager to come back", node.log_text)


@pytest.mark.slow
@pytest.mark.requirement("R3.1", "R8.5")
def test_a_stand_in_is_said_to_be_one(open_folder: Path, warden: Warden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be read from it: where something had to be there, the verdict is unknown."""
    monkeypatch.setattr("rpa_testkit.drivers.process.dependencies.shutil.which", lambda name: None)
    scenario = Scenario(
        name="short",
        topology=Topology(services=ONE, dependencies=(ALERTING,)),
        workload=Workload(records=50),
        alerts=("DiskLow",),
    )
    done = run(scenario, ProcessDriver(), seed=1, reports=open_folder, warden=warden)
    (said,) = [entry for entry in done.history if (entry.kind, entry.op) == (Kind.OBSERVE, "stand-in")]
    assert "prometheus-alertmanager" in said.value
    verdicts = {verdict.checker: verdict for verdict in done.judgement.verdicts}
    assert verdicts["alerted"].status is Status.UNKNOWN
    assert "stand-in" in verdicts["alerted"].says
    assert verdicts["spools-drained"].status is Status.PASS


def test_what_nobody_knows_is_stood_in_for(tmp_path: Path) -> None:
    """Any HTTP service is, by its health path."""
    program = program_of(Dependency(name="mainframe", health_path="/up"), 1, tmp_path / "data")
    assert program.stand_in == "nothing is known of it but its health path"
    assert program.argv[-2:] == ("1", "/up")


@pytest.mark.requirement("R8.4")
def test_a_small_disk_is_one_process_s_own(tmp_path: Path, worker_process: WorkerProcesses) -> None:
    """Its writes fail when it is full, nobody else's do; given back, they go on."""
    try:
        disk = small_disk(tmp_path / "disk")
    except NotPossible as error:
        pytest.skip(str(error))
    write = 'head -c 100000 /dev/zero > "$TMPDIR/x" 2>/dev/null'
    script = f'while true; do if {write}; then echo wrote; else echo full; fi; rm -f "$TMPDIR/x"; sleep 0.1; done'
    process = worker_process("", dict(disk.environment()), argv=disk.argv(["sh", "-c", script]))
    process.wait_for_log("wrote", 20)
    disk.fill(process.pid)
    process.wait_for_log("full", 20)
    assert disk.free_bytes(process.pid) < 100_000
    assert list((tmp_path / "disk").iterdir()) == []
    before = process.log_text().count("wrote")
    disk.give_back(process.pid)
    until(lambda: process.log_text().count("wrote") > before, 20, "writes to go on", process.log_text)
    assert disk.free_bytes(process.pid) > 15 << 20
