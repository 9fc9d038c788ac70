"""Judging a history: what is legal, what is unknown, and how a judgement is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rpa_testkit.checkers.checker import End, Wants
from rpa_testkit.checkers.duplicates import NoDuplicates
from rpa_testkit.checkers.judge import CHECKERS, judge, judge_entries
from rpa_testkit.checkers.stored import from_json, to_json
from rpa_testkit.checkers.verdict import Judgement, Status, Verdict
from rpa_testkit.history.entries import Entry, Header, Outcome
from rpa_testkit.history.reader import HISTORY, History

from .support.histories import World, clean, store
from .support.planting import before_outcomes, change, give_fault, insert, mark_at, results

SEED = 11
_DONE = Outcome(1, 1, 0, 0, "worker-1", "worker-1:0123456789ab", 1.0, 2.0)


def _verdict(world: World, checker: str) -> Verdict:
    (verdict,) = judge_entries(world.header, world.entries, (checker,)).verdicts
    return verdict


def _answered(*kinds: str, there: Outcome | None) -> World:
    world = clean(SEED)
    at = before_outcomes(world)
    insert(world, at, *[("producer-1", kind, "enqueue", 5_000, 1) for kind in kinds])
    if there is not None:
        insert(world, mark_at(world, "ended"), ("runner", "outcome", "record", 5_000, there))
    world.renumber()
    return world


@pytest.mark.requirement("R3.1")
@pytest.mark.parametrize(
    ("kinds", "there", "lost", "phantom"),
    [
        (("invoke", "info"), _DONE, Status.PASS, Status.PASS),
        (("invoke", "info"), None, Status.PASS, Status.PASS),
        (("invoke",), _DONE, Status.PASS, Status.PASS),
        (("invoke",), None, Status.PASS, Status.PASS),
        (("invoke", "ok"), _DONE, Status.PASS, Status.PASS),
        (("invoke", "ok"), None, Status.FAIL, Status.PASS),
        (("invoke", "fail"), None, Status.PASS, Status.PASS),
        (("invoke", "fail"), _DONE, Status.PASS, Status.FAIL),
        (("invoke", "fail", "invoke", "ok"), _DONE, Status.PASS, Status.PASS),
        (("invoke", "fail", "invoke", "ok"), None, Status.FAIL, Status.PASS),
        (("invoke", "fail", "invoke", "info"), _DONE, Status.PASS, Status.PASS),
        (("invoke", "info", "invoke", "fail"), _DONE, Status.PASS, Status.PASS),
        (("invoke", "fail", "invoke"), _DONE, Status.PASS, Status.PASS),
    ],
)
def test_what_each_answer_allows(kinds: tuple[str, ...], there: Outcome | None, lost: Status, phantom: Status) -> None:
    """Ok must be there, fail must not, and what nobody knows may be either."""
    world = _answered(*kinds, there=there)
    assert _verdict(world, "no-lost").status is lost
    assert _verdict(world, "no-phantoms").status is phantom
    assert _verdict(world, "legal-states").status is Status.PASS


@pytest.mark.requirement("R3.1")
@pytest.mark.parametrize(("mark", "status"), [("drained", "fail"), ("not-drained", "pass"), (None, "unknown")])
def test_unfinished_records_are_lost_only_after_a_drain(mark: str | None, status: str) -> None:
    """A run that gave up waiting still has work to do; whether one gave up must be known."""
    world = clean(SEED)
    change(world, results(world)[3], results=0, effects=0, chunks=1, done=None)
    at = mark_at(world, "drained")
    world.entries[at : at + 1] = [world.entries[at]._replace(op=mark)] if mark else []
    verdict = _verdict(world, "no-lost")
    assert verdict.status == status
    assert verdict.figures["pending"] == 1


@pytest.mark.requirement("R3.1")
def test_a_lost_record_is_shown_with_its_acknowledgement() -> None:
    """The time and the line of the `ok`; beside it how many are unknown, and how many of those are there."""
    world = _answered("invoke", "info", there=_DONE)
    before = _verdict(world, "no-lost").figures
    insert(world, before_outcomes(world), *[("p", kind, "enqueue", 6_000, 3) for kind in ("invoke", "info")])
    insert(world, before_outcomes(world), *[("p", kind, "enqueue", 7_000, 9) for kind in ("invoke", "ok")])
    world.renumber()
    verdict = _verdict(world, "no-lost")
    (ok,) = [entry for entry in world.entries if (entry.kind, entry.key) == ("ok", 7_000)]
    assert verdict.found == 9
    assert [(one.t, one.seq) for one in verdict.evidence] == [(ok.t, (ok.seq,))] * 5
    assert verdict.says == "record 7000 was acknowledged and is in no place; and 8 more"
    assert verdict.figures["unknown"] == before["unknown"] + 3
    assert verdict.figures["unknown_found"] == before["unknown_found"] > 0


@pytest.mark.requirement("R3.1")
def test_a_strange_record_is_no_duplicate() -> None:
    """It is from nowhere, which is another thing."""
    world = clean(SEED)
    insert(world, mark_at(world, "ended"), ("runner", "outcome", "record", "run-4711:12", _DONE))
    world.renumber()
    assert _verdict(world, "no-duplicates").status is Status.PASS
    assert _verdict(world, "no-phantoms").found == 1


@pytest.mark.requirement("R3.1", "R9.1")
@pytest.mark.parametrize("checker", CHECKERS)
def test_an_empty_history_proves_nothing(checker: str) -> None:
    """Unknown to every checker."""
    world = World(header=clean(SEED).header, entries=[])
    assert _verdict(world, checker).status is Status.UNKNOWN


@pytest.mark.requirement("R3.1", "R9.1")
@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_off_history_is_unknown(checker: str, share: float) -> None:
    """Even to a checker that has found something by then, which it says."""
    world = clean(SEED)
    world.entries = world.entries[: int(share * len(world.entries))]
    verdict = _verdict(world, checker)
    assert verdict.status is Status.UNKNOWN
    assert "cut off after line" in verdict.says


@pytest.mark.requirement("R3.1")
def test_a_line_that_cannot_be_read_makes_all_unknown(tmp_path: Path) -> None:
    """Such as the last one of a tester that was killed."""
    world = clean(SEED)
    path = tmp_path / HISTORY
    store(path, world.header, world.entries)
    whole = judge(History.open(tmp_path))
    assert whole.passed
    assert whole == judge_entries(world.header, world.entries)
    path.write_bytes(path.read_bytes()[:-9])
    broken = judge(History.open(tmp_path))
    assert {verdict.status for verdict in broken.verdicts} == {Status.UNKNOWN}
    assert "cannot be read" in broken.verdicts[0].says


class _Crashing(NoDuplicates):
    def wants(self) -> Wants:
        return {("outcome", "record"): self._crash}

    def _crash(self, entry: Entry) -> None:
        raise KeyError("what it counted on")


class _CrashingAtTheEnd(NoDuplicates):
    def verdict(self, end: End) -> Verdict:
        raise ZeroDivisionError


@pytest.mark.requirement("R3.1")
@pytest.mark.parametrize("crashing", [_Crashing, _CrashingAtTheEnd])
def test_a_checker_that_crashes_is_unknown_and_leaves_the_others_alone(
    crashing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checker's own fault is no verdict on the run."""
    monkeypatch.setitem(CHECKERS, "no-duplicates", crashing)
    world = clean(SEED)
    judgement = judge_entries(world.header, world.entries)
    said = {verdict.checker: verdict for verdict in judgement.verdicts}
    assert said.pop("no-duplicates").says.startswith("the checker failed")
    assert judgement.status is Status.UNKNOWN
    assert {verdict.status for verdict in said.values()} == {Status.PASS}


