"""`rpa spool`: what waits in the spools of a folder, and what to do about dead letters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rpa_core.cli.databases import text_of
from rpa_core.cli.tables import show_cells
from rpa_core.errors import RpaError, UsageError
from rpa_core.observability.printable import ascii_json, printable

if TYPE_CHECKING:
    from rpa_core.resilience.spool.model import DeadEntry

VARIABLE = "CONTAINER_SPOOL_DIR"

folder_option = click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help=f"The spools' folder (default: {VARIABLE})."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
all_option = click.option("--all", "everything", is_flag=True, help="All dead letters.")


@click.group("spool")
def command() -> None:
    """Look at what waits in the spools of a folder, retry or discard what was refused.

    Spools of processes that run may be looked at, and dead letters put back there, at any time.
    """


@command.command("status")
@folder_option
@json_option
def status_command(folder: Path | None, as_json: bool) -> None:
    """Show each spool: whose it is, how much of each kind waits, how old, and how much is dead."""
    from rpa_core.resilience.spool import visit

    paths = visit.files(_folder(folder))
    seen, problems = _each(paths, visit.look)
    if as_json:
        fields = [
            {"file": one.path.name, "flow": one.flow, "owner": one.owner, "living": one.living}
            | {"kinds": {kind: asdict(depth) for kind, depth in one.kinds.items()}}
            for one in seen
        ]
        click.echo(ascii_json({"spools": fields, "problems": problems}))
    elif seen:
        headings = ("flow", "owner", "which", "kind", "entries", "bytes", "oldest", "dead")
        show_cells(headings, [cells for one in seen for cells in _rows(one)], texts=4)
    elif not problems:
        click.echo(f"no spools in {printable(_folder(folder))}")
    _end(problems, quiet=as_json)


@command.command("failed")
@click.option("--kind", help="Only dead letters of this kind.")
@folder_option
@json_option
def failed_command(kind: str | None, folder: Path | None, as_json: bool) -> None:
    """List the dead letters of all spools, with their reasons; --json prints the bodies too."""
    from rpa_core.resilience.spool import visit

    found, problems = _each(visit.files(_folder(folder)), lambda path: (path, visit.dead_letters(path, kind)))
    count = 0
    for path, letters in found:
        for dead in letters:
            count += 1
            click.echo(_as_json(path, dead) if as_json else _as_text(path, dead))
    if not count and not as_json and not problems:
        click.echo("no dead letters")
    _end(problems)


@command.command("retry")
@click.argument("ids", nargs=-1)
@all_option
@folder_option
def retry_command(ids: tuple[str, ...], everything: bool, folder: Path | None) -> None:
    """Put dead letters back to the end of their streams: by IDS, or --all."""
    from rpa_core.resilience.spool import visit

    _decide("put back", visit.retry, ids, everything, _folder(folder))


@command.command("discard")
@click.argument("ids", nargs=-1)
@all_option
@folder_option
def discard_command(ids: tuple[str, ...], everything: bool, folder: Path | None) -> None:
    """Throw dead letters away for good: by IDS, or --all."""
    from rpa_core.resilience.spool import visit

    _decide("discarded", visit.discard, ids, everything, _folder(folder))


def _folder(given: Path | None) -> Path:
    from rpa_core.config.texts import home

    text = None if given else text_of(VARIABLE)
    try:
        named = given or (text and home(text))
    except ValueError as error:
        raise UsageError(f"{VARIABLE} {error}") from error
    if not named:
        raise UsageError(f"name the spools' folder: --dir, or {VARIABLE}; without one a spool is kept in memory")
    return Path(named)


def _each(paths: list[Path], ask: Callable[[Path], Any]) -> tuple[list[Any], list[str]]:
    """What was found; and what was wrong, so that one bad file hides no other."""
    answers, problems = [], []
    for path in paths:
        try:
            answers.append(ask(path))
        except RpaError as error:
            if path.exists():  # not one that was drained and removed since it was listed
                problems.append(f"{error}  [{error.code}]")
    return answers, problems


def _decide(what: str, do: Callable[[Path, str], bool], ids: tuple[str, ...], everything: bool, folder: Path) -> None:
    from rpa_core.resilience.spool import visit

    if bool(ids) is everything:
        raise UsageError("say which: either ids, as `rpa spool failed` lists them, or --all")
    paths = visit.files(folder)
    letters, problems = _each(paths, lambda path: [(path, dead.entry.id) for dead in visit.dead_letters(path)])
    known = [pair for pairs in letters for pair in pairs]
    missing = sorted(set(ids) - {id_ for _, id_ in known})
    problems += [f"no dead letter has the id {id_}; `rpa spool failed` lists them" for id_ in missing]
    count = 0
    for path, id_ in known:
        if everything or id_ in ids:
            try:
                count += do(path, id_)
            except RpaError as error:
                problems.append(f"{error}  [{error.code}]")
    click.echo(f"{count} {what}")
    _end(problems)


def _end(problems: list[str], *, quiet: bool = False) -> None:
    if problems and not quiet:
        for problem in problems:
            click.echo(f"rpa: {printable(problem)}", err=True)
    if problems:
        sys.exit(1)


def _rows(one: Any) -> Iterator[tuple[str, ...]]:
    head = (one.flow, one.owner, "runs" if one.living else "is gone")
    for kind, depth in one.kinds.items():
        numbers = (f"{depth.entries:,}", f"{depth.size_bytes:,}", f"{depth.oldest_s:,.0f} s", f"{depth.dead:,}")
        yield (*head, kind, *numbers)
    if not one.kinds:
        yield (*head, "(empty)", "0", "0", "0 s", "0")


def _as_json(path: Path, dead: DeadEntry) -> str:
    entry = dead.entry
    fields = {"file": path.name, "id": entry.id, "kind": entry.kind, "stream": entry.stream, "tries": entry.tries}
    when = {"put_at": _time(entry.put_at), "died_at": _time(dead.died_at)}
    body = entry.body.decode(errors="backslashreplace")
    return ascii_json(fields | when | {"reason": dead.reason, "body": body})


def _as_text(path: Path, dead: DeadEntry) -> str:
    entry = dead.entry
    head = f"{entry.id}  {entry.kind}, {entry.tries} tries, {_time(dead.died_at)}, in {path.name}"
    return f"{printable(head)}\n    {printable(dead.reason)}"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
