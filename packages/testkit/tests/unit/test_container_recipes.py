"""What containers are created with: edges as the only way, the image as it is or the testkit's own code in it."""

from __future__ import annotations

import pytest

from rpa_testkit.drivers.container import address, faketime, recipes
from rpa_testkit.drivers.container.recipes import Sizes
from rpa_testkit.scenario.model import Dependency, Service, Topology

pytestmark = pytest.mark.requirement("R9.5")
EDGES = {"worker-1->postgres": 20001, "worker-1->prefect": 20002}


def environment(service: Service, topology: Topology | None = None) -> dict[str, str]:
    """Of `worker-1`."""
    return address.environment(
        service, "worker-1", topology or Topology(services=(service,)), edges=EDGES, password="secret"
    )


def test_a_worker_knows_its_own_edges_alone() -> None:
    """Ledger and dependencies through the proxy, at the ports of this worker."""
    told = environment(Service(), Topology(dependencies=(Dependency(),)))
    assert told["CONTAINER_DATABASE_RPA_DB_URL"] == "postgresql://rpa:secret@proxy:20001/rpa_db"
    assert told["CONTAINER_SERVICE_PREFECT_URL"] == "http://proxy:20002/api/health"
    assert (told["CONTAINER_HEALTH_HOST"], told["CONTAINER_HEALTH_PORT"]) == ("0.0.0.0", "8080")


def test_databases_on_the_topology_s_server_are_led_through_the_edge() -> None:
    """Those on other hosts are the service's own affair; query parameters stay."""
    service = Service(
        env={
            "CONTAINER_DATABASE_SURVEY_HUB_URL": "postgresql://postgres/survey_hub?application_name=x",
            "CONTAINER_DATABASE_FAR_URL": "postgresql://me@elsewhere:5432/far",
        }
    )
    told = environment(service)
    assert told["CONTAINER_DATABASE_SURVEY_HUB_URL"] == (
        "postgresql://rpa:secret@proxy:20001/survey_hub?application_name=x"
    )
    assert told["CONTAINER_DATABASE_FAR_URL"] == "postgresql://me@elsewhere:5432/far"
    assert address.databases(Topology(services=(service, Service(name="other")))) == ["survey_hub"]


def test_upstreams_are_asked_for_by_name() -> None:
    """A container that is started again may have another address."""
    assert address.upstream_of("postgres", {}) == address.Upstream(host="postgres", port=5432, protocol="postgres")
    assert address.upstream_of("prefect", {"prefect": 4200}).protocol == "http"


@pytest.mark.parametrize(
    ("service", "entrypoint", "command", "mounted"),
    [
        (Service(), ["rpa"], ["run", "rpa_testkit.probe:FLOW"], True),
        (
            Service(launcher="rpa_testkit.worker"),
            ["python", "-m", "rpa_testkit.worker"],
            ["rpa_testkit.probe:FLOW"],
            True,
        ),
        (Service(flow="mine:FLOW", image="mine:1"), ["rpa"], ["run", "mine:FLOW"], False),
        (Service(flow="rpa1", image="rpa-flow1:development"), None, None, False),
    ],
)
def test_an_image_is_used_as_it_is_unless_the_testkit_brings_the_flow(
    service: Service, entrypoint: list[str] | None, command: list[str] | None, mounted: bool
) -> None:
    """An installed flow keeps its image's own command; the testkit's code is mounted where it is what runs."""
    recipe = recipes.worker(service, environment={"A": "b"}, port=20003, sizes=Sizes())
    assert (recipe.get("entrypoint"), recipe.get("command")) == (entrypoint, command)
    assert ("mounts" in recipe) == ("PYTHONPATH" in recipe["environment"]) == mounted
    assert recipe["environment"]["A"] == "b"
    assert recipe["ports"] == {"8080/tcp": ("127.0.0.1", 20003)}
    if mounted:
        (mount,) = recipe["mounts"]
        assert (mount["Target"], mount["ReadOnly"]) == ("/opt/testkit/rpa_testkit", True)


def test_a_service_s_own_settings_win() -> None:
    """Over the driver's and over those for libfaketime."""
    name = next(iter(faketime.ENVIRONMENT))
    service = Service(env={"CONTAINER_LEASE_TTL": "9", name: "mine"})
    recipe = recipes.worker(service, environment=environment(service), port=1, sizes=Sizes())
    assert recipe["environment"]["CONTAINER_LEASE_TTL"] == "9"
    assert recipe["environment"][name] == "mine"


def test_postgres_is_durable_and_its_log_fits_its_space() -> None:
    """No setting trades safety for speed, and the WAL's bound leaves most of the volume to the tables."""
    recipe = recipes.postgres(image="p", password="s", port=1, sizes=Sizes(), labels={})
    settings = dict(part.split("=", 1) for part in recipe["command"] if "=" in part)
    assert not {"fsync", "synchronous_commit", "full_page_writes"} & set(settings)
    assert int(settings["max_wal_size"].removesuffix("MB")) * 2**20 <= Sizes().data_bytes / 4
    assert recipe["init"] is False


def test_the_proxy_may_hold_all_of_the_data_space() -> None:
    """What fills the disk is written there; else it would be killed for its memory instead."""
    sizes = Sizes()
    recipe = recipes.proxy(image="p", seed=3, ports=(1, 2), data_of="x", sizes=sizes)
    assert recipe["mem_limit"] > sizes.data_bytes
    assert set(recipe["ports"]) == {"1/tcp", "2/tcp"}


@pytest.mark.parametrize(("entries", "there"), [(["LD_PRELOAD=/x/libfaketimeMT.so.1"], True), (["A=faketime"], False)])
def test_libfaketime_is_recognised_by_what_is_preloaded(entries: list[str], there: bool) -> None:
    """Installed alone it moves nothing."""
    assert faketime.preloaded(entries) is there
