"""Plans and the schedules they are compiled to."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpa_testkit.scenario.library import EVERYWHERE, OF_PROCESSES, SCENARIOS, UnknownScenarioError, find
from rpa_testkit.scenario.model import POSTGRES, Scenario, Service, Topology
from rpa_testkit.scenario.plan import Fault, FlipFlop, Listed, Mix, Once, Together, candidates
from rpa_testkit.scenario.schedule import Schedule, closed_up, compile_schedule, concerns, read_schedule

_NODES = Topology(services=(Service(replicas=3),))


@pytest.mark.requirement("R3.3")
@given(seed=st.integers(0, 2**31), name=st.sampled_from(sorted(SCENARIOS)))
def test_the_same_seed_gives_the_same_bytes(seed: int, name: str) -> None:
    """The schedule is the artefact: scenario and seed decide every byte of it."""
    one, other = (compile_schedule(SCENARIOS[name], seed).to_bytes() for _ in range(2))
    assert one == other


@pytest.mark.requirement("R3.3")
def test_nothing_of_the_process_goes_into_a_schedule() -> None:
    """These bytes are those of every machine and every start of Python."""
    made = compile_schedule(SCENARIOS["long"], 7).to_bytes()
    assert hashlib.sha256(made).hexdigest()[:16] == "a5a48a2aa07f072f"


@pytest.mark.requirement("R3.3")
@given(seed=st.integers(0, 2**31))
def test_another_seed_gives_another_schedule(seed: int) -> None:
    """The seed is used."""
    long = SCENARIOS["long"]
    assert compile_schedule(long, seed).events != compile_schedule(long, seed + 1).events


@pytest.mark.requirement("R3.3")
@given(seed=st.integers(0, 2**31))
def test_faults_of_one_node_never_overlap(seed: int) -> None:
    """One is over before the next begins; PostgreSQL's overlap with nothing."""
    events = compile_schedule(SCENARIOS["long"], seed).events
    for number, event in enumerate(events):
        for later in events[number + 1 :]:
            if concerns(event) == concerns(later) or POSTGRES in (concerns(event), concerns(later)):
                assert later.at_s >= event.at_s + event.hold_s


@pytest.mark.requirement("R3.3")
@given(seed=st.integers(0, 2**31))
def test_a_mix_covers_every_kind(seed: int) -> None:
    """With as many faults as kinds, each comes once; with more, each at least once."""
    plan = Mix(faults=EVERYWHERE, count=len(EVERYWHERE))
    made = compile_schedule(Scenario(name="mixed", topology=_NODES, faults=plan), seed)
    assert {event.kind for event in made.events} == {fault.kind for fault in EVERYWHERE}
    assert len(made.events) == len(EVERYWHERE)


@pytest.mark.requirement("R3.3")
def test_adding_a_plan_leaves_the_others_draws_alone() -> None:
    """Draws are derived by name: what one plan draws does not shift what its neighbour draws."""
    mix = Mix(faults=OF_PROCESSES, count=5)
    crash = Once(fault=Fault(kind="postgres-crash", on=POSTGRES), at_s=99.0)
    alone = Scenario(name="s", topology=_NODES, faults=Together(plans=(mix,)))
    both = replace(alone, faults=Together(plans=(mix, crash)))
    assert compile_schedule(alone, 3).events == compile_schedule(both, 3).events[:5]


@pytest.mark.requirement("R3.3")
def test_flip_flop_takes_turns() -> None:
    """One, the other, one, the other."""
    one, other = Fault(kind="crash"), Fault(kind="pause")
    made = compile_schedule(Scenario(name="s", faults=FlipFlop(one=one, other=other, times=3)), 1)
    assert [event.kind for event in made.events] == ["crash", "pause"] * 3


@pytest.mark.requirement("R3.3")
def test_a_schedule_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Events triggered by records too, with their ids."""
    crash = Fault(kind="crash")
    plan = Together(plans=(Once(fault=crash, after_records=500), Mix(faults=EVERYWHERE, count=20)))
    made = compile_schedule(Scenario(name="s", topology=_NODES, faults=plan), 9)
    file = tmp_path / "schedule.jsonl"
    file.write_bytes(made.to_bytes())
    assert read_schedule(file) == made
    fewer = made.with_events(made.events[3:5])
    again = compile_schedule(Scenario(name="s", topology=_NODES, faults=Listed(listed=fewer.events)), 9)
    assert [event.id for event in again.events] == [event.id for event in fewer.events]


@pytest.mark.requirement("R3.3")
@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": 2}', '{"format": 1, "scenario": "s", "seed": 1}\n{"x": 1}', "no"]
)
def test_a_file_that_is_no_schedule_is_named(tmp_path: Path, text: str) -> None:
    """The message names the file."""
    file = tmp_path / "odd.jsonl"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"odd\.jsonl is no schedule"):
        read_schedule(file)


@pytest.mark.requirement("R3.3")
def test_where_a_fault_may_strike() -> None:
    """A service means any of its nodes, an edge that edge of any of them, a name itself; nothing else."""
    names = ["worker-1", "worker-2", "worker-extra", POSTGRES, "worker-1->postgres", "worker-2->postgres"]
    assert candidates("worker", names) == ["worker-1", "worker-2"]
    assert candidates("worker-2", names) == ["worker-2"]
    assert candidates("worker->postgres", names) == ["worker-1->postgres", "worker-2->postgres"]
    assert candidates("worker-1->postgres", names) == ["worker-1->postgres"]
    with pytest.raises(ValueError, match="nothing in this topology is called 'nobody'"):
        compile_schedule(Scenario(name="s", faults=Once(fault=Fault(kind="crash", on="nobody"))), 1)


@pytest.mark.requirement("R3.3")
def test_scenarios_are_found_by_name_and_by_place(tmp_path: Path) -> None:
    """The library's, one in a file, and a message that helps."""
    assert find("zombies").name == "zombies"
    file = tmp_path / "mine.py"
    file.write_text("from rpa_testkit.scenario.model import Scenario\nMINE = Scenario(name='mine')\nODD = 1\n")
    assert find(f"{file}:MINE").name == "mine"
    for name, says in (
        ("zombie", "did you mean zombies"),
        (f"{file}:ODD", "is a int"),
        (f"{file}:NO", "cannot be loaded"),
    ):
        with pytest.raises(UnknownScenarioError, match=says):
            find(name)


@pytest.mark.requirement("R3.3")
def test_a_schedule_holds_what_it_was_made_from() -> None:
    """Scenario and seed stand in the first line."""
    first = Schedule(scenario="s", seed=5, events=()).to_bytes()
    assert first == b'{"format":1,"scenario":"s","seed":5}\n'


@pytest.mark.requirement("R3.3")
@given(seed=st.integers(0, 2**31), keep=st.sets(st.integers(1, 100), min_size=1, max_size=8))
def test_what_is_left_of_a_schedule_is_closed_up(seed: int, keep: set[int]) -> None:
    """Same events in the same order, no long waits, and none of a node before its last is over."""
    whole = compile_schedule(SCENARIOS["long"], seed)
    fewer = whole.with_events(event for event in whole.events if event.id in keep)
    closed = closed_up(fewer).events
    assert [event.id for event in closed] == [event.id for event in fewer.events]
    over_s = 0.0
    for number, event in enumerate(closed):
        assert event.at_s <= over_s + 0.501
        over_s = max(over_s, event.at_s + event.hold_s)
        for later in closed[number + 1 :]:
            if concerns(event) == concerns(later) or POSTGRES in (concerns(event), concerns(later)):
                assert later.at_s >= event.at_s + event.hold_s - 0.001
