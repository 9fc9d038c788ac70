"""What the development loop prints: one line for each change, in the order file -> image -> containers -> effect."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ci.develop.changes import Changes, Effect, FileChange
from ci.develop.containers import Member
from ci.develop.membership import parse_error
from ci.develop.sync import Live, Synced

_SHOWN = 12
_WORDS = 8


def nothing(changes: Changes) -> list[str]:
    """What needs nothing, and why; a burst is cut short."""
    lines = [f"{_named(one)}: nothing, {one.reason}" for one in changes.of(Effect.NOTHING)]
    return _cut(lines, "more files that need nothing")


def rebuild(changes: Changes) -> list[str]:
    """What needs a rebuild, and why."""
    lines = [f"{_named(one)} -> {', '.join(one.images)}: rebuild, {one.reason}" for one in changes.of(Effect.REBUILD)]
    return lines + [f"{name}: rebuild, there is no such image yet" for name in changes.missing]


def synced(
    changes: Changes, members: Mapping[str, Sequence[Member]], done: Sequence[Live], seconds: float
) -> list[str]:
    """Each file that was copied, the containers it went to, and how long the whole took."""
    by_id = {one.member.id: one for one in done}
    lines = []
    for one in changes.of(Effect.SYNC):
        concerned = {
            member.id: member
            for name in one.images
            for member in members.get(name, ())
            if member.running or member.fallen
        }
        went = [by_id[key] for key in concerned if key in by_id]
        names = ", ".join(member.name for member in concerned.values())
        if not concerned:
            what = f"{', '.join(one.images)} -> no running container: nothing until one starts"
        elif not went:
            what = f"{', '.join(one.images)} -> {names}: nothing, it is in there already"
        elif all(live.live for live in went):
            what = f"{', '.join(one.images)} -> {names}: sync, live after {seconds:.2f} s"
        else:
            what = f"{', '.join(one.images)} -> {names}: sync, not live"
        lines.append(f"{_named(one)} -> {what}")
    return _cut(lines, f"more files synced, live after {seconds:.2f} s")


def reconciled(synced: Iterable[Synced], done: Sequence[Live], seconds: float) -> list[str]:
    """Containers that held something else than the workspace when they were met."""
    lives = {one.member.id: one.live for one in done}
    return [
        f"{one.member.name} -> {len(one.step.put)} files copied, {len(one.step.remove)} removed: "
        f"sync, {'live' if lives.get(one.member.id) else 'not live'} after {seconds:.2f} s"
        for one in synced
    ]


def failures(done: Iterable[Live]) -> list[str]:
    """The workers that do not live, with their last words."""
    lines, shown = list[str](), set[tuple[str, ...]]()
    for one in done:
        if one.live:
            continue
        lines.append(f"  {one.member.name} is not live: {one.problem}")
        words = one.words[-_WORDS:]
        if words[:-1] not in shown:  # the last line has the time that it took, the others are those of every replica
            lines += [f"    {word}" for word in words]
            shown.add(words[:-1])
    return lines


def syntax(paths: Iterable[Path]) -> list[str]:
    """Saved Python files that do not parse; they are synced all the same, the container's Python has the last word."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    wrong = [(path, error) for path in paths if path.suffix == ".py" and (error := parse_error(path))]
    return [f"  {path.name}:{line}: {what} (says Python {version})" for path, (line, what) in wrong]


def _named(one: FileChange) -> str:
    what = {"renamed": f"renamed from {one.before}", "joined": "imported now", "left": "no longer imported"}
    return f"{one.path} ({what.get(one.kind, one.kind)})"


def _cut(lines: list[str], rest: str) -> list[str]:
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"... and {len(lines) - _SHOWN} {rest}"]
