"""rpa2's handler: batches of records to outcomes, whatever the records hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson
import pytest

from rpa_core.processing.flow import FlowContext, OpenContext, Record
from rpa_core.processing.outcome import Done, Outcome, SetAside
from rpa_flows.codebook.model import Codebook
from rpa_flows.codebook.validate import compile_validator
from rpa_flows.generator import Row
from rpa_flows.rpa2 import FLOW
from rpa_flows.rpa2.flow import open_scoring, score
from rpa_flows.rpa2.settings import Rpa2Settings


@pytest.fixture
def context() -> Iterator[FlowContext]:
    """rpa2, opened for anes96."""
    settings = Rpa2Settings(codebook="anes96")
    with open_scoring(OpenContext(flow="rpa2", settings=settings, databases={})) as resources:
        yield FlowContext(flow="rpa2", resources=resources, settings=settings)


def _records(payloads: Sequence[bytes]) -> list[Record]:
    return [Record(number, None, payload) for number, payload in enumerate(payloads)]


def _payload(book: Codebook, row: Row, key: str = "k") -> bytes:
    answers = compile_validator(book)(row).answers
    return orjson.dumps({"survey": "anes96", "key": key, "answers": answers})


@pytest.mark.requirement("R9.4")
def test_results_name_their_response(context: FlowContext, anes96: Codebook, anes96_rows: list[Row]) -> None:
    """A result carries survey and key beside the scores, is JSON, and goes on to rpa3."""
    (outcome,) = score(_records([_payload(anes96, anes96_rows[0], "r1")]), context)
    assert isinstance(outcome, Done)
    assert (outcome.data["survey"], outcome.data["key"]) == ("anes96", "r1")
    assert outcome.data["segment"] == "Loyal Republicans"
    assert orjson.loads(orjson.dumps(outcome.data)) == outcome.data
    assert FLOW.next_flow == "rpa3"


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "not JSON"),
        (b"[]", "not an object with survey, key and answers"),
        (b"null", "not an object"),
        (b'{"selfLR": 3}', "survey: missing; send raw responses to rpa1"),
        (b'{"survey": "other", "key": "k", "answers": {}}', "a response of survey 'other'"),
        (b'{"survey": "anes96", "key": "k", "answers": []}', "is not an object of answers"),
        (b'{"survey": "anes96", "key": "k", "answers": {"PID": 99}}', "selfLR: required, but missing"),
        (b'{"survey": "anes96", "key": "k", "answers": {"PID": [1]}}', "PID: [1] is not a single value"),
    ],
)
def test_a_bad_record_is_set_aside_and_stops_no_other(
    context: FlowContext, anes96: Codebook, anes96_rows: list[Row], payload: bytes, reason: str
) -> None:
    """Between two good records a bad one gets its reason; the good ones are scored."""
    good = _payload(anes96, anes96_rows[0])
    outcomes: list[Outcome] = score(_records([good, payload, good]), context)
    assert isinstance(outcomes[0], Done)
    assert isinstance(outcomes[2], Done)
    assert isinstance(outcomes[1], SetAside)
    assert any(reason in each for each in outcomes[1].reasons), outcomes[1]
