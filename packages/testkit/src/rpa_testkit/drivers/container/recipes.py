"""What each container is created with: as hardened as in production, bounded, and with nothing that starts it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpa_testkit.drivers.container import faketime
from rpa_testkit.drivers.container.address import HEALTH_PORT
from rpa_testkit.drivers.container.limits import PERIOD_US, Bounds, quota_us
from rpa_testkit.ports import HOST
from rpa_testkit.scenario.model import RUN, Service

Recipe = dict[str, Any]
"""What the SDK's `containers.create` takes."""

MIB = 2**20
DATA = "/var/lib/postgresql/data"
TMP = "/tmp"  # noqa: S108 - a container's own
PREFECT_PORT = 4200
ALERTMANAGER_PORT = 9093
_MOUNTED = "/opt/testkit"
_DATABASE_USER = "999:999"
_WORKER_USER = "10001:10001"
_NOBODY = "65534:65534"
_PREFECT_HOME = "/var/lib/prefect"


WORKER = Bounds(cores=1.0, memory_bytes=512 * MIB, files=4096)
DATABASE = Bounds(cores=4.0, memory_bytes=4096 * MIB, files=8192)
DEPENDENCY = Bounds(cores=2.0, memory_bytes=1024 * MIB, files=4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How big things are. `data_bytes` holds PostgreSQL's tables and its log; `tmp_bytes` is a worker's /tmp."""

    worker: Bounds = WORKER
    database: Bounds = DATABASE
    dependency: Bounds = DEPENDENCY
    data_bytes: int = 1024 * MIB
    tmp_bytes: int = 64 * MIB


def postgres(*, image: str, password: str, port: int, sizes: Sizes, labels: Mapping[str, str]) -> Recipe:
    """Durable settings as in production; the data on a tmpfs, so that its bound is real and its content outlives a stop
    as long as another container has it mounted."""
    from docker.types import DriverConfig, Mount

    settings = {
        "max_connections": "60",
        "shared_buffers": "128MB",
        "effective_cache_size": "512MB",
        "work_mem": "8MB",
        "maintenance_work_mem": "64MB",
        "random_page_cost": "1.1",
        "wal_compression": "lz4",
        "min_wal_size": "80MB",
        "max_wal_size": f"{max(96, sizes.data_bytes // MIB // 8)}MB",
        "checkpoint_timeout": "5min",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %u@%d %a ",
    }
    owner = "uid=999,gid=999"
    volume = {"type": "tmpfs", "device": "tmpfs", "o": f"size={sizes.data_bytes},mode=0700,{owner}"}
    return {
        **_hardened(sizes.database),
        "init": False,  # the postmaster is process 1, as its image means it: it can tell its own stale lock file
        "image": image,
        "user": _DATABASE_USER,
        "command": ["postgres", *(part for item in settings.items() for part in ("-c", "=".join(item)))],
        "environment": {
            "POSTGRES_PASSWORD": password,
            "PGDATA": f"{DATA}/pgdata",
            "POSTGRES_INITDB_ARGS": "--data-checksums --encoding=UTF8 --locale=C.UTF-8 --locale-provider=builtin "
            "--builtin-locale=C.UTF-8",
        },
        "mounts": [Mount(DATA, None, type="volume", labels=dict(labels), driver_config=DriverConfig("local", volume))],
        "tmpfs": {TMP: f"mode=1777,size={64 * MIB}", "/var/run/postgresql": f"mode=0775,size={MIB},{owner}"},
        "shm_size": 256 * MIB,
        "ports": {"5432/tcp": (HOST, port)},
    }


def proxy(*, image: str, seed: int, ports: Sequence[int], data_of: str, sizes: Sizes) -> Recipe:
    """The fault proxy; the first of `ports` is its control. It keeps the data of PostgreSQL's container mounted.

    What fills that up is written from here, and counts as this container's memory.
    """
    return {
        **_hardened(Bounds(cores=2.0, memory_bytes=512 * MIB + sizes.data_bytes, files=16384)),
        **_with_testkit(),
        "image": image,
        "user": _DATABASE_USER,  # who may write where the data are
        "entrypoint": ["python", "-m", "rpa_testkit.proxy", "--control", f"0.0.0.0:{ports[0]}", "--seed", str(seed)],
        "command": [],
        "tmpfs": {TMP: f"mode=1777,size={MIB}"},
        "dns": [HOST],  # nobody is asked for the name of a container that is down: the answer is no, at once
        "volumes_from": [data_of],
        "ports": {f"{port}/tcp": (HOST, port) for port in ports},
    }


def worker(
    service: Service,
    *,
    environment: Mapping[str, str],
    port: int,
    sizes: Sizes,
    folders: Mapping[str, Path] | None = None,
) -> Recipe:
    """A worker. A flow of this package, or a launcher of it, comes from this machine; all else is in the image.

    `folders` are those of this machine that outlive it, by where it sees them.
    """
    recipe: Recipe = {
        **_hardened(sizes.worker),
        "image": service.image,
        "user": _WORKER_USER,
        "environment": {**faketime.ENVIRONMENT, **environment},
        "tmpfs": {TMP: f"mode=1777,size={sizes.tmp_bytes}"},
        "ports": {f"{HEALTH_PORT}/tcp": (HOST, port)},
    }
    if service.launcher != RUN:
        recipe |= {"entrypoint": ["python", "-m", service.launcher], "command": [service.flow]}
    elif ":" in service.flow:
        recipe |= {"entrypoint": ["rpa"], "command": ["run", service.flow]}
    if any(name.startswith("rpa_testkit") for name in (service.flow, service.launcher)):
        ours = _with_testkit()
        recipe |= {**ours, "environment": {**ours["environment"], **recipe["environment"]}}
    if folders:
        recipe["mounts"] = [*recipe.get("mounts", ()), *_mounted(folders)]
    return recipe


def migration(service: Service, *, environment: Mapping[str, str], sizes: Sizes) -> Recipe:
    """`rpa db migrate` of the service's image: the databases of the flow that is installed there."""
    recipe = worker(service, environment=environment, port=0, sizes=sizes)
    return {**recipe, "entrypoint": ["rpa"], "command": ["db", "migrate"], "ports": {}}


def prefect(*, image: str, port: int, sizes: Sizes, data: Path) -> Recipe:
    """The real server, on SQLite in `data`, which outlives its ends."""
    return {
        **_hardened(sizes.dependency),
        "image": image,
        "user": _WORKER_USER,
        "command": ["prefect", "server", "start", "--host", "0.0.0.0", "--port", str(PREFECT_PORT)],  # noqa: S104 - of its container
        "environment": {
            "PREFECT_HOME": _PREFECT_HOME,
            "PREFECT_UI_ENABLED": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
            "DO_NOT_TRACK": "1",
            "TINI_SUBREAPER": "1",
        },
        "tmpfs": {TMP: f"mode=1777,size={256 * MIB}"},
        "mounts": _mounted({_PREFECT_HOME: data}),
        "ports": {f"{PREFECT_PORT}/tcp": (HOST, port)},
    }


def alertmanager(*, image: str, port: int, sizes: Sizes) -> Recipe:
    """The real Alertmanager with the configuration of its image, alone."""
    return {
        **_hardened(sizes.dependency),
        "image": image,
        "user": _NOBODY,
        "command": [
            "--config.file=/etc/alertmanager/alertmanager.yml",
            f"--storage.path={TMP}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ],
        "tmpfs": {TMP: f"mode=1777,size={64 * MIB}"},
        "ports": {f"{ALERTMANAGER_PORT}/tcp": (HOST, port)},
    }


def _hardened(bounds: Bounds) -> Recipe:
    from docker.types import LogConfig, Ulimit

    return {
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": bounds.memory_bytes,
        "memswap_limit": bounds.memory_bytes,
        "cpu_period": PERIOD_US,
        "cpu_quota": quota_us(bounds.cores),
        "ulimits": [Ulimit(name="nofile", soft=bounds.files, hard=bounds.files)],
        "healthcheck": {"test": ["NONE"]},  # the driver asks from outside
        "log_config": LogConfig(type="json-file"),
    }


def _mounted(folders: Mapping[str, Path]) -> list[Any]:
    from docker.types import Mount

    return [Mount(inside, str(folder), type="bind") for inside, folder in folders.items()]


def _with_testkit() -> Recipe:
    from docker.types import Mount

    package = Path(__file__).parents[2]
    return {
        "mounts": [Mount(f"{_MOUNTED}/{package.name}", str(package), type="bind", read_only=True)],
        "environment": {"PYTHONPATH": _MOUNTED, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
    }
