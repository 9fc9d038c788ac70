"""`rpa records correct`: new payloads for what was set aside, from the edited output of `rpa records failed --json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rpa_core.cli.databases import FLOW, KEY, check_flow, database_option, open_input, open_rpa_db
from rpa_core.cli.letters import record_of
from rpa_core.observability.printable import ascii_json

if TYPE_CHECKING:
    import psycopg

    from rpa_core.store.dead_letters import Corrected, Correction


@click.command("correct")
@click.argument("flow", type=FLOW)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--record", metavar="KEY", type=KEY, help="FILE is the payload of this one record, not a list.")
@click.option("--key", "key_field", metavar="FIELD", type=KEY, help="The payload's field that holds the record's key.")
@click.option("--reason", type=KEY, help="Kept with the act: see `rpa records history`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@database_option
def command(
    flow: str,
    file: Path,
    record: str | None,
    key_field: str | None,
    reason: str | None,
    as_json: bool,
    database: str | None,
) -> None:
    """Give records of FLOW that were set aside new payloads, and queue them again.

    FILE (- is stdin) has one JSON object a line, as `rpa records failed FLOW --json` prints them: write the output to a
    file, replace each "payload" by what the record is to be, and give the file back. Lines whose payload was not
    changed stay set aside. All is done in one transaction, or nothing if a line cannot be read.
    """
    from rpa_core.store.dead_letters import correct

    with open_rpa_db(database) as connection:
        check_flow(connection, flow)
        with open_input(file) as stream:
            if record is not None:
                one = record_of(connection, flow, record, None)
                wanted = iter([_correction(one.record_id, _text(stream.read(), first=True), key_field)])
            else:
                wanted = _corrections(connection, flow, stream, key_field)
            done = correct(connection, flow, wanted, reason=reason)
    _conclude_corrected(flow, done, as_json)


def _text(data: bytes, *, first: bool) -> str:
    from rpa_core.errors import InputError

    try:
        return data.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"this is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _corrections(
    connection: psycopg.Connection[Any], flow: str, lines: Iterable[bytes], key_field: str | None
) -> Iterator[Correction]:
    """One for each line; raises InputError naming the first line that is none."""
    from rpa_core.errors import InputError
    from rpa_core.store.lookup import find

    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            members = _members(_text(line, first=number == 1))
            record_id = json.loads(members["record_id"]) if "record_id" in members else None
            if record_id is None:
                key = json.loads(members["key"])
                found = find(connection, flow, keys=[key]) if isinstance(key, str) else []
                if not found:
                    raise ValueError(f"flow {flow} has no record under key {key!r}")
                record_id = found[0].record_id
            if isinstance(record_id, bool) or not isinstance(record_id, int) or not 0 < record_id < 2**63:
                raise ValueError("record_id is not the number of a record")
            yield _correction(record_id, members["payload"], key_field)
        except KeyError as error:
            raise InputError(f"line {number} has no {error}; nothing was changed") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number}: {error}; nothing was changed") from error


def _correction(record_id: int, payload: str, key_field: str | None) -> Correction:
    from rpa_core.errors import InputError
    from rpa_core.formats.items import key_problem
    from rpa_core.store.dead_letters import Correction

    value = _decoded(payload)
    if key_field is None:
        return Correction(record_id, payload.strip())
    key = value.get(key_field) if isinstance(value, dict) else None
    if problem := key_problem(key, key_field):
        raise InputError(problem)
    return Correction(record_id, payload.strip(), str(key))


def _decoded(text: str) -> Any:
    from rpa_core.errors import InputError

    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the payload is not JSON: {error}") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _members(line: str) -> dict[str, str]:
    """The members of a JSON object, each as its own text, so that no digit of a payload changes."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    at = _past_space(line, 0)
    if line[at : at + 1] != "{":
        raise ValueError("it is no JSON object")
    _, end = decoder.raw_decode(line, at)  # from here on its form is known
    if line[end:].strip():
        raise ValueError("there is more than one JSON object")
    members: dict[str, str] = {}
    at = _past_space(line, at + 1)
    while line[at] != "}":
        name, at = decoder.raw_decode(line, at)
        at = _past_space(line, line.index(":", at) + 1)
        _, after = decoder.raw_decode(line, at)
        members[name] = line[at:after]
        at = _past_space(line, after)
        at = _past_space(line, at + 1) if line[at] == "," else at
    return members


def _past_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    return at


def _conclude_corrected(flow: str, done: Corrected, as_json: bool) -> None:
    if as_json:
        click.echo(ascii_json({"flow": flow, **{name: list(getattr(done, name)) for name in done.__slots__}}))
    else:
        click.echo(f"{len(done.corrected)} records of {flow} corrected and queued")
        for ids, what in (
            (done.unchanged, "not changed, still set aside"),
            (done.missing, "not set aside"),
            (done.key_taken, "still set aside: the flow has another record under that key"),
        ):
            if ids:
                click.echo(
                    f"{len(ids)} {what}: {', '.join(map(str, ids[:20]))}{' ...' if len(ids) > 20 else ''}", err=True
                )
    if done.missing or done.key_taken:
        raise SystemExit(65)
