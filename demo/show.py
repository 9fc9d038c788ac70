"""What the demo shows: progress while it runs, and the table at its end."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo.verify import Verification

_SHOWN_REASONS = 8


def progress(console: Console) -> Progress:
    """A bar for each flow."""
    return Progress(
        TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def table(found: Verification, kills: Iterable[str]) -> Table:
    """The verification, with how each number was come by."""
    killed = list(kills)
    result = Table(title="What the databases say", title_justify="left", header_style="bold", pad_edge=False)
    result.add_column("what")
    result.add_column("count", justify="right")
    result.add_column("how it is known", style="dim")
    rows: list[tuple[str, int | str, str]] = [
        ("records in", found.records, "rpa.record of rpa1"),
        ("processed once", found.processed_once, "exactly one outcome, followed by key"),
        ("duplicated", found.duplicated, "a second outcome or copy in any flow"),
        ("lost", found.lost, "no outcome at the end"),
        ("set aside", found.set_aside, "rpa.dead_letter, with reasons"),
        ("delivered", found.delivered, "results of rpa3"),
        ("responses in survey_hub", found.responses, "the other database"),
        ("repeated deliveries", found.receiver_repeated, "same idempotency key seen again"),
        ("kills survived", len(killed), ", ".join(killed) or "none asked for"),
        ("records/s", f"{found.throughput_rps:,.0f}", "three flows, kills included"),
        ("latency p50", f"{found.latency_p50_ms / 1000:,.2f} s", "from load to delivery, queueing too"),
        ("latency p99", f"{found.latency_p99_ms / 1000:,.2f} s", "the same"),
    ]
    for what, count, how in rows:
        shown = f"{count:,}" if isinstance(count, int) else count
        style = "bold red" if what in ("lost", "duplicated") and count else None
        result.add_row(what, shown, how, style=style)
    return result


def reasons(found: Verification) -> Table:
    """Why records were set aside."""
    result = Table(title="Set aside, by reason", title_justify="left", header_style="bold", pad_edge=False)
    result.add_column("reason")
    result.add_column("records", justify="right")
    for reason, count in list(found.reasons.items())[:_SHOWN_REASONS]:
        result.add_row(reason, f"{count:,}")
    rest = list(found.reasons.values())[_SHOWN_REASONS:]
    if rest:
        result.add_row(f"... {len(rest)} further reasons", f"{sum(rest):,}", style="dim")
    return result
