"""Whatever a handler returns or raises: one outcome for that record, and none of the others held up."""

from __future__ import annotations

import pytest

from rpa_testkit.waits import until

from .engine import Engine

_GOOD: list[dict[str, object]] = [{"n": f"good{number}"} for number in range(20)]


def _mixed(*odd: dict[str, object]) -> list[dict[str, object]]:
    return [*_GOOD[:10], *odd, *_GOOD[10:]]


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("flow", ["ACT", "ASYNC", "BATCH"])
def test_each_outcome_ends_where_it_belongs(engine: Engine, flow: str) -> None:
    """Retried and done, given up, set aside, refused: by the handler's word, with every reason."""
    engine.enqueue(
        _mixed(
            {"n": "once", "do": "once"},
            {"n": "never", "do": "retry"},
            {"n": "aside", "do": "aside"},
            {"n": "reject", "do": "reject"},
            {"n": "raise", "do": "raise"},
            {"n": "none", "do": "none"},
            {"n": "object", "do": "object"},
        )
    )
    engine.start(flow, max_tries=3)
    assert engine.settle() == {"done": 21, "dead": 6}
    letters = engine.dead_letters()
    assert letters["never"] == ("exhausted", 3, ["gave up after 3 tries: not yet"])
    assert letters["aside"] == ("rejected", 1, ["never", "and again never"])
    assert letters["reject"] == ("rejected", 1, ["too old", "too odd"])
    assert letters["raise"] == ("exhausted", 3, ["gave up after 3 tries: ValueError: cannot read raise"])
    assert letters["none"][2] == [
        "gave up after 3 tries: TypeError: the handler returned NoneType; it must return Done, Retry or SetAside"
    ]
    assert letters["object"][0] == "unstorable"
    results = {row[0].get("n") for row in engine.ask("SELECT data FROM rpa.result") if "n" in row[0]}
    assert results == {f"good{number}" for number in range(20)}


@pytest.mark.requirement("R8.7")
def test_a_careless_handler_harms_nobody_else(engine: Engine) -> None:
    """Reasons that are no text, delays that are no time, records for flows that cannot be: that record alone pays."""
    engine.enqueue(
        _mixed(
            {"n": "odd-reason", "do": "odd-reason"},
            {"n": "text-reason", "do": "text-reason"},
            {"n": "odd-delay", "do": "odd-delay"},
            {"n": "text-delay", "do": "odd-delay", "after_s": "soon"},
            {"n": "flow", "do": "odd-emit", "flow": "No Such Flow!"},
            {"n": "number", "do": "odd-emit", "flow": 7},
            {"n": "nul", "do": "odd-emit", "flow": "later", "key": "a\0b"},
            {"n": "long", "do": "odd-emit", "flow": "later", "key": "x" * 5000},
            {"n": "typed", "do": "odd-emit", "flow": "later", "key": 1.5},
        )
    )
    worker = engine.start(max_tries=2)
    assert engine.settle() == {"done": 20, "dead": 9}
    letters = engine.dead_letters()
    assert letters["odd-reason"][2] == ["42", "? is half a character"]
    assert letters["text-reason"][2] == ["just text"]
    assert letters["odd-delay"][0] == letters["text-delay"][0] == "exhausted"
    for n in ("flow", "number", "nul", "long", "typed"):
        assert letters[n][0] == "unstorable", n
    assert "which no flow can be called" in letters["flow"][2][0]
    assert worker.process.running


@pytest.mark.requirement("R8.7")
def test_a_handler_that_lets_a_cancellation_out_fails_that_record(engine: Engine) -> None:
    """An async handler whose own task was not cancelled: a failed try, no dead worker."""
    engine.enqueue(_mixed({"n": "cancelled", "do": "cancelled"}))
    worker = engine.start("ASYNC", max_tries=2)
    assert engine.settle() == {"done": 20, "dead": 1}
    assert engine.dead_letters()["cancelled"][:2] == ("exhausted", 2)
    assert worker.process.running


