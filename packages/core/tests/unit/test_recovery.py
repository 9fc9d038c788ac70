"""The ladder: which remedy for which trouble, when, how often, and when it is enough."""

from __future__ import annotations

import random
import threading
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpa_core.errors import (
    ConfigError,
    LeaseLost,
    RpaError,
    SchemaError,
    StoreDenied,
    StoreRefused,
    StoreUnavailable,
    TransientError,
)
from rpa_core.resilience.recovery import ErrorRecoveryManager, RecoveryAction, RecoveryPolicy, Remedy, Rung
from rpa_core.resilience.retry import RetryPolicy

AWAY = StoreUnavailable("connection refused")
DENIED = StoreDenied("password authentication failed")
LADDER = RecoveryPolicy.of(exit_after_s=3600, refused_after_s=300)
HEIGHT = {remedy: height for height, remedy in enumerate(Remedy)}


class Clock:
    def __init__(self) -> None:
        self.now = 7.0

    def monotonic(self) -> float:
        return self.now

    def utcnow(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)


class Managed:
    """A manager on a clock of its own, and what it decided."""

    def __init__(self, policy: RecoveryPolicy = LADDER) -> None:
        self.clock = Clock()
        self.actions: list[tuple[str, RecoveryAction]] = []
        self.manager = ErrorRecoveryManager(
            policy,
            clock=self.clock,
            on_action=lambda service, action: self.actions.append((service, action)),
            rand=random.Random(3),
        )

    def through(self, error: Exception, seconds: float, step_s: float = 1.0) -> dict[Remedy, list[float]]:
        """Fail once every `step_s` for so long; when each remedy came, counted from the first failure."""
        began, found = self.clock.now, dict[Remedy, list[float]]()
        while self.clock.now - began <= seconds:
            action = self.manager.handle_service_error("rpa_db", error)
            found.setdefault(action.remedy, []).append(self.clock.now - began)
            if action.remedy is Remedy.EXIT:
                break
            self.clock.now += step_s
        return found


@pytest.mark.requirement("R8.1", "R8.3")
def test_an_outage_climbs_the_ladder_to_its_end() -> None:
    """Reconnect at once, new pools from 10 s, secrets from 15 s, a pause, an alert at 30 s, the end after an hour."""
    managed = Managed()
    found = managed.through(AWAY, 4000)
    assert found[Remedy.RECONNECT][0] == 0
    assert found[Remedy.NEW_POOL][0] == 10
    assert len(found[Remedy.NEW_POOL]) <= 3
    assert found[Remedy.RELOAD_SECRETS][0] == 15
    assert found[Remedy.PAUSE] == [20]
    assert found[Remedy.ALERT][:2] == [30, 630]
    assert found[Remedy.EXIT] == [3600]
    service, last = managed.actions[-1]
    assert (service, last.remedy, last.exit_code, last.reason) == ("rpa_db", Remedy.EXIT, 75, "connection refused")


@pytest.mark.requirement("R1.5", "R8.1")
def test_a_refusal_while_running_reloads_secrets_first_and_is_borne_for_a_time() -> None:
    """Each time, but not more than once a second; somebody is told after 30 s; 77 after `refused_after_s`."""
    managed = Managed()
    managed.manager.recovered("rpa_db")
    found = managed.through(DENIED, 400, step_s=0.25)
    secrets = found[Remedy.RELOAD_SECRETS]
    assert secrets[0] == 0
    assert all(later - earlier >= 1 for earlier, later in pairwise(secrets))
    assert len(secrets) > 250
    assert found[Remedy.PAUSE] == [5]
    assert found[Remedy.ALERT] == [30]
    assert found[Remedy.EXIT] == [300]
    assert managed.actions[-1][1].exit_code == 77


@pytest.mark.requirement("R1.3", "R8.1")
@pytest.mark.parametrize("error", [StoreRefused("wrong password"), SchemaError("table missing")])
def test_at_the_start_a_refusal_is_final(error: RpaError) -> None:
    """Before the first success there is nothing to wait for; the exit code is the error's."""
    action = Managed().manager.handle_service_error("rpa_db", error)
    assert (action.remedy, action.exit_code) == (Remedy.EXIT, error.exit_code)


@pytest.mark.requirement("R1.5", "R8.1")
def test_a_refusal_of_a_statement_is_borne_once_the_service_has_worked() -> None:
    """A right that is taken away for a moment, by a restore for example, ends nobody."""
    managed = Managed()
    managed.manager.recovered("rpa_db")
    assert managed.manager.handle_service_error("rpa_db", StoreRefused("permission denied")).exit_code == 0
    assert (
        ErrorRecoveryManager(proven=managed.manager.proven())
        .handle_service_error("rpa_db", StoreRefused("permission denied"))
        .remedy
        is Remedy.RELOAD_SECRETS
    )


@pytest.mark.requirement("R8.1")
def test_a_success_takes_everything_back() -> None:
    """The next trouble begins at the foot of the ladder, with the first pause."""
    managed = Managed()
    managed.through(AWAY, 100)
    assert managed.manager.trouble_s("rpa_db") == 101
    assert managed.manager.recovered("rpa_db") == 101
    assert managed.manager.recovered("rpa_db") is None
    assert managed.manager.trouble_s("rpa_db") == 0
    action = managed.manager.handle_service_error("rpa_db", AWAY)
    assert action.remedy is Remedy.RECONNECT
    assert action.delay_s <= LADDER.pauses.base_s


