"""What is done: `invoke --list`. Thin wrappers; what thinks stands in ci/, is tested there and imported when called."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ci.invocation import sh, told
from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

PYTHON = sys.executable
PLACE = "/var/tmp/rpa-dev"  # noqa: S108 - outlives a reboot, and root can give it to another account
PORT = 54321
ENVIRONMENT = {"environment": "development or production"}


# ---- build


@task(
    name="selective",
    iterable=["image"],
    help={
        **ENVIRONMENT,
        "image": "only this one and what it stands on; may be given several times",
        "dry-run": "say what would be done",
        "explain": "say it with every input that differs",
        "json": "the plan for machines",
        "deploy": "replace the running services one by one afterwards",
        "no-verify": "do not look into the built images",
    },
)
@told
def build_selective(
    c: Context,
    environment: str = "development",
    image: list[str] | None = None,
    dry_run: bool = False,
    explain: bool = False,
    json: bool = False,
    deploy: bool = False,
    no_verify: bool = False,
) -> int:
    """Build the images that are not current, and say why."""
    from ci.images.command import prefix, selective

    def roll(images: Sequence[str]) -> None:
        from ci.stack.deploy import roll

        roll(images, environment=environment, prefix=prefix())

    return selective(
        environment,
        image or (),
        dry_run=dry_run,
        explain=explain,
        as_json=json,
        deploy=roll if deploy else None,
        no_verify=no_verify,
    )


def _build(kind: str, environment: str) -> int:
    from ci.images.command import group, selective

    return selective(environment, group(kind, environment))


@task(name="base", help=ENVIRONMENT)
@told
def build_base(c: Context, environment: str = "development") -> int:
    """Build rpa-base, where it is not current."""
    return _build("base", environment)


@task(name="flows", help=ENVIRONMENT)
@told
def build_flows(c: Context, environment: str = "development") -> int:
    """Build the flow images (and the base they stand on), where they are not current."""
    return _build("flows", environment)


@task(name="all", help=ENVIRONMENT)
@told
def build_all(c: Context, environment: str = "development") -> int:
    """Build every image that is not current."""
    return _build("all", environment)


@task(name="why", help=ENVIRONMENT)
@told
def build_why(c: Context, image: str, environment: str = "development") -> int:
    """What an image is made of, and the first input that differs from the built one."""
    from ci.images.command import why

    return why(image, environment)


@task(name="graph", help={**ENVIRONMENT, "format": "text, mermaid or json"})
@told
def build_graph(c: Context, environment: str = "development", format: str = "text") -> int:  # noqa: A002 - the option
    """Draw the images and what they stand on."""
    from ci.images.command import graph

    return graph(environment, format)


@task(name="verify", help=ENVIRONMENT)
@told
def build_verify(c: Context, environment: str = "development") -> int:
    """Compare the files inside the built images with their manifests."""
    from ci.images.command import verify_all

    return verify_all(environment)


@task(name="timings")
@told
def build_timings(c: Context) -> int:
    """How long builds took, what got slower, and which layer costs most."""
    from ci.images.command import timings_report

    return timings_report()


@task(name="prune", help={"keep": "built versions of each image that stay", "dry-run": "say what would go"})
@told
def build_prune(c: Context, keep: int = 3, dry_run: bool = False) -> int:
    """Remove old versions of our images; never one that is in use."""
    from ci.images.command import prune

    return prune(keep, dry_run)


@task(name="bootstrap", iterable=["name"], help={"name": "only this one", "force": "again", "dry-run": "only say"})
@told
def build_bootstrap(c: Context, name: list[str] | None = None, force: bool = False, dry_run: bool = False) -> None:
    """Make the base and service images from packages, where no registry has them."""
    from ci.bootstrap.make import bootstrap

    bootstrap(names=name or (), force=force, dry_run=dry_run)


# ---- the stack


@task(name="up", iterable=["service"], help={**ENVIRONMENT, "build": "with --no-build: the images as they are"})
@told
def compose_up(
    c: Context,
    environment: str = "development",
    service: list[str] | None = None,
    build: bool = True,
    timeout: int = 300,
) -> int:
    """Bring the stack up, healthy, from current images."""
    from ci.stack.operate import up

    return up(environment, build=build, timeout_s=timeout, services=service or ())


@task(name="down", help={**ENVIRONMENT, "volumes": "the data, too"})
@told
def compose_down(c: Context, environment: str = "development", volumes: bool = False) -> int:
    """End the stack: workers drain, data stay."""
    from ci.stack.operate import down

    return down(environment, volumes=volumes)


@task(name="ps", help=ENVIRONMENT)
@told
def compose_ps(c: Context, environment: str = "development") -> int:
    """Every container, its health and where it listens."""
    from ci.stack.operate import ps

    return ps(environment)


@task(name="logs", iterable=["service"], help={**ENVIRONMENT, "follow": "go on", "tail": "lines of each"})
@told
def compose_logs(
    c: Context,
    environment: str = "development",
    service: list[str] | None = None,
    follow: bool = False,
    tail: int = 100,
) -> int:
    """The last lines of the services."""
    from ci.stack.operate import logs

    return logs(service or (), environment=environment, follow=follow, tail=tail)


@task(name="restart", iterable=["service"], help=ENVIRONMENT)
@told
def compose_restart(c: Context, environment: str = "development", service: list[str] | None = None) -> int:
    """Restart services as they are; workers drain first."""
    from ci.stack.operate import restart

    return restart(service or (), environment=environment)


@task(name="scale", positional=["sizes"], help={**ENVIRONMENT, "sizes": "rpa1=3, or several: rpa1=3,rpa2=2"})
@told
def compose_scale(c: Context, sizes: str, environment: str = "development") -> int:
    """Run so many workers of a service."""
    from ci.stack.operate import scale

    return scale(sizes.split(","), environment=environment)


@task(name="config")
@told
def compose_config(c: Context) -> int:
    """Validate the files of every environment."""
    from ci.stack.operate import config

    return config()


# ---- development


@task(name="watch", iterable=["service"], help={"service": "only this one", "force-polling": "for network mounts"})
@told
def dev_watch(c: Context, service: list[str] | None = None, force_polling: bool = False) -> int:
    """Make saved files live in the running containers, until Ctrl-C."""
    from ci.develop.command import watch

    return watch(services=service or (), force_polling=force_polling)


@task(name="debug", help={"port": "on 127.0.0.1", "index": "which replica", "wait": "stop at the start for a debugger"})
@told
def dev_debug(c: Context, service: str, port: int = 5678, index: int = 1, wait: bool = False) -> int:
    """Run a worker under a debugger (development only), until Ctrl-C."""
    from ci.develop.command import debug

    return debug(service, port, index, wait)


@task(name="shell", help={**ENVIRONMENT, "index": "which replica"})
@told
def dev_shell(c: Context, service: str, index: int = 1, environment: str = "development") -> int:
    """Open a shell in a container of the stack."""
    from ci.stack.shell import shell

    return shell(service, index=index, environment=environment)


# ---- the engine


@task(name="start")
@told
def engine_start(c: Context) -> int:
    """A Docker Engine on a bare Debian machine; nothing to do where one answers."""
    from ci.engine.__main__ import main

    return main(["start"])


@task(name="stop")
@told
def engine_stop(c: Context) -> int:
    """End the engine that engine.start started."""
    from ci.engine.__main__ import main

    return main(["stop"])


@task(name="status")
@told
def engine_status(c: Context) -> int:
    """What is there, and what is missing."""
    from ci.engine.__main__ import main

    return main(["status"])


# ---- databases


@task(name="start", help={"port": "TCP port on 127.0.0.1", "place": "where the data stay between starts"})
def db_start(c: Context, port: int = PORT, place: str = PLACE) -> None:
    """Run an embedded PostgreSQL for development until Ctrl-C; it finds its data again."""
    sh(c, PYTHON, "-m", "rpa_testkit.postgres", "--port", str(port), "--dir", place)


@task(name="shell", help={**ENVIRONMENT, "database": "rpa_db or survey_hub", "dsn": "a server outside the stack"})
@told
def db_shell(c: Context, database: str = "rpa_db", dsn: str = "", environment: str = "development") -> int:
    """Open psql on a database of the stack, or with --dsn on any."""
    if dsn:
        sh(c, PYTHON, "-m", "rpa_testkit.programs", "psql", dsn, pty=sys.stdin.isatty())
        return 0
    from ci.stack.shell import database as psql

    return psql(database, environment=environment)


@task(name="migrate", help={"dsn": "which database (default: the one of db.start)"})
def db_migrate(c: Context, dsn: str = f"postgresql://postgres@127.0.0.1:{PORT}/postgres") -> None:
    """Bring the schema of rpa_core into a database."""
    c.run("rpa db migrate", echo=True, env={"CONTAINER_DATABASE_RPA_DB_URL": dsn})


# ---- requirements, tests, documentation


@task(name="lock", help={"upgrade": "take the newest versions that fit, instead of keeping what fits"})
def deps_lock(c: Context, upgrade: bool = False) -> None:
    """Compile requirements/*.txt from the pyproject files, with hashes (needs uv)."""
    sh(c, PYTHON, "-m", "ci.locks", "compile", *(["--upgrade"] if upgrade else []))


@task(name="check")
def deps_check(c: Context) -> None:
    """Are the locks in step with the pyproject files? Needs no network."""
    sh(c, PYTHON, "-m", "ci.locks", "check")


@task(name="smoke")
def test_smoke(c: Context) -> None:
    """Every unit test, in seconds (nox -s smoke)."""
    sh(c, "nox", "-s", "smoke")


@task(name="all")
def test_all(c: Context) -> None:
    """What `nox` runs by default: lint, types, unit and integration tests."""
    sh(c, "nox")


@task(name="traceability")
def test_traceability(c: Context) -> None:
    """Each requirement with its tests."""
    sh(c, PYTHON, "-m", "ci.traceability")


@task(name="config")
def docs_config(c: Context) -> None:
    """Print the page of every CONTAINER_* variable, as Markdown."""
    sh(c, "rpa", "config", "page")


ns = Collection(
    Collection(
        "build",
        build_selective,
        build_base,
        build_flows,
        build_all,
        build_why,
        build_graph,
        build_verify,
        build_timings,
        build_prune,
        build_bootstrap,
    ),
    Collection(
        "compose", compose_up, compose_down, compose_ps, compose_logs, compose_restart, compose_scale, compose_config
    ),
    Collection("dev", dev_watch, dev_shell, dev_debug),
    Collection("engine", engine_start, engine_stop, engine_status),
    Collection("db", db_start, db_shell, db_migrate),
    Collection("deps", deps_lock, deps_check),
    Collection("test", test_smoke, test_all, test_traceability),
    Collection("docs", docs_config),
)
