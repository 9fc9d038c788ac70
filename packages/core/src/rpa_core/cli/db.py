"""`rpa db migrate|status|retain|grants|repair-sequences`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from rpa_core.cli.databases import KEY, checked, database_option, open_rpa_db
from rpa_core.observability.printable import ascii_json

if TYPE_CHECKING:
    from rpa_core.config.models import ContainerConfig
    from rpa_core.processing.flow import Flow
    from rpa_core.store.migrate import MigrationStatus
    from rpa_core.store.retention import PeriodState

_STATES = {
    "missing": "missing: run `rpa db migrate`",
    "changed": "applied from another file than this version has: run the version that migrated, or restore the file",
    "newer": "newer than this version, which cannot work with it: run a newer version",
    "newer_compatible": "newer than this version, and compatible with it",
}
_READ_FOR_STATUS = {f"SELECT on rpa.{table}" for table in ("period", "chunk", "dead_letter")} | {"USAGE on schema rpa"}


@click.group("db")
def command() -> None:
    """The schema of rpa_db, and of the other databases that installed flows bring one for."""


@command.command("migrate")
@database_option
@click.option(
    "--wait",
    default="10m",
    show_default=True,
    metavar="DURATION",
    help="How long to try again while other transactions hold a table, such as 90s or 10m.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def migrate_command(database: str | None, wait: str, as_json: bool) -> None:
    """Apply what is missing in every configured database.

    Safe beside running workers, and beside another migrate: the second one waits.
    """
    import logging

    from rpa_core.runtime.schema import bring_up_to_date

    logging.basicConfig(level=logging.WARNING, format="%(message)s")  # which transaction is waited for
    applied = bring_up_to_date(_flows(), _dsns(database), patience_s=duration(wait, "--wait"))
    if as_json:
        click.echo(ascii_json({"applied": applied}))
        return
    for name, migrations in applied.items():
        click.echo(f"{name}: " + (f"applied {', '.join(migrations)}" if migrations else "up to date"))


@command.command("status")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(database: str | None, as_json: bool) -> None:
    """Show each migration, the periods of rpa_db and what this role may do.

    Exit code 1 if a migration is missing or a sequence is behind its table, 78 if the schema is newer than this
    version or was changed.
    """
    from rpa_core.runtime.schema import states

    found = list(states(_flows(), _dsns(database)))
    state = {one.state for _, one in found}
    # The tables that are asked about below are there only once every migration is.
    more = _state_of_rpa_db(database) if state <= {"applied", "newer_compatible"} else {}
    if as_json:
        click.echo(ascii_json({"migrations": [_fields(name, one) for name, one in found], **more}))
    else:
        for name, one in found:
            when = f"applied {one.applied_at:%Y-%m-%dT%H:%M:%S%z}" if one.applied_at else ""
            click.echo("  ".join(text for text in (name, one.label, when, _STATES.get(one.state)) if text))
        for line in _lines(more):
            click.echo(line)
    if state & {"changed", "newer"}:
        raise SystemExit(78)
    if "missing" in state or more.get("sequences_behind"):
        raise SystemExit(1)


def _fields(database: str, one: MigrationStatus) -> dict[str, Any]:
    return {
        "database": database,
        "migration": one.label,
        "applied_at": one.applied_at.isoformat(timespec="seconds") if one.applied_at else None,
        "state": one.state,
    }


def _state_of_rpa_db(database: str | None) -> dict[str, Any]:
    from rpa_core.store.retention import periods
    from rpa_core.store.rights import missing
    from rpa_core.store.sequences import sequences

    with open_rpa_db(database) as connection:
        lacking = missing(connection, "worker")
        role = connection.info.user
        if not _READ_FOR_STATUS.isdisjoint(lacking):
            return {"role": role, "missing_for_worker": lacking}
        period_days, retention_days = _days(database)
        found = periods(connection, period_days=period_days, retention_days=retention_days)
        encoding = connection.info.parameter_status("server_encoding")
        behind = [
            {"sequence": one.name, "next": one.next, "highest": one.highest}
            for one in sequences(connection)
            if one.behind
        ]
    return {
        "encoding": encoding,
        "sequences_behind": behind,
        "role": role,
        "missing_for_worker": lacking,
        "periods": [
            {
                "period": one.id,
                "opened_at": one.opened_at.isoformat(timespec="seconds"),
                "closed_at": one.closed_at.isoformat(timespec="seconds") if one.closed_at else None,
                "retention": _retention(one),
            }
            for one in found
        ],
    }


def _retention(one: PeriodState) -> str:
    """What the retention has to do with a period, in words."""
    if one.closed_at is None:
        return "open; to be closed" if one.due else "open"
    if not one.expired:
        return "kept"
    held = [text for text, holds in (("dead letters", one.dead), ("unfinished records", one.unfinished)) if holds]
    return f"past the retention, kept for its {' and '.join(held)}" if held else "past the retention, to be dropped"


def _lines(more: dict[str, Any]) -> list[str]:
    lines = [
        f"rpa_db  period {one['period']}  {one['opened_at']} to {one['closed_at'] or 'now'}  {one['retention']}"
        for one in more.get("periods", ())
    ]
    if more.get("encoding"):
        lines.append(f"rpa_db  encoding {more['encoding']}")
    lines += [
        f"rpa_db  sequence {one['sequence']} is behind its table ({one['highest']} is taken): "
        "run `rpa db repair-sequences`"
        for one in more.get("sequences_behind", ())
    ]
    if lacking := more.get("missing_for_worker"):
        lines.append(f"rpa_db  role {more['role']} lacks for a worker: {', '.join(lacking)} (see `rpa db grants`)")
    return lines


@command.command("retain")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def retain_command(database: str | None, as_json: bool) -> None:
    """Apply the retention once: open a new period if one is due, drop those that are past it.

    Workers do this every minute. It is for cron, where their role may not. CONTAINER_PERIOD_DAYS and
    CONTAINER_RETENTION_DAYS say how long.
    """
    from rpa_core.store.retention import drop_expired, forget_requests, periods, rotate

    period_days, retention_days = _days(database)
    with open_rpa_db(database) as connection:
        opened = rotate(connection, period_days=period_days)
        while forget_requests(connection, retention_days=retention_days):
            pass
        dropped = drop_expired(connection, retention_days=retention_days)
        kept = periods(connection, period_days=period_days, retention_days=retention_days, expired_only=True)
    if as_json:
        reasons = {str(one.id): _retention(one) for one in kept}
        click.echo(ascii_json({"opened": opened, "dropped": dropped, "kept": reasons}))
        return
    click.echo(f"period {opened} is open" if opened else "no new period is due")
    click.echo(f"dropped: {', '.join(map(str, dropped)) or 'nothing'}")
    for one in kept:
        click.echo(f"period {one.id}: {_retention(one)}")


@command.command("grants")
@click.argument("role", type=KEY)
@click.option(
    "--for",
    "purpose",
    required=True,
    type=click.Choice(["worker", "enqueue", "operate", "read"]),
    help="Run flows; enqueue only; pause, retry, discard and correct; or read only.",
)
@click.option("--apply", "apply_", is_flag=True, help="Run the statements instead of printing them.")
@database_option
def grants_command(role: str, purpose: Any, apply_: bool, database: str | None) -> None:
    """Print the SQL that gives ROLE what it needs in rpa_db; run it as the owner of schema rpa, as often as you like.

    The tables that a flow's own effects write are granted by who made them.
    """
    from rpa_core.store.rights import grant, grants

    statements = grants(role, purpose)
    if not apply_:
        for statement in statements:
            click.echo(statement)
        return
    with open_rpa_db(database) as connection:
        grant(connection, role, purpose)
    click.echo(f"granted to {role}: {len(statements)} statements for {purpose}")


def duration(text: str, option: str) -> float:
    """Seconds of `90s`, `10m`, `30d`; raises UsageError naming the option."""
    from rpa_core.config.units import parse_seconds
    from rpa_core.errors import UsageError

    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} {error}") from error
    assert isinstance(seconds, float)
    return seconds


def _flows() -> list[Flow]:
    from rpa_core.runtime.flows import installed, load

    return [load(name) for name in sorted(installed())]


def _dsns(database: str | None) -> dict[str, str]:
    """The one that was named, or all that are configured."""
    if database:
        return {"rpa_db": checked(database)}
    return {name: one.dsn() for name, one in _config(os.environ).database_connections.items()}


def _days(database: str | None) -> tuple[float, float]:
    """Days of a period and of the retention, as configured; the database that was named stands for the configured."""
    environ = {**os.environ, "CONTAINER_DATABASE_RPA_DB_URL": database} if database else os.environ
    if database:
        environ = {name: value for name, value in environ.items() if name != "CONTAINER_DATABASE_RPA_DB_URL_FILE"}
    worker = _config(environ).worker
    return worker.period_days, worker.retention_days


def _config(environ: Any) -> ContainerConfig:
    from rpa_core.config.manager import ContainerConfigManager
    from rpa_core.runtime.flows import settings_of_others

    return ContainerConfigManager(environ, needs_flow=False, others=settings_of_others).load_container_config()


@command.command("repair-sequences")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def repair_sequences_command(database: str | None, as_json: bool) -> None:
    """Set sequences that are behind their tables forward, never back.

    Needed after a switchover or an upgrade by logical replication and after a data-only copy: they carry no sequences.
    Safe beside running workers; waits up to 10 s for running enqueues.
    """
    from rpa_core.store.sequences import advance_sequences

    with open_rpa_db(database) as connection:
        advanced = dict(advance_sequences(connection))
    if as_json:
        click.echo(ascii_json({"advanced": advanced}))
        return
    for name, number in advanced.items():
        click.echo(f"{name}: set forward, the next id is {number}")
    if not advanced:
        click.echo("no sequence is behind its table")
