"""Each fault did what it is said to have done."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rpa_testkit.checkers.checker import ANY, End, Findings, Wants
from rpa_testkit.checkers.verdict import Verdict
from rpa_testkit.checkers.windows import FaultLife, FaultLog
from rpa_testkit.history.entries import Entry, Header, Kind, Phase


class FaultsVerified:
    """A fault whose effect was not seen proves nothing; one that was not healed spoils what comes after it."""

    name = "faults-verified"
    about = "every fault was seen to take effect and seen to be healed; those not run are named"

    def __init__(self, header: Header) -> None:
        self._demanded = {str(kind) for kind in header.topology.get("demanded_faults", ())}
        self._log = FaultLog()
        self._scheduled: list[tuple[Any, str]] = []

    def wants(self) -> Wants:
        """Faults, and the schedule where it was noted."""
        return {(Kind.FAULT, ANY): self._log.note, (Kind.OBSERVE, "schedule"): self._schedule}

    def _schedule(self, entry: Entry) -> None:
        self._scheduled += [(number, kind) for number, kind in entry.value]

    def verdict(self, end: End) -> Verdict:
        """Each fault by its phases."""
        found, lives = Findings(), self._log.lives
        not_run = {life.kind: life.why for life in lives.values() if not life.ran and Phase.NOT_RUN in life.at}
        for number, kind in self._scheduled:
            if number not in lives:
                found.doubt(f"fault {number} ({kind}) was scheduled and never came")
        for life in lives.values():
            _judge(life, found)
        verified = Counter(life.kind for life in lives.values() if life.ran and Phase.VERIFIED in life.at)
        for kind in sorted(self._demanded - verified.keys()):
            found.doubt(f"{kind} is demanded and was not run{_because(not_run.get(kind))}")
        if not_run and not any(life.ran for life in lives.values()):
            found.doubt(f"no fault was run: {_listed(not_run)}")
        total = sum(verified.values())
        says = f"{total} faults of {len(verified)} kinds, each seen to take effect and to be healed"
        if not_run:
            says += f"; {len(not_run)} kinds not run: {_listed(not_run)}"
        figures = {
            "verified": total,
            "not_run_faults": sum(Phase.NOT_RUN in life.at for life in lives.values()),
            "by_kind": dict(sorted(verified.items())),
            "not_run": dict(sorted(not_run.items())),
        }
        return found.verdict(self.name, says, figures)


def _judge(life: FaultLife, found: Findings) -> None:
    lines = tuple(life.seq.values())
    if not life.ran:
        if Phase.NOT_RUN not in life.at:
            found.doubt(f"{life}: its injection was not noted", None, *lines)
        return
    if Phase.HEALED not in life.at and Phase.UNHEALED in life.at:
        found.violation(f"{life} was not healed{_because(life.why)}", life.at[Phase.UNHEALED], *lines)
        return
    if Phase.UNVERIFIED in life.at:
        found.doubt(f"{life}: no effect was seen{_because(life.why)}", life.at[Phase.UNVERIFIED], *lines)
    elif Phase.VERIFIED not in life.at:
        found.doubt(f"{life}: whether it took effect was not noted", life.at[Phase.INJECT], *lines)
    elif Phase.HEALED not in life.at:
        found.doubt(f"{life}: whether it was healed was not noted", life.at[Phase.INJECT], *lines)


def _because(why: str | None) -> str:
    return f" ({why})" if why else ""


def _listed(not_run: dict[str, str]) -> str:
    return ", ".join(f"{kind}{_because(why)}" for kind, why in sorted(not_run.items()))
