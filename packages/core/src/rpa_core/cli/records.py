"""`rpa records load|status|requeue|pause|resume`; what concerns dead letters is in `cli.letters`."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rpa_core.cli import corrections, letters
from rpa_core.cli.databases import FLOW, KEY, check_flow, database_option, open_input, setting
from rpa_core.cli.databases import open_rpa_db as _connection
from rpa_core.observability.printable import ascii_json, printable

if TYPE_CHECKING:
    from rpa_core.runtime.loading import Loaded


@click.group("records")
def command() -> None:
    """Load records, see what became of them, put back, correct or discard what was set aside."""


letters.add_to(command)
command.add_command(corrections.command)


@command.command("load")
@click.argument("flow", type=FLOW)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--format", "form", type=click.Choice(["csv", "tsv", "ndjson", "json"]), help="Default: by the ending.")
@click.option("--key", "key_field", metavar="FIELD", type=KEY, help="The field that holds each record's key.")
@click.option(
    "--bad-lines",
    type=click.Choice(["set-aside", "reject"]),
    default="set-aside",
    show_default=True,
    help="Keep unreadable lines as dead letters, or load nothing if there is one.",
)
@click.option("--source", metavar="NAME", type=KEY, help="Know rows by this name, their line and their content.")
@click.option("--delimiter", help="One character, '\\t' for a tab; default: judged by the rows. For CSV and TSV.")
@click.option(
    "--no-header", is_flag=True, help="The first line is a record; columns are called 1, 2, 3. For CSV and TSV."
)
@click.option("--encoding", default="utf-8", show_default=True)
@click.option("--max-line-bytes", type=click.IntRange(64, 2**28), default=1024 * 1024, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@database_option
def load_command(
    flow: str,
    files: tuple[Path, ...],
    form: str | None,
    key_field: str | None,
    bad_lines: Any,
    source: str | None,
    delimiter: str | None,
    no_header: bool,
    encoding: str,
    max_line_bytes: int,
    as_json: bool,
    database: str | None,
) -> None:
    """Load FILES (CSV, TSV, NDJSON, JSON; also gzip; - is stdin) into FLOW.

    Each file is one transaction: it is loaded whole or not at all. Loading the same file again changes nothing, and of
    a file that has grown at its end only what is new is loaded: without --key, a file is known by its name, not its
    folder, and its content. Any other content is another file, and all of it is loaded. For a file that is corrected in
    place use --source at each load: rows under that name with the same line and content are loaded once.

    Exit code 65: a file was refused, or not one of its lines could be read.
    """
    from rpa_core.cli.progress import bytes_progress
    from rpa_core.errors import InputError
    from rpa_core.formats import Format, format_of, read
    from rpa_core.runtime.loading import LoadPlan, load

    if source is not None and len(files) > 1:
        raise click.UsageError("--source names one file's rows: load several files one by one")
    plans = [
        LoadPlan(
            flow=flow,
            form=Format(form) if form else format_of(file.name),
            key_field=key_field,
            on_bad_line=bad_lines,
            encoding=encoding,
            delimiter=_character(delimiter),
            max_line_bytes=max_line_bytes,
            chunk_size=setting("CONTAINER_CHUNK_SIZE"),
            check_columns=None if no_header else _column_check(flow),
            source=source,
            header=not no_header,
        )
        for file in files
    ]
    for plan in plans:  # wrong options are found before anything is loaded
        with suppress(InputError):  # which the load itself raises, with the file's name
            read((), plan.form, encoding=encoding, delimiter=plan.delimiter, header=plan.header)
    unreadable, failed = [], None
    with _connection(database) as connection:
        for file, plan in zip(files, plans, strict=True):
            with open_input(file) as stream, bytes_progress(file, quiet=as_json) as advance:
                loaded = load(connection, plan, stream, str(file), advance)
            if loaded.nothing_readable:
                unreadable.append(printable(loaded.source))
            try:
                _show_loaded(loaded, flow, as_json)  # now: a later file may be refused
            except OSError as error:  # the file is loaded all the same, and the next ones are to be
                failed = failed or error
                click.echo(f"rpa: {_summary(loaded, flow)}; stdout cannot be written: {error.strerror}", err=True)
    if failed is not None:
        raise failed
    if unreadable:
        raise InputError(
            f"not one line of {', '.join(unreadable)} could be read; see `rpa records failed {flow}` for the reasons"
        )


def _character(given: str | None) -> str | None:
    """A delimiter as it is typed: the character itself, or an escape of it such as '\\t' or '\\x01'."""
    if given is not None and re.fullmatch(r"\\(t|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4})", given):
        return given.encode().decode("unicode_escape")
    return given


def _show_loaded(loaded: Loaded, flow: str, as_json: bool) -> None:
    if as_json:
        click.echo(ascii_json({name: getattr(loaded, name) for name in loaded.__slots__}))
        return
    click.echo(_summary(loaded, flow))


def _summary(loaded: Loaded, flow: str) -> str:
    aside = f" (see `rpa records failed {flow}`)" if loaded.set_aside else ""
    before = loaded.unreadable - loaded.set_aside
    return (
        f"{printable(loaded.source)}: {loaded.accepted} records into {flow}, {loaded.duplicates} already there,"
        f" {loaded.set_aside} lines set aside{aside}" + (f", {before} set aside before" if before else "")
    )


def _column_check(flow: str) -> Any:
    """The flow's own check of a file's columns, where the flow is installed here and has one."""
    from rpa_core.config.manager import ContainerConfigManager
    from rpa_core.runtime import flows

    if flow not in flows.installed():
        return None
    found = flows.load(flow)
    check = found.check_columns
    if check is None:
        return None
    manager = ContainerConfigManager(
        os.environ,
        flow_settings=found.settings,
        flow_name=flow,
        databases=(),
        needs_flow=False,
        others=flows.settings_of_others,
    )
    settings = manager.load_flow_settings()
    return lambda columns: check(columns, settings)


@command.command("status")
@click.argument("flow", required=False, type=FLOW)
@click.argument("key", required=False, type=KEY)
@click.option("--exact", is_flag=True, help="Count what is done and discarded, too; reads all of it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@database_option
def status_command(flow: str | None, key: str | None, exact: bool, as_json: bool, database: str | None) -> None:
    """Show the queue of every flow, or of FLOW; with KEY, one record and its outcome."""
    from rpa_core.store.lookup import discarded_counts, done_counts, flow_depths, used_flows

    with _connection(database) as connection:
        if flow is not None:
            check_flow(connection, flow)
        if flow is not None and key is not None:
            letters.show_status(connection, flow, key, as_json)
            return
        used = used_flows(connection)
        depths = {name: one for name, one in flow_depths(connection).items() if name in used and flow in (None, name)}
        done = done_counts(connection) if exact else {}
        discarded = discarded_counts(connection) if exact else {}
    rows = {
        name: {
            **{field: getattr(depth, field) for field in ("ready", "waiting", "leased")},
            **({"done": done.get(name, 0)} if exact else {}),
            "set_aside": depth.dead,
            **({"discarded": discarded.get(name, 0)} if exact else {}),
            "oldest_s": round(depth.oldest_age_s, 1),
            "paused": depth.paused,
        }
        for name, depth in depths.items()
    }
    if as_json:
        click.echo(ascii_json(rows))
        return
    if not rows:
        click.echo("no flow has records yet" if flow is None else f"flow {flow} has no records yet")
        return
    from rpa_core.cli.tables import show

    show("flow", rows)


@command.command("requeue")
@click.argument("flow", type=FLOW)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@database_option
def requeue_command(flow: str, as_json: bool, database: str | None) -> None:
    """Let records of FLOW that wait for their next try be tried now."""
    from rpa_core.store.lookup import requeue

    with _connection(database) as connection:
        check_flow(connection, flow)
        count = requeue(connection, flow)
    click.echo(ascii_json({"flow": flow, "requeued": count}) if as_json else f"{count} records of {flow} are ready now")


@command.command("pause")
@click.argument("flow", type=FLOW)
@click.option("--create", is_flag=True, help="Also a flow that is not installed here and has no records yet.")
@database_option
def pause_command(flow: str, create: bool, database: str | None) -> None:
    """Let no worker claim from FLOW; what is in hand is finished. Works before the first record, too."""
    _set_paused(flow, True, database, create=create)


@command.command("resume")
@click.argument("flow", type=FLOW)
@database_option
def resume_command(flow: str, database: str | None) -> None:
    """Let workers claim from FLOW again."""
    _set_paused(flow, False, database)


def _set_paused(flow: str, paused: bool, database: str | None, *, create: bool = False) -> None:
    from rpa_core.store.intake import check_flow_name
    from rpa_core.store.lookup import set_paused

    with _connection(database) as connection:
        if create:
            check_flow_name(flow)
        else:
            check_flow(connection, flow, otherwise="; --create pauses it all the same" if paused else "")
        set_paused(connection, flow, paused)
    click.echo(f"{flow} is {'paused' if paused else 'running'}")
