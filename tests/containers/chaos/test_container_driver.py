"""Two workers of the probe, the proxy and PostgreSQL in containers: what the driver does to each is really done."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from typing import Any

import psycopg
import pytest

from rpa_testkit.drivers.protocol import NotPossible
from rpa_testkit.proxy.rules import Rule
from rpa_testkit.scenario.model import edge
from rpa_testkit.waits import until
from rpa_testkit.warden.mark import LABEL
from rpa_testkit.warden.undo import Command

from .conftest import Run

pytestmark = [pytest.mark.slow, pytest.mark.requirement("R3.3", "R9.3")]
WORKER = "worker-1"
OTHER = "worker-2"


def inspected(run: Run) -> dict[str, Any]:
    """What the Engine tells of each of the run's containers, by node; asked past the driver."""
    ids = docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={run.id}").split()
    return {told["Config"]["Hostname"]: told for told in json.loads(docker("inspect", *ids))}


def docker(*arguments: str) -> str:
    """What the docker command answers."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def take_back(run: Run, name: str, what: str) -> None:
    """Run what the warden would run."""
    undo = run.system.nodes[name].undo_of(what)
    assert isinstance(undo, Command)
    subprocess.run(undo.argv, capture_output=True, timeout=undo.timeout_s, check=True)


@pytest.mark.requirement("R3.1", "R9.1")
def test_workers_reach_the_database_through_their_edges_alone(run: Run) -> None:
    """Work is done, and every session of a worker comes from the proxy."""
    run.work()
    (proxy,) = inspected(run)["proxy"]["NetworkSettings"]["Networks"].values()
    sources = run.ask("SELECT DISTINCT host(client_addr) FROM pg_stat_activity WHERE application_name LIKE 'rpa %'")
    assert sources == [(proxy["IPAddress"],)]
    for name in (WORKER, OTHER):
        stats = run.system.proxy.stats(edge(name, "postgres"))
        assert stats.open >= 1
        assert min(stats.to_server_bytes, stats.to_client_bytes) > 1000


@pytest.mark.requirement("R9.5")
def test_containers_are_hardened_marked_and_never_restarted_by_the_engine(run: Run) -> None:
    """As in production; a crash stays a crash until the scenario starts the node again."""
    told = inspected(run)
    assert set(told) == {"postgres", "proxy", WORKER, OTHER}
    for name, container in told.items():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert host["RestartPolicy"]["Name"] in ("", "no"), name
        assert host["Memory"] == host["MemorySwap"] > 0, name
        assert container["Config"]["User"] == ("999:999" if name in ("postgres", "proxy") else "10001:10001")
        bindings = [binding for ports in host["PortBindings"].values() for binding in ports]
        assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}, name


def test_a_killed_worker_stays_down_until_it_is_started_again(run: Run) -> None:
    """Same name, ports and edges; another incarnation; the log keeps both."""
    node = run.node(WORKER)
    before, ports = node.incarnation, inspected(run)[WORKER]["HostConfig"]["PortBindings"]
    node.kill()
    assert (node.running, node.ready(), node.exit_code, node.usage()) == (False, False, -9, None)
    run.work(100)
    node.start()
    run.wait_ready(WORKER)
    assert node.exit_code is None
    assert node.incarnation != before
    assert inspected(run)[WORKER]["HostConfig"]["PortBindings"] == ports
    assert node.log_text().count("worker.started") >= 2
    run.work(100)


def test_a_terminated_worker_drains_and_ends_with_0(run: Run) -> None:
    """SIGTERM reaches the worker through its init."""
    node = run.node(WORKER)
    node.terminate()
    assert node.wait_exit(30) == 0
    node.start()
    run.wait_ready(WORKER)


def test_a_paused_worker_runs_and_answers_nobody_until_it_goes_on(run: Run) -> None:
    """The freezer; the warden's command lets it go on, and a second time nothing happens."""
    node = run.node(WORKER)
    before = node.incarnation
    node.pause()
    try:
        assert (node.paused, node.running, node.ready()) == (True, True, False)
        take_back(run, WORKER, "pause")
        assert not node.paused
        node.resume()
    finally:
        node.resume()
    run.wait_ready(WORKER)
    assert node.incarnation == before


