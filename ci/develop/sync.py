"""Brings running containers in step with the workspace, and restarts the worker in those that changed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ci.develop import overlay
from ci.develop.containers import Engine, Member
from ci.develop.overlay import Overlay, Step
from ci.errors import ToolError
from ci.images.model import Contents


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """One container that was changed, and must restart its worker."""

    member: Member
    step: Step
    at_s: float  # seconds since the epoch, before the first file was copied


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """How the restart of one worker went. `words` are what it said on stderr where it does not live."""

    member: Member
    live: bool
    problem: str = ""
    words: tuple[str, ...] = ()


class Synchronizer:
    """Knows what each container holds: read from the container once, kept in step afterwards."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held = dict[tuple[str, str], dict[str, str]]()  # by id and start: a restarted one is read again

    def bring_in_step(
        self, members: Iterable[Member], contents: Mapping[str, Contents]
    ) -> tuple[list[Synced], list[str]]:
        """(containers that were changed, what went wrong with others)."""
        changed, problems = list[Synced](), list[str]()
        alive = [one for one in members if one.running or one.fallen]  # others, when they start
        for member in alive:
            began = time.time()
            try:
                done = self._one(member, overlay.desired(member.image, contents))
            except ToolError as error:
                self._held.pop((member.id, member.started), None)  # half done: look again
                problems.append(str(error))
                continue
            if done:
                changed.append(Synced(member=member, step=done, at_s=began))
        known = {(one.id, one.started) for one in alive}
        self._held = {key: value for key, value in self._held.items() if key in known}
        return changed, problems

    def _one(self, member: Member, wanted: Overlay) -> Step:
        held = self._held.get((member.id, member.started))
        if held is None:
            held = dict[str, str]()
            for root in wanted.roots:
                held |= overlay.held(root, self._engine.read(member, root))
            self._held[member.id, member.started] = held
        step = overlay.step(held, wanted)
        if step.remove and member.running:  # from one that has fallen, when it starts
            self._engine.remove(member, step.remove)
            for gone in step.remove:
                for path in [path for path in held if path == gone or path.startswith(f"{gone}/")]:
                    del held[path]
        if step.put:
            archive, packed = overlay.archive(step.put, wanted)
            self._engine.put(member, archive)
            held |= packed
        return step

    def go_live(self, synced: Sequence[Synced]) -> list[Live]:
        """Restart the workers, side by side; answers when each lives or has failed."""
        if not synced:
            return []
        with ThreadPoolExecutor(max_workers=len(synced)) as pool:
            return list(pool.map(self._restart, synced))

    def _restart(self, one: Synced) -> Live:
        try:
            if one.member.running:
                answer = self._engine.reload(one.member)
            elif one.member.fallen:
                self._engine.restart(one.member)
                answer = self._engine.reload(one.member)
            else:
                return Live(
                    member=one.member, live=False, problem=f"it is {one.member.state}; it starts with the change"
                )
            if answer.get("live"):
                return Live(member=one.member, live=True)
            words = tuple(self._engine.last_words(one.member, one.at_s))
            return Live(member=one.member, live=False, problem=str(answer.get("problem")), words=words)
        except ToolError as error:
            return Live(member=one.member, live=False, problem=str(error))
