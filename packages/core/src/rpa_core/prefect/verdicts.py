"""What an answer of Prefect means for the entry that was told."""

from __future__ import annotations

from typing import Any

from rpa_core.prefect.client import Reply, Unanswered
from rpa_core.resilience.spool.model import Delivered, Later, Refused, Verdict

ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
REFUSED_PAUSE_S = 30.0  # nothing but a new key or a changed server helps: no need to ask often


def of_answer(answer: Reply | Unanswered, *, pause_s: float = REFUSED_PAUSE_S) -> Later | Refused | None:
    """None for success. 404 and 409 are left to the caller that knows better; here they are refusals.

    Away for now (no answer, 408, 425, 429, 5xx): later. Not let in (401, 403), or something else than Prefect
    answers (3xx): later too, after `pause_s`, because nothing is wrong with the entry. Anything else: refused.
    """
    if isinstance(answer, Unanswered):
        return Later(answer.why)
    if answer.ok:
        return None
    why = f"HTTP {answer.status}{': ' if answer.words else ''}{answer.words}"
    if answer.status in (408, 425, 429) or answer.status >= 500:
        return Later(why, answer.retry_after_s)
    if not_let_in(answer) or answer.status < 400:
        return Later(why, answer.retry_after_s or pause_s)
    return Refused(why)


def not_let_in(answer: Reply | Unanswered) -> bool:
    """Whether key or password are refused."""
    return isinstance(answer, Reply) and answer.status in (401, 403)


def result_of(answer: Reply | Unanswered) -> str:
    """For the metric: ok, unreachable, unauthorized, later or refused."""
    if isinstance(answer, Unanswered):
        return "unreachable"
    if not_let_in(answer):
        return "unauthorized"
    match of_answer(answer):
        case None:
            return "ok"
        case Later():
            return "later"
        case Refused():
            return "refused"


def of_set_state(body: Any) -> Verdict:
    """The verdict stands in the body's `status`, not in the HTTP status."""
    status = body.get("status") if isinstance(body, dict) else None
    details = body.get("details") if isinstance(body, dict) else None
    details = details if isinstance(details, dict) else {}
    now = body.get("state") if isinstance(body, dict) else None
    reason = str(details.get("reason") or "no reason given")
    match status:
        case "ACCEPT":
            return Delivered()
        case "WAIT":
            delay_s = details.get("delay_seconds")
            return Later(
                f"Prefect asks to wait: {reason}", float(delay_s) if isinstance(delay_s, int | float) else None
            )
        case "REJECT" | "ABORT":
            if isinstance(now, dict) and now.get("type") in ENDED:
                return Delivered()  # it has ended by now
            return Refused(f"Prefect says {status}: {reason}")
        case _:
            return Later("what answers is not Prefect's API")


def next_state(current: str, wanted: str, *, by_another: bool) -> tuple[str, bool] | None:
    """Which state to set, and whether by force, on a run that is in `current`; None: it stays as it is.

    An ended run stays ended. The one exception is a run that others believed dead (CRASHED by an automation, because
    its heartbeats did not come through) and that ends by its own word. A run that was asked to end and ended well is
    CANCELLED: Prefect takes nothing else from CANCELLING, except by force, which a failure is worth.
    """
    if current in ENDED:
        survived = current == "CRASHED" and wanted != "CRASHED" and not by_another
        return (wanted, False) if survived else None
    if current == "CANCELLING":
        return ("CANCELLED", False) if wanted in ("COMPLETED", "CANCELLED") else (wanted, True)
    return wanted, False