def test_a_paused_worker_can_be_killed(run: Run) -> None:
    """Nothing of it is left frozen."""
    node = run.node(WORKER)
    node.pause()
    node.kill()
    assert (node.running, node.paused, node.exit_code) == (False, False, -9)
    node.start()
    run.wait_ready(WORKER)


@pytest.mark.parametrize("share", [0.5, 1.02])
def test_the_kernel_kills_a_worker_that_wants_more_memory_than_it_may_have(run: Run, share: float) -> None:
    """By the Engine's own word; the first bound comes back, and other nodes are not concerned."""
    node = run.node(WORKER)
    usage = node.usage()
    assert usage is not None
    kills, others = node.oom_kills(), run.node(OTHER).oom_kills()
    node.limit("memory", usage.rss_bytes * share)
    assert inspected(run)[WORKER]["State"]["OOMKilled"]
    assert (node.running, node.exit_code) == (False, -9)
    assert (node.oom_kills(), run.node(OTHER).oom_kills()) == (kills + 1, others)
    node.limit("memory", None)
    node.start()
    run.wait_ready(WORKER)
    assert node.oom_kills() == kills + 1
    assert inspected(run)[WORKER]["HostConfig"]["Memory"] == 512 * 2**20


def test_a_bound_above_what_it_needs_kills_nobody(run: Run) -> None:
    """The warden's command takes it back."""
    node = run.node(WORKER)
    node.limit("memory", 300 * 2**20)
    assert node.running
    assert inspected(run)[WORKER]["HostConfig"]["Memory"] == 300 * 2**20
    take_back(run, WORKER, "memory")
    assert inspected(run)[WORKER]["HostConfig"]["Memory"] == 512 * 2**20


def test_a_share_of_a_cpu_bites_and_is_given_back(run: Run) -> None:
    """The cgroup counts throttled periods, though an idle worker wants little; what competed with it is gone then."""
    node, container = run.node(WORKER), inspected(run)[WORKER]["Id"]
    processes = len(docker("top", container).splitlines())
    for heal in (partial(node.limit, "cpu", None), partial(take_back, run, WORKER, "cpu")):
        before = node.throttled()
        node.limit("cpu", 0.1)
        try:
            until(lambda: node.throttled() >= before + 5, 20, "throttled periods")  # noqa: B023 - called here and now
            assert inspected(run)[WORKER]["HostConfig"]["CpuQuota"] == 10_000
        finally:
            heal()
        assert inspected(run)[WORKER]["HostConfig"]["CpuQuota"] == 100_000
        until(lambda: len(docker("top", container).splitlines()) == processes, 20, "the competitor to end")
    run.work(100)


def test_a_worker_without_descriptors_cannot_accept_a_probe(run: Run) -> None:
    """What is open stays open: it is the same incarnation afterwards. The limit is taken back by driver and command."""
    node = run.node(WORKER)
    before = node.incarnation
    for heal in (partial(node.limit, "files", None), partial(take_back, run, WORKER, "files")):
        node.limit("files", 8)
        try:
            until(lambda: not node.ready(), 20, "a probe to fail")
        finally:
            heal()
        run.wait_ready(WORKER)
    assert node.incarnation == before
    run.work(100)


def test_a_worker_s_full_disk_refuses_a_write(run: Run) -> None:
    """ENOSPC for a write of its own user; the space comes back by driver and command."""
    node, container = run.node(WORKER), inspected(run)[WORKER]["Id"]
    free = node.disk_free()
    assert free > 60 * 2**20
    for heal in (node.free_disk, partial(take_back, run, WORKER, "disk")):
        node.fill_disk()
        try:
            assert node.disk_free() == 0
            with pytest.raises(subprocess.CalledProcessError) as failed:
                docker("exec", container, "sh", "-c", "head -c 5000 /dev/zero >/tmp/more")
            assert "No space left on device" in failed.value.stderr
            docker("exec", container, "rm", "/tmp/more")
        finally:
            heal()
        assert node.disk_free() == free


