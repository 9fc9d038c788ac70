"""The alerts that the runtime raises: what each says, and what to do about it.

`reason` tells two of the same name apart; the same trouble has the same reason each time, so times and counts that
change stand in the summary alone.
"""

from __future__ import annotations

from pathlib import Path

from rpa_core.errors import RpaError
from rpa_core.resilience.alerts.model import Alert

_HINTS = {
    64: "correct the command that starts the container",
    65: "correct the input that is named in the log",
    69: "see whether the service that is named answers, and that the network is attached",
    70: "read the last lines of the log; the stack of every thread is there where the main loop hung",
    75: "the platform starts it again; where that repeats, see what the worker waits for",
    77: "correct user, password or rights; the worker does not come back by itself",
    78: "run `rpa config check` with the container's variables, and correct what it names",
}


def worker_ending(flow: str, error: BaseException) -> Alert:
    """The process ends because of an error; `reason` is its code."""
    code = getattr(error, "code", "") if isinstance(error, RpaError) else type(error).__name__
    exit_code = error.exit_code if isinstance(error, RpaError) else 70
    return Alert(
        name="WorkerEnding",
        severity="critical",
        reason=code,
        summary=f"{flow} ends with exit code {exit_code}: {error}",
        description=_HINTS.get(exit_code, "read the last lines of the log"),
    )


def worker_hung(flow: str, age_s: float) -> Alert:
    """The main loop does not move; the process ends with 70."""
    return Alert(
        name="WorkerEnding",
        severity="critical",
        reason="hung",
        summary=f"{flow} ends with exit code 70: its main loop has not moved for {age_s:.0f} s",
        description="where every thread stands is in the log. If handlers may take that long, raise "
        "CONTAINER_HEALTH_HEARTBEAT_MAX_AGE",
    )


def drain_timeout(flow: str, timeout_s: float) -> Alert:
    """A handler did not come back when it was asked to stop; the process ends with 75."""
    return Alert(
        name="WorkerEnding",
        severity="critical",
        reason="drain-timeout",
        summary=f"{flow} ends with exit code 75: its drain took longer than {timeout_s:g} s",
        description="its records were given back. If records may take that long, raise CONTAINER_SHUTDOWN_TIMEOUT "
        "and the platform's grace",
    )


def database_refuses(flow: str, database: str, words: str) -> Alert:
    """A database answers, and refuses this worker while it runs."""
    return Alert(
        name="DatabaseRefuses",
        severity="critical",
        reason=database,
        summary=f"{flow}: database {database} refuses it: {words}",
        description="if its password was rotated, give the worker the new one (a changed file is read without a "
        "restart); else give the user back what was taken. The worker waits CONTAINER_RECOVERY_REFUSED_AFTER",
    )


def database_away(flow: str, database: str, words: str) -> Alert:
    """A database cannot be reached for longer than a restart takes."""
    return Alert(
        name="DatabaseAway",
        severity="warning",
        reason=database,
        summary=f"{flow}: database {database} cannot be reached: {words}",
        description="the worker waits and goes on by itself, finished records are kept; see whether the server runs "
        "and answers from the worker's network",
    )


def disk_low(flow: str, path: Path, free_bytes: int, needed_bytes: int) -> Alert:
    """A file system that is written to is nearly full, or cannot be written any more."""
    return Alert(
        name="DiskLow",
        severity="critical",
        reason=str(path),
        summary=f"{flow}: {free_bytes / 2**20:.0f} MiB are free at {path}, {needed_bytes / 2**20:.0f} MiB are needed",
        description="what the worker may delete it has deleted. Intake and claims pause until space is free again, "
        "and then go on by themselves",
    )


def configuration_refused(flow: str, problems: tuple[str, ...]) -> Alert:
    """Changed settings are invalid; the worker goes on with the ones before."""
    shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
    return Alert(
        name="ConfigurationRefused",
        severity="warning",
        reason="invalid",
        summary=f"{flow}: changed settings are refused, the ones before stay: {shown}",
        description="correct the file or secret that changed; it is read again by itself",
    )


def spool_dead(flow: str, kind: str, words: str) -> Alert:
    """An entry of the spool can never be delivered; it is kept until a person decides."""
    return Alert(
        name="SpoolDead",
        severity="warning",
        reason=kind,
        summary=f"{flow}: an entry of kind {kind} was set aside: {words}",
        description="`rpa spool failed` shows it, `rpa spool retry` sends it again, `rpa spool discard` drops it",
    )


def prefect_refuses(flow: str, words: str) -> Alert:
    """Prefect answers, and takes no reports from this worker."""
    return Alert(
        name="PrefectRefuses",
        severity="warning",
        reason="refused",
        summary=f"{flow}: Prefect takes no reports: {words}",
        description="correct CONTAINER_PREFECT_API_URL, the key or the server; reports wait in the spool, and "
        "processing goes on",
    )


def crash_loop(flow: str, crashes: int, window_s: float, wait_s: float) -> Alert:
    """Lives end without a word, one after the other. It ends by itself when none does so for the window's time."""
    return Alert(
        name="CrashLoop",
        severity="critical",
        reason="crashes",
        summary=f"{flow} went down {crashes} times in {window_s:.0f} s; it waits {wait_s:.0f} s before it starts",
        description="read the last lines of the log before each start, and whether the platform killed it (memory)",
        lasts_s=window_s,
    )
