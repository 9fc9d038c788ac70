"""How long builds took: a history that is only appended to (`.rpa/timings.jsonl`), and what it shows.

A step is compared with its own earlier runs, never a build with another: which steps a build has to run depends on what
was edited. Cached steps took no time and are not counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from ci.images.contexts import STATE
from ci.images.progress import Step
from ci.workspace import ROOT

FILE = "timings.jsonl"
_FEWEST = 4  # earlier runs of a step, below which nothing is said about it
_RECENT = 30  # runs that are looked at
_LEAST_S = 0.3  # smaller differences are no news
_LEAST_SHARE = 0.25
_DEVIATIONS = 4 * 1.4826  # of the median absolute deviation; the factor makes it a standard deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One image's part in one build. `seconds` is from its first step that ran to the end of its last."""

    when: str
    environment: str
    image: str
    key: str
    seconds: float
    run_seconds: float  # the whole command
    no_cache: bool
    steps: Mapping[str, float]  # those that ran
    cached: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slower:
    """A step whose last run took longer than its earlier ones explain."""

    step: str
    last_s: float
    usual_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the history says of one image in one environment."""

    environment: str
    image: str
    builds: int
    last_s: float
    median_s: float
    slower: tuple[Slower, ...]
    costs: tuple[tuple[str, float, int], ...]  # (step, median seconds, runs), what cost most in all first


def append(
    root: Path,
    built: Mapping[str, str],
    steps: Iterable[Step],
    *,
    environment: str,
    seconds: float,
    no_cache: bool = False,
    now: datetime | None = None,
) -> None:
    """Add one build; `built` is image -> key, `seconds` what the whole command took."""
    place = root / STATE / FILE
    place.parent.mkdir(parents=True, exist_ok=True)
    moment = (now or datetime.now(UTC)).replace(microsecond=0).isoformat()
    every = list(steps)
    lines = []
    for image, key in built.items():
        ran = [step for step in every if step.image == image and not step.cached]
        taken = max((step.ended for step in ran), default=0.0) - min((step.began for step in ran), default=0.0)
        record = {
            "when": moment,
            "environment": environment,
            "image": image,
            "key": key[:12],
            "seconds": round(taken, 3),
            "run_seconds": seconds,
            "no_cache": no_cache,
            "steps": {step.name: step.seconds for step in ran},
            "cached": sum(step.cached for step in every if step.image == image),
        }
        lines.append(json.dumps(record) + "\n")
    with place.open("a", encoding="utf-8") as stream:
        stream.write("".join(lines))


def history(root: Path = ROOT) -> list[Build]:
    """Every build, oldest first. A line that was torn by a crash is passed over."""
    try:
        lines = (root / STATE / FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [build for line in lines if (build := _build(line)) is not None]


def _build(line: str) -> Build | None:
    try:
        record: dict[str, Any] = json.loads(line)
        return Build(**record)
    except (ValueError, TypeError):
        return None


def report(builds: Iterable[Build]) -> list[Timing]:
    """One for each image and environment, in the order of their first builds."""
    groups = dict[tuple[str, str], list[Build]]()
    for build in builds:
        groups.setdefault((build.environment, build.image), []).append(build)
    return [_timing(environment, image, found) for (environment, image), found in groups.items()]


def _timing(environment: str, image: str, builds: list[Build]) -> Timing:
    recent = builds[-_RECENT:]
    runs = dict[str, list[float]]()
    for build in recent:
        for step, taken in build.steps.items():
            runs.setdefault(step, []).append(taken)
    last = recent[-1]
    slower = [
        Slower(step=step, last_s=taken, usual_s=median(earlier))
        for step, taken in last.steps.items()
        if len(earlier := runs[step][:-1]) >= _FEWEST and taken > _usual_most(earlier)
    ]
    return Timing(
        environment=environment,
        image=image,
        builds=len(builds),
        last_s=last.seconds,
        median_s=median(build.seconds for build in recent),
        slower=tuple(sorted(slower, key=lambda one: one.usual_s - one.last_s)),
        costs=tuple(
            (step, median(taken), len(taken)) for step, taken in sorted(runs.items(), key=lambda one: -sum(one[1]))
        ),
    )


def _usual_most(earlier: list[float]) -> float:
    """Up to here a run is like the earlier ones."""
    middle = median(earlier)
    spread = median(abs(one - middle) for one in earlier)
    return middle + max(_LEAST_S, _LEAST_SHARE * middle, _DEVIATIONS * spread)


def text(root: Path = ROOT, *, most: int = 3) -> str:
    """The report for a person: for each image its times, what got slower, and the steps that cost most."""
    found = report(history(root))
    if not found:
        return "no build has been timed here yet; run: invoke build.selective"
    lines = [f"{'image':<28} {'builds':>6} {'last':>8} {'median':>8}"]
    for one in found:
        lines.append(
            f"{one.image + ':' + one.environment:<28} {one.builds:>6} {one.last_s:>7.1f}s {one.median_s:>7.1f}s"
        )
        lines += [f"    slower: {each.step}: {each.last_s:.1f}s, usually {each.usual_s:.1f}s" for each in one.slower]
        lines += [f"    {taken:>6.1f}s x {count:<3} {step}" for step, taken, count in one.costs[:most]]
    return "\n".join(lines)
