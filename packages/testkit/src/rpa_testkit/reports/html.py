"""The report as one HTML page: nothing is fetched, and a text that got through as markup could not fetch either."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rpa_testkit.reports import words
from rpa_testkit.reports.charts import plots, recovery_rows, small_plots
from rpa_testkit.reports.drawing import lanes, time_ticks
from rpa_testkit.reports.families import FAMILIES, family
from rpa_testkit.reports.model import Report

_PACKAGE = "rpa_testkit.reports"
_UNIT = re.compile(r"(\d) (ms|s|min)\b")
_OPEN_ROWS = 12  # longer tables are folded


def html(report: Report) -> str:
    """The page."""
    ran = report.ran
    return page(
        "report.html.j2",
        title=f"{report.header.scenario}: {words.STATUS[report.status]}",
        script=_asset("page.js"),
        report=report,
        header=report.header,
        family=family,
        families={name: label for name, label in FAMILIES.items() if any(family(fault) == name for fault in ran)},
        bands=[bar for lane in lanes(ran, report.axis) for bar in lane.bars],
        lanes=lanes(ran, report.axis),
        doubtful=any(fault.state != "verified" for fault in ran),
        plots=plots(report),
        small=small_plots(report),
        time_ticks=time_ticks(report.axis),
        recovery=recovery_rows(report),
        figures=_figures(report),
        excerpts={excerpt.checker: excerpt for excerpt in report.excerpts},
        settings=_settings(report),
        data=_data(report),
        open_rows=_OPEN_ROWS,
    )


def page(template: str, *, script: str = "", **values: Any) -> str:
    """A template with the style sheet, and a policy that allows what is in the page and nothing else."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    environment = Environment(
        loader=PackageLoader(_PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        seconds=words.seconds, short=words.short, size=words.size, plain=words.plain, status=words.STATUS.__getitem__
    )
    return environment.get_template(template).render(
        **values,
        words=words,
        policy=f"{policy}; script-src 'sha256-{digest}'" if script else policy,
        style=_asset("page.css"),
        script=script and Markup(script),  # noqa: S704 - a file of this package
    )


def embedded(data: Any) -> Markup:
    """JSON for a script element: nothing in it can end the element."""
    text = orjson.dumps(data).decode()
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(safe)  # noqa: S704 - no markup is left in it


def _asset(name: str) -> Markup:
    text = resources.files(_PACKAGE).joinpath("templates", name).read_text("utf-8")
    return Markup(text)  # noqa: S704 - a file of this package


def _figures(report: Report) -> list[tuple[str, str, str]]:
    """The figures that stand below the verdict: name, value, what it is about."""
    counts, latency = report.counts, report.latency
    found = [("Pace", f"{words.short(report.pace_rps)}/s", f"{counts.done + counts.dead:,} records with an outcome")]
    if latency:
        about = f"p95 {words.seconds(latency.p95_s)}, p99 {words.seconds(latency.p99_s)}"
        found.append(("Median latency", words.seconds(latency.p50_s), about))
    recoveries = sorted(fault.recovery_s for fault in report.ran if fault.recovery_s is not None)
    if recoveries:
        median = recoveries[len(recoveries) // 2]
        about = f"median {words.seconds(median)}, of {words.count(len(recoveries), 'fault')}"
        found.append(("Slowest recovery", words.seconds(recoveries[-1]), about))
    if report.ran:
        verified = sum(fault.state == "verified" for fault in report.ran)
        about = f"{len(report.not_run)} more not run" if report.not_run else "all were run"
        found.append(("Faults verified", f"{verified} of {len(report.ran)}", about))
    if report.nodes:
        largest = max(report.nodes, key=lambda node: node.peak_rss_bytes)
        found.append(("Peak memory", words.size(largest.peak_rss_bytes), largest.name))
    dead = f"{counts.dead:,}"
    found.append(("Dead letters", dead, f"of {counts.found:,} records found after the drain"))
    return [(name, value, _UNIT.sub("\\1\N{NO-BREAK SPACE}\\2", about)) for name, value, about in found]


def _settings(report: Report) -> Mapping[str, Mapping[str, Any]]:
    header = report.header
    run = {
        "run": header.run_id,
        "scenario": header.scenario,
        "driver": header.driver,
        "seed": header.seed,
        "started": header.started_at,
        "lasted": words.seconds(report.duration_s),
        **{f"{name} after": words.seconds(t) for name, t in report.marks.items()},
    }
    return {
        "Run": run,
        "Versions": header.versions,
        "Machine": header.machine,
        "Workload": header.workload,
        "Steady state": header.steady_state,
        "Topology": header.topology,
    }


def _data(report: Report) -> Markup:
    """What the page's script reads out at a moment; the page says all of it without the script too."""
    digits = 4

    def rounded(points: tuple[float | None, ...]) -> list[float | None]:
        return [None if value is None else round(value, digits) for value in points]

    return embedded(
        {
            "start": report.axis.start_s,
            "width": report.axis.width_s,
            "rate": rounded(report.throughput_rps),
            "p50": rounded(report.latency_s["p50"]),
            "p99": rounded(report.latency_s["p99"]),
            "waiting": rounded(report.waiting),
            "faults": [[f.inject_s, f.end_s, f.name] for f in report.ran],
        }
    )
