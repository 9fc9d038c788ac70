"""`rpa records failed|show|retry|discard|history`: what was set aside, and what is done about it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from rpa_core.cli.databases import FLOW, KEY, check_flow, database_option, open_rpa_db
from rpa_core.observability.printable import ascii_json, printable

if TYPE_CHECKING:
    import psycopg

    from rpa_core.store.lookup import DeadLetterRow, FoundRecord, RecordStatus

KINDS = ("rejected", "exhausted", "crash", "unstorable", "unreadable")
_PAGE = 100  # a payload may be a megabyte
_SPACES = str.maketrans("\n\r\t", "   ")  # in JSON text they stand between values only
_LOST = "no result, dead letter or chunk has this record: `rpa records retry` with its key queues it again"
_kinds_option = click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only these; may be repeated."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def add_to(group: click.Group) -> None:
    """Make these commands subcommands of `group`."""
    for command in (failed_command, show_command, retry_command, discard_command, history_command):
        group.add_command(command)


def _json(fields: Mapping[str, Any], **raw: bytes | None) -> str:
    """One line of JSON; `raw` is JSON text and stays as it is stored."""
    plain = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}
    texts: dict[str, Any] = {name: text if text is not None else b"null" for name, text in raw.items()}
    return ascii_json(plain, **texts)


def _shown(data: bytes | None) -> str:
    return printable(data.decode().translate(_SPACES)) if data is not None else "None"


def show_status(connection: psycopg.Connection[Any], flow: str, key: str, as_json: bool) -> None:
    """Print where one record is, and its outcome."""
    from rpa_core.store.lookup import status_of

    found = record_of(connection, flow, key, None)
    status = status_of(connection, flow, found)
    fields = {name: getattr(status, name) for name in status.__slots__ if name != "result_json"}
    if as_json:
        click.echo(_json(fields, result=status.result_json))
    else:
        _print_status(status, fields)


def _print_status(status: RecordStatus, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        click.echo(f"{name:12} {printable(value)}")
    click.echo(f"{'result':12} {_shown(status.result_json)}")
    if status.state == "unknown":
        click.echo(_LOST, err=True)


def record_of(connection: psycopg.Connection[Any], flow: str, key: str | None, record_id: int | None) -> FoundRecord:
    from rpa_core.errors import InputError
    from rpa_core.store.lookup import find

    found = find(connection, flow, keys=[key]) if key is not None else find(connection, flow, ids=[record_id or 0])
    if not found:
        what = f"under key {key!r}" if key is not None else f"with id {record_id}"
        raise InputError(f"flow {flow} has no record {what}")
    return found[0]


@click.command("failed")
@click.argument("flow", type=FLOW)
@_kinds_option
@click.option("--limit", type=click.IntRange(1, 1_000_000), help="How many; default: 50, and all of them with --json.")
@click.option("--after", type=click.IntRange(0, 2**63 - 1), default=0, metavar="ID", help="Only record ids above it.")
@click.option("--discarded", is_flag=True, help="Those that were discarded, instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, payload included.")
@database_option
def failed_command(
    flow: str,
    kinds: tuple[str, ...],
    limit: int | None,
    after: int,
    discarded: bool,
    as_json: bool,
    database: str | None,
) -> None:
    """List the records of FLOW that were set aside, with every reason."""
    most = limit if limit is not None else None if as_json else 50
    shown = 0
    with open_rpa_db(database) as connection:
        check_flow(connection, flow)
        for row in _letters(connection, flow, kinds, after, discarded):
            if shown == most:
                if not as_json:
                    click.echo(f"there are more: --after {after}, or a larger --limit", err=True)
                break
            _show_letter(row, as_json)
            shown, after = shown + 1, row.record_id
    if not shown and not as_json:
        click.echo(f"nothing of {flow} {'was discarded' if discarded else 'is set aside'}")


def _letters(
    connection: psycopg.Connection[Any], flow: str, kinds: Sequence[str], after: int, discarded: bool
) -> Iterator[DeadLetterRow]:
    from rpa_core.store.lookup import dead_letters

    while page := list(dead_letters(connection, flow, kinds=kinds, most=_PAGE, after=after, discarded=discarded)):
        yield from page
        after = page[-1].record_id


def _show_letter(row: DeadLetterRow, as_json: bool) -> None:
    if as_json:
        fields = {name: getattr(row, name) for name in row._fields if name != "payload"}
        click.echo(_json(fields, payload=row.payload))
        return
    click.echo(f"{printable(row.key or row.record_id)}  {row.kind}, {row.tries} tries, {row.at:%Y-%m-%d %H:%M:%S}")
    for reason in row.reasons:
        click.echo(f"    {printable(reason)}")


@click.command("show")
@click.argument("flow", type=FLOW)
@click.argument("key", required=False, type=KEY)
@click.option("--id", "record_id", type=click.IntRange(0, 2**63 - 1), help="By record id instead of KEY.")
@_json_option
@database_option
def show_command(flow: str, key: str | None, record_id: int | None, as_json: bool, database: str | None) -> None:
    """Show one record of FLOW whole: payload, outcome, and what was done about it."""
    from rpa_core.errors import UsageError
    from rpa_core.store.lookup import acts_of, payload_of, status_of

    if (key is None) == (record_id is None):
        raise UsageError("name one record: KEY or --id")
    with open_rpa_db(database) as connection:
        check_flow(connection, flow)
        found = record_of(connection, flow, key, record_id)
        status, payload, acts = (
            status_of(connection, flow, found),
            payload_of(connection, found),
            acts_of(connection, found),
        )
    fields = {name: getattr(status, name) for name in status.__slots__ if name != "result_json"}
    history = [
        _json({name: getattr(act, name) for name in act._fields if name != "payload"}, payload=act.payload)
        for act in acts
    ]
    if as_json:
        listed = f"[{', '.join(history)}]".encode()
        click.echo(_json(fields, result=status.result_json, payload=payload, history=listed))
        return
    _print_status(status, fields)
    click.echo(f"{'payload':12} {_shown(payload)}")
    for line in history:
        click.echo(f"{'history':12} {line}")


@click.command("retry")
@click.argument("flow", type=FLOW)
@click.argument("keys", nargs=-1, type=KEY)
@_kinds_option
@click.option("--all", "everything", is_flag=True, help="All that were set aside (but unreadable input).")
@click.option("--discarded", is_flag=True, help="Those that were discarded, instead.")
@_json_option
@database_option
def retry_command(
    flow: str,
    keys: tuple[str, ...],
    kinds: tuple[str, ...],
    everything: bool,
    discarded: bool,
    as_json: bool,
    database: str | None,
) -> None:
    """Put records of FLOW that were set aside back into the queue: by KEYS, by --kind, or --all.

    Exit code 65 if one of KEYS is unknown or was not set aside; the others are put back all the same.
    """
    from rpa_core.store.lookup import put_back

    _choice(keys, kinds, everything)
    with open_rpa_db(database) as connection:
        check_flow(connection, flow)
        if not keys:
            count = put_back(connection, flow, kinds=kinds or None, discarded=discarded)
            click.echo(
                ascii_json({"flow": flow, "put_back": count}) if as_json else f"{count} records of {flow} put back"
            )
            return
        wanted = "discarded" if discarded else "set_aside"
        chosen, others = _chosen(connection, flow, keys, kinds, wanted)
        unreadable = {one.key or "": one.kind for one in chosen if one.kind == "unreadable"}
        count = put_back(
            connection, flow, ids=[one.record_id for one in chosen], kinds=kinds or None, discarded=discarded
        )
        count += _retry_lost(connection, flow, others)
    others |= dict.fromkeys(unreadable, "unreadable: give it a readable payload with `rpa records correct`")
    _conclude(flow, "put_back", count, others, as_json)


def _retry_lost(connection: psycopg.Connection[Any], flow: str, others: dict[str, str]) -> int:
    """Queue the records that nothing lists; takes them out of `others`."""
    from rpa_core.store.lookup import find, queue_lost

    lost = [key for key, state in others.items() if state == "unknown"]
    if not lost:
        return 0
    keys = {record.record_id: record.key for record in find(connection, flow, keys=lost)}
    queued = queue_lost(connection, flow, list(keys))
    for record_id in queued:
        others.pop(keys[record_id] or "", None)
    return len(queued)


def _choice(keys: Sequence[str], kinds: Sequence[str], everything: bool, older: str | None = None) -> None:
    from rpa_core.errors import UsageError

    if not (keys or kinds or everything or older):
        raise UsageError("say which: keys, --kind, or --all")
    if keys and everything:
        raise UsageError("say which: keys, or --all")


def _chosen(
    connection: psycopg.Connection[Any], flow: str, keys: Iterable[str], kinds: Sequence[str], wanted: str
) -> tuple[list[RecordStatus], dict[str, str]]:
    """The records of these keys that are in the wanted state, and what is with the other keys."""
    from rpa_core.store.lookup import find, status_of

    names = list(dict.fromkeys(keys))
    found = {record.key: record for record in find(connection, flow, keys=names)}
    chosen: list[RecordStatus] = []
    others: dict[str, str] = {}
    for key in names:
        if key not in found:
            others[key] = "no such record"
            continue
        status = status_of(connection, flow, found[key])
        if status.state != wanted:
            others[key] = status.state
        elif kinds and status.kind not in kinds:
            others[key] = f"{status.state}, as {status.kind}"
        else:
            chosen.append(status)
    return chosen, others


def _conclude(flow: str, done: str, count: int, others: Mapping[str, str], as_json: bool) -> None:
    """Print how many, and what was not done; exit code 65 if there is any of that."""
    if as_json:
        click.echo(ascii_json({"flow": flow, done: count, **({"not_done": dict(others)} if others else {})}))
    else:
        click.echo(f"{count} records of {flow} {done.replace('_', ' ')}")
        for key, why in others.items():
            click.echo(f"{printable(key)} not: {why}", err=True)
    if others:
        raise SystemExit(65)


@click.command("discard")
@click.argument("flow", type=FLOW)
@click.argument("keys", nargs=-1, type=KEY)
@_kinds_option
@click.option("--all", "everything", is_flag=True, help="All that were set aside.")
@click.option("--older-than", "older", metavar="DURATION", help="Only those set aside longer ago, such as 12h or 30d.")
@click.option("--reason", type=KEY, help="Kept with the act: see `rpa records history`.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json_option
@database_option
def discard_command(
    flow: str,
    keys: tuple[str, ...],
    kinds: tuple[str, ...],
    everything: bool,
    older: str | None,
    reason: str | None,
    yes: bool,
    as_json: bool,
    database: str | None,
) -> None:
    """Let go of records of FLOW that were set aside: by KEYS, by --kind, --older-than or --all.

    They no longer count as set aside and no longer keep their period; each stays visible until that is dropped. Exit
    code 65 if one of KEYS is unknown or not set aside; the others are discarded all the same.
    """
    from rpa_core.cli.db import duration
    from rpa_core.errors import UsageError
    from rpa_core.store.dead_letters import count_discardable, discard

    _choice(keys, kinds, everything, older)
    older_s = duration(older, "--older-than") if older else None
    others: dict[str, str] = {}
    ids: list[int] | None = None
    with open_rpa_db(database) as connection:
        check_flow(connection, flow)
        if keys:
            chosen, others = _chosen(connection, flow, keys, kinds, "set_aside")
            ids = [one.record_id for one in chosen]
        n = count_discardable(connection, flow, ids=ids, kinds=kinds or None, older_s=older_s)
        if n and not yes:
            if sys.stdin is None or not sys.stdin.isatty():
                raise UsageError(f"{n} records of {flow} would be discarded: add --yes")
            click.confirm(f"Discard {n} records of {flow}?", abort=True, err=True)
        by_kind = discard(connection, flow, ids=ids, kinds=kinds or None, older_s=older_s, reason=reason) if n else {}
    _conclude(flow, "discarded", sum(by_kind.values()), others, as_json)


@click.command("history")
@click.argument("flow", required=False, type=FLOW)
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True)
@_json_option
@database_option
def history_command(flow: str | None, limit: int, as_json: bool, database: str | None) -> None:
    """Show who discarded or corrected how many records, and why, the latest first. Kept for a year at least."""
    from rpa_core.store.dead_letters import acts

    with open_rpa_db(database) as connection:
        if flow is not None:
            check_flow(connection, flow)
        rows = acts(connection, flow, most=limit)
    for row in rows:
        if as_json:
            click.echo(_json(row._asdict()))
        else:
            kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(row.kinds.items()))
            click.echo(f"{row.at:%Y-%m-%d %H:%M:%S}  {row.flow}  {row.act}  {row.n} ({kinds})  by {printable(row.by)}")
            if row.reason:
                click.echo(f"    {printable(row.reason)}")
    if not rows and not as_json:
        click.echo("nothing was discarded or corrected")