@pytest.mark.requirement("R8.7", "R2.5")
@pytest.mark.parametrize("flow", ["ACT", "ASYNC"])
def test_a_dependency_that_is_away_costs_no_tries(engine: Engine, flow: str) -> None:
    """TransientError concerns no record: what came before it is kept, the rest waits, all are done in the end."""
    engine.enqueue(_mixed({"n": "away", "do": "transient"}))
    worker = engine.start(flow, max_tries=2)
    worker.process.wait_for_log("gives records back", 20)
    until(lambda: worker.process.log_text().count("gives records back") >= 3, 20, "it to try again")
    assert engine.places()["done"] >= 10
    engine.back.touch()
    assert engine.settle() == {"done": 21}
    seen = engine.seen()
    assert max(seen.values()) >= 3  # more often than `max_tries` allows failures
    assert worker.process.running


@pytest.mark.requirement("R8.7")
def test_a_batch_with_a_wrong_number_of_outcomes_is_halved(engine: Engine) -> None:
    """One answer too few for a batch: the record that causes it is found, the others are done."""
    engine.enqueue(_mixed({"n": "short", "do": "short"}))
    engine.start("BATCH", max_tries=2)
    assert engine.settle() == {"done": 20, "dead": 1}
    kind, tries, reasons = engine.dead_letters()["short"]
    assert (kind, tries) == ("exhausted", 2)
    assert "the handler returned 0 outcomes for 1 records" in reasons[0]


@pytest.mark.requirement("R8.7", "R8.2")
def test_an_effect_that_the_database_refuses_concerns_its_record_alone(engine: Engine) -> None:
    """A violated constraint and a defect in the effect: two dead letters, no handler run again, effects once."""
    engine.make_effect_table()
    engine.enqueue(_mixed({"n": "large", "value": 100}, {"n": "bug", "effect": "bug"}))
    worker = engine.start("EFFECTS")
    assert engine.settle() == {"done": 20, "dead": 2}
    letters = engine.dead_letters()
    assert letters["large"][0] == letters["bug"][0] == "unstorable"
    assert "effect_value_check" in letters["large"][2][0]
    assert "KeyError: 'a defect in the effect'" in letters["bug"][2][0]
    assert set(engine.effects().values()) == {1}
    assert len(engine.effects()) == 20
    assert set(engine.seen().values()) == {1}
    assert worker.process.running


@pytest.mark.requirement("R9.4", "R8.2")
def test_what_is_emitted_is_committed_with_the_outcome(engine: Engine) -> None:
    """`emit` and `next_flow`: killed before the commit there is neither outcome nor record; after it, each once."""
    engine.enqueue({"n": number, "do": "emit"} for number in range(30))
    worker = engine.start("FORWARD", checkpoint="results-written:1:kill", lease_ttl=1)
    worker.process.wait_reached(20)
    worker.process.wait(20)
    assert engine.ask("SELECT count(*) FROM rpa.record WHERE flow <> (SELECT id FROM rpa.flow WHERE name = 'act')") == [
        (0,)
    ]
    engine.start("FORWARD", lease_ttl=1)
    assert engine.settle() == {"done": 30}
    assert engine.places("later") == {"unfinished": 60}
    keys = {row[0] for row in engine.ask("SELECT key FROM rpa.record WHERE key LIKE 'later-%%'")}
    assert keys == {f"later-{number}" for number in range(30)}


@pytest.mark.requirement("R8.7", "R6.5")
def test_retries_stay_within_their_budget(engine: Engine) -> None:
    """A flow where everything fails: beyond the budget (10 a second) records wait the longest backoff there is."""
    engine.enqueue({"n": number, "do": "retry"} for number in range(400))
    worker = engine.start(max_tries=1000, retry_base=0.05, retry_cap=300, claim_records=20)
    worker.wait_started()
    until(lambda: len(engine.seen()) == 400, 20, "the first tries", engine.describe)
    started = worker.metric("process_start_time_seconds")
    until(lambda: sum(engine.seen().values()) >= 410, 20, "some retries", engine.describe)
    ((age_s, waiting),) = engine.ask(
        "SELECT extract(epoch FROM clock_timestamp())::float8 - %s, count(*) FROM rpa.chunk"
        " WHERE state = 'w' AND not_before > clock_timestamp() + interval '100 s'",
        started,
    )
    retries = sum(engine.seen().values()) - 400
    assert retries <= 10 + 10 * age_s + 20
    assert waiting >= 1