@pytest.mark.requirement("R8.1")
def test_services_have_their_troubles_apart() -> None:
    """One that has been away for long says nothing about another."""
    managed = Managed()
    managed.through(AWAY, 100)
    assert managed.manager.handle_service_error("survey_hub", AWAY).remedy is Remedy.RECONNECT


@pytest.mark.requirement("R1.3", "R1.5")
def test_a_wrong_configuration_ends_a_start_and_does_not_end_a_run() -> None:
    """78 before work has begun; afterwards the old one stays and somebody is told."""
    managed = Managed()
    error = ConfigError(("CONTAINER_X is missing",))
    assert managed.manager.handle_configuration_error(error).exit_code == 78
    assert managed.manager.handle_configuration_error(ValueError("odd")).exit_code == 78
    managed.manager.started()
    action = managed.manager.handle_configuration_error(error)
    assert (action.remedy, action.exit_code) == (Remedy.ALERT, 0)
    assert "CONTAINER_X is missing" in action.reason


@pytest.mark.requirement("R8.1")
@pytest.mark.parametrize(
    ("error", "remedy", "code"),
    [
        (TransientError("busy"), Remedy.RETRY, 0),
        (StoreUnavailable("away"), Remedy.RETRY, 0),
        (LeaseLost("gone"), Remedy.EXIT, 70),
        (SchemaError("old"), Remedy.EXIT, 78),
        (KeyError("x"), Remedy.EXIT, 70),
    ],
)
def test_errors_of_the_work_itself(error: Exception, remedy: Remedy, code: int) -> None:
    """What passes is tried again, what was meant ends with its code, what nobody meant is a defect."""
    action = Managed().manager.handle_runtime_error(error)
    assert (action.remedy, action.exit_code) == (remedy, code)


@pytest.mark.requirement("R8.1")
def test_an_error_of_the_machine_is_an_outage() -> None:
    """OSError: out of descriptors, no route; it is borne, and its end is 75."""
    managed = Managed()
    assert managed.manager.handle_service_error("prefect", OSError("no route")).remedy is Remedy.RECONNECT
    managed.clock.now += 3600
    assert managed.manager.handle_service_error("prefect", OSError("no route")).exit_code == 75


@pytest.mark.requirement("R8.1")
def test_a_service_has_one_breaker() -> None:
    """Whoever asks for it, from whatever thread."""
    manager = Managed().manager
    made = list[object]()
    threads = [threading.Thread(target=lambda: made.append(manager.implement_circuit_breaker("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(map(id, made))) == 1
    assert manager.implement_circuit_breaker("b") is not made[0]


RUNGS = st.builds(
    Rung,
    remedy=st.sampled_from(list(Remedy)[1:]),
    after_s=st.integers(0, 40).map(float),
    every_s=st.integers(0, 20).map(float),
    limit=st.integers(0, 4),
)
LADDERS = st.lists(RUNGS, max_size=6, unique_by=lambda rung: rung.remedy).map(
    lambda rungs: tuple(sorted(rungs, key=lambda rung: HEIGHT[rung.remedy]))
)


@pytest.mark.requirement("R8.1")
@given(ladder=LADDERS, gaps=st.lists(st.integers(0, 15), min_size=1, max_size=60))
def test_every_ladder_keeps_its_limits(ladder: tuple[Rung, ...], gaps: list[int]) -> None:
    """Never before its time, too soon again or too often; and never less than what may be done."""
    managed = Managed(RecoveryPolicy(away=ladder))
    began = managed.clock.now
    uses, last = Counter[Remedy](), dict[Remedy, float]()

    def may(rung: Rung, now: float) -> bool:
        rested = rung.remedy not in last or now - last[rung.remedy] >= rung.every_s
        return now - began >= rung.after_s and rested and (not rung.limit or uses[rung.remedy] < rung.limit)

    for gap in gaps:
        now = managed.clock.now
        allowed = [rung.remedy for rung in ladder if may(rung, now)]
        remedy = managed.manager.handle_service_error("rpa_db", AWAY).remedy
        assert remedy is (allowed[-1] if allowed else Remedy.RETRY)
        uses[remedy] += 1
        last[remedy] = now
        managed.clock.now += gap


@pytest.mark.requirement("R8.1")
@given(failures=st.integers(1, 200), seed=st.integers(0, 5))
def test_pauses_grow_to_their_cap_and_are_never_nothing(failures: int, seed: int) -> None:
    """Within the upper half of a bound that doubles; a worker neither spins nor sleeps."""
    policy = RecoveryPolicy(pauses=RetryPolicy(max_attempts=0, base_s=0.2, cap_s=2.0))
    manager = ErrorRecoveryManager(policy, clock=Clock(), rand=random.Random(seed))
    for number in range(1, failures + 1):
        delay_s = manager.handle_service_error("rpa_db", AWAY).delay_s
        assert policy.pauses.bound_s(number) / 2 <= delay_s <= policy.pauses.bound_s(number)


@pytest.mark.requirement("R8.1")
def test_a_rung_that_cannot_be_is_refused() -> None:
    """Where it is made."""
    with pytest.raises(ValueError, match="a rung needs"):
        Rung(remedy=Remedy.PAUSE, every_s=-1)