def test_a_clock_moves_only_where_the_image_has_libfaketime(run: Run) -> None:
    """The reason says what to install; the clock can be read all the same."""
    with pytest.raises(NotPossible, match="install libfaketime in its image"):
        run.node(WORKER).skew_clock(3600)
    assert abs(run.node(WORKER).clock_offset()) < 2


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_postgres_comes_back_with_its_data_under_the_same_name(run: Run, mode: Any) -> None:
    """After a crash it recovers; workers come back through the edges that they have."""
    database = run.system.database
    run.work(100)
    kept, started = run.ask("SELECT count(*) FROM rpa.result"), run.ask("SELECT pg_postmaster_start_time()")
    ports = {name: info.port for name, info in run.system.proxy.edges().items()}
    database.stop(mode)
    assert (database.running, database.ready()) == (False, False)
    assert run.system.proxy.probe(edge(WORKER, "postgres"), 5).outcome in ("refused", "closed")
    database.start()
    run.wait_ready()
    assert run.ask("SELECT count(*) FROM rpa.result") == kept
    assert run.ask("SELECT pg_postmaster_start_time()") != started
    assert ("redo starts" in database.log_text().rpartition("starting PostgreSQL")[2]) == (mode == "immediate")
    assert {name: info.port for name, info in run.system.proxy.edges().items()} == ports
    run.work(100)


def test_postgres_is_killed_like_any_container(run: Run) -> None:
    """SIGKILL leaves its lock file behind; the next start is not misled by it."""
    database = run.system.database
    database.kill()
    assert database.exit_code == -9
    database.start()
    run.wait_ready()
    run.work(100)


def test_postgres_without_space_refuses_to_grow_and_loses_nothing(run: Run) -> None:
    """The disk is really full: the server's own ENOSPC, as an error or a panic. What was committed is kept."""
    database = run.system.database
    run.ask("CREATE TABLE public.filling AS SELECT 1 AS n")
    free = database.disk_free()
    database.fill_disk()
    try:
        assert database.disk_free() == 0
        with pytest.raises(psycopg.OperationalError):
            run.ask("INSERT INTO public.filling SELECT generate_series(1, 5000000)")
        assert "No space left on device" in database.log_text()
    finally:
        take_back(run, "postgres", "disk")
        database.free_disk()
        database.start()
    run.wait_ready()
    assert run.ask("SELECT sum(n) FROM public.filling") == [(1,)]
    run.ask("DROP TABLE public.filling")
    assert database.disk_free() > free / 2
    run.work(100)


def test_an_edge_is_cut_for_one_worker_and_not_for_the_other(run: Run) -> None:
    """The proxy in its container is the same proxy; refusals are seen as such, not as those of a published port."""
    proxy = run.system.proxy
    proxy.set_rule(edge(WORKER, "postgres"), Rule(refuse=True))
    try:
        assert proxy.probe(edge(WORKER, "postgres"), 3).outcome == "refused"
        assert proxy.probe(edge(OTHER, "postgres"), 3).outcome == "answered"
    finally:
        proxy.clear(edge(WORKER, "postgres"))
    assert proxy.probe(edge(WORKER, "postgres"), 3).outcome == "answered"


def test_usage_is_the_cgroup_s_and_the_kernel_s(run: Run) -> None:
    """Resident memory of a Python worker, CPU time that grows, descriptors where /proc is ours to read."""
    node = run.node(WORKER)
    before = node.usage()
    run.work(500)
    after = node.usage()
    assert before is not None
    assert after is not None
    assert 20 * 2**20 < after.rss_bytes < 512 * 2**20
    assert after.cpu_s > before.cpu_s > 0
    assert after.files == -1 or 5 < after.files < 200