@pytest.mark.requirement("R3.1")
def test_names_choose_checkers() -> None:
    """The caller's, else the header's, else all; a name that does not exist says which do."""
    world = clean(SEED)

    def judged(names: tuple[str, ...] = (), header: Header = world.header) -> Iterator[tuple[str, str]]:
        return ((v.checker, v.status) for v in judge_entries(header, world.entries, names).verdicts)

    assert [name for name, _ in judged()] == list(CHECKERS)
    own = replace(world.header, checkers=("rate", "gone-since"))
    assert list(judged(header=own)) == [("rate", "pass"), ("gone-since", "unknown")]
    assert list(judged(("no-lost",), own)) == [("no-lost", "pass")]
    with pytest.raises(ValueError, match="no checker is called no-such; there are no-lost, "):
        judged(("no-such",))


@pytest.mark.requirement("R3.3")
def test_faults_that_were_not_run_are_named_and_not_counted() -> None:
    """They make no run unknown, since a driver says what it can do."""
    world = clean(SEED)
    give_fault(world, 1.0, ("inject", "injected", "verified", "heal", "healed"), 900)
    give_fault(world, 1.0, ("not-run",), 901, "clock")
    world.renumber()
    verdict = _verdict(world, "faults-verified")
    assert verdict.status is Status.PASS
    assert "clock (planted)" in verdict.says
    assert "clock" in verdict.figures["not_run"]
    assert "clock" not in verdict.figures["by_kind"]


@pytest.mark.requirement("R3.5")
def test_a_judgement_survives_json() -> None:
    """With evidence and figures; what is no judgement says so."""
    world = clean(SEED)
    change(world, results(world)[0], results=2)
    judgement = judge_entries(world.header, world.entries)
    assert judgement.status is Status.FAIL
    again = from_json(to_json(judgement))
    assert again == judgement
    assert isinstance(again, Judgement)
    with pytest.raises(ValueError, match="this is no judgement: format None"):
        from_json(b"{}")
    with pytest.raises(ValueError, match="this is no judgement"):
        from_json(b"[]")


@pytest.mark.requirement("R3.5")
def test_every_checker_says_what_it_is_about() -> None:
    """In one line, for the list of checkers."""
    assert all(checker.about and "\n" not in checker.about for checker in CHECKERS.values())
    assert [checker.name for checker in CHECKERS.values()] == list(CHECKERS)
