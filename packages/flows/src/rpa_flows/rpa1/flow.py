"""The flow value of rpa1 and its handler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from rpa_core.checkpoints import Checkpoints, Point
from rpa_core.processing.flow import Flow, FlowContext, OpenContext, Record
from rpa_core.processing.outcome import Done, Outcome, SetAside
from rpa_flows.codebook.load import check_codebook, codebook_files, load_codebook
from rpa_flows.codebook.validate import Validator, column_problems, compile_validator
from rpa_flows.rpa1.hub import Response, SurveyHub
from rpa_flows.rpa1.settings import Rpa1Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ingest:
    survey: str
    validate: Validator
    hub: SurveyHub
    checkpoints: Checkpoints


@contextmanager
def open_ingest(context: OpenContext) -> Iterator[_Ingest]:
    """Compile the codebook and look at survey_hub. Raises ConfigError, SchemaError, StoreUnavailable, StoreRefused."""
    settings: Rpa1Settings = context.settings
    book = load_codebook(settings.codebook)
    hub = SurveyHub(context.databases["survey_hub"], book.name)
    try:
        hub.check()
        yield _Ingest(survey=book.name, validate=compile_validator(book), hub=hub, checkpoints=context.checkpoints)
    finally:
        hub.close()


def ingest(records: Sequence[Record], context: FlowContext) -> list[Outcome]:
    """Validate a batch, store what is valid in survey_hub, answer in the order of `records`."""
    this: _Ingest = context.resources
    outcomes: list[Outcome | None] = [None] * len(records)
    accepted: dict[str, Response] = {}
    positions: list[tuple[int, str, Response]] = []
    for position, record in enumerate(records):
        try:
            checked = this.validate(record.payload)
        except orjson.JSONDecodeError as error:
            outcomes[position] = SetAside((f"not JSON: {error}",))
            continue
        if checked.reasons:
            outcomes[position] = SetAside(checked.reasons)
            continue
        key = checked.key or record.key or f"record:{record.id}"
        accepted.setdefault(key, checked.answers)
        positions.append((position, key, checked.answers))
    present = this.hub.store(accepted)
    this.checkpoints.reach(Point.FLOW_EFFECT_DONE)
    for position, key, answers in positions:
        stored = present.get(key) or accepted[key]
        outcomes[position] = _outcome(this.survey, key, answers, stored)
    return [outcome for outcome in outcomes if outcome is not None]


def _outcome(survey: str, key: str, answers: Response, stored: Response) -> Outcome:
    """Done, unless survey_hub holds something else under the key."""
    if stored is answers or stored == answers:
        return Done({"survey": survey, "key": key, "answers": answers})
    differing = _differing(answers, stored)
    return SetAside(
        (
            f"key {key!r} of survey {survey} already holds another response (it differs in {differing}); "
            "give this response its own key, or delete the stored one and put this back",
        )
    )


def _differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    names = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    return ", ".join(sorted(names))


def check_columns(columns: Sequence[str], settings: Rpa1Settings) -> list[str]:
    """Refuse a file whose columns cannot fit the codebook, instead of setting aside each of its lines."""
    return column_problems(load_codebook(settings.codebook), columns)


FLOW = Flow(
    name="rpa1",
    handle=ingest,
    batch=True,
    next_flow="rpa2",
    open=open_ingest,
    settings=Rpa1Settings,
    files=codebook_files,
    validate=check_codebook,
    check_columns=check_columns,
    databases=("survey_hub",),
    migrations=(("survey_hub", "rpa_flows.migrations"),),
)
