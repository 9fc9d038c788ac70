"""DevelopmentOrchestrator: from a saved file to the worker that runs it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ci import docker
from ci.develop import report
from ci.develop.changes import Changes, Effect, Look, compare, digest_of, snapshot
from ci.develop.containers import DockerEngine, Engine, Member
from ci.develop.debugging import DebugAccess, open_access
from ci.develop.events import Event, Events
from ci.develop.membership import steady
from ci.develop.overlay import lineage
from ci.develop.sync import Synced, Synchronizer
from ci.errors import ToolError
from ci.images import declare, manifest
from ci.images.command import base_ids, prefix
from ci.images.contents import gather
from ci.images.model import Contents, Declaration, Existing, tag
from ci.workspace import ROOT, files

_REFUSED = "{what} is for development: production runs exactly what was built, and its images hold neither the debugger"
_REFUSED += " nor the supervisor. Start the development stack: invoke compose.up"
Builder = Callable[[Sequence[str]], int]


class DevelopmentOrchestrator:
    """Keeps the running development stack in step with the workspace at `root`.

    `services` narrows the containers it touches to those of some services. `engine`, `build`, `existing` and `say`
    stand for Docker, `build.selective`, the engine's images and print; tests put others in their place.
    """

    def __init__(
        self,
        root: Path = ROOT,
        environment: str = "development",
        *,
        services: Iterable[str] = (),
        project: str | None = None,
        engine: Engine | None = None,
        build: Builder | None = None,
        existing: Callable[[], list[Existing]] = docker.images,
        say: Callable[[str], object] = print,
    ) -> None:
        self._root = root.resolve()
        self._environment = environment
        self._services = frozenset(services)
        self._project = project or os.environ.get("RPA_COMPOSE_PROJECT") or "rpa"
        self._engine = engine or DockerEngine(self._project)
        self._build = build or self._build_selectively
        self._existing = existing
        self._say = say
        self._synchronizer = Synchronizer(self._engine)
        self._declaration: Declaration | None = None
        self._contents: Mapping[str, Contents] = {}
        self._look: Look | None = None
        self._latest = Changes()
        self._unbuilt = dict[str, None]()  # images whose last build failed

    def detect_code_changes(self, touched: Iterable[Path] | None = None) -> Changes:
        """What changed since the last look, by content; the first look compares with the images that exist.

        `touched` names files and folders that may have changed, where that is known; without it every file is
        looked at. Raises ToolError for a workspace that no image can be made of; the last look then stays.
        """
        declaration = declare.load(self._root, environment=self._environment)
        images = self._existing()
        absent = {reference: manifest.ABSENT for one in declaration.images.values() for reference in one.bases.values()}
        gathered = gather(declaration, root=self._root, base_ids=absent | base_ids(declaration, images))
        contents = steady(self._contents, gathered)
        manifests = {name: one.manifest for name, one in contents.items()}
        now = Look(files=self._files(touched), manifests=manifests)
        before = self._look or Look(files=None, manifests=self._built(declaration, images))
        found = compare(before, now, declaration)
        self._declaration, self._contents, self._look, self._latest = declaration, contents, now, found
        return found

    def rebuild_affected_containers(self, changes: Changes | None = None) -> tuple[str, ...]:
        """Build the images whose environment changed, and what is built on them, as far as there are containers of
        them; replace those containers. `changes`: by default those of the last look. Answers the images that were
        asked for, none where nothing called for it. Raises ToolError where the build fails; the next call tries again.
        """
        wanted = {*(self._latest if changes is None else changes).rebuild, *self._unbuilt}
        if not wanted:
            return ()
        contained = {name for one in self._engine.members() for name in self._lineage(one.image)}
        concerned = tuple(
            name for name in self._contents if name in contained and wanted.intersection(self._lineage(name))
        )
        if concerned:
            self._unbuilt = dict.fromkeys(concerned)
            code = self._build(concerned)
            if code:
                raise ToolError(f"building {', '.join(concerned)} ended with {code}; the containers stay as they are")
        self._unbuilt = {}
        return concerned

    def _lineage(self, image: str) -> tuple[str, ...]:
        return lineage(image, self._contents) if image in self._contents else ()

    def synchronize(self, members: Sequence[Member] | None = None) -> list[Synced]:
        """Bring containers in step with the last look; those that were changed still have to restart their workers."""
        if self._look is None:
            self.detect_code_changes()
        concerned = self.members() if members is None else members
        changed, problems = self._synchronizer.bring_in_step(concerned, self._contents)
        self._print(f"  {problem}" for problem in problems)
        return changed

    def setup_hot_reloading(
        self, *, force_polling: bool = False, stop: threading.Event | None = None, ready: threading.Event | None = None
    ) -> None:
        """Watch files and containers until Ctrl-C or `stop`; a saved file becomes live in the containers that run it.

        `force_polling` is for file systems without events, such as network mounts. `ready` is set once everything is
        in step and watched.
        """
        self._refuse_production("dev.watch")
        with Events(self._root, self._project, force_polling=force_polling) as events:
            self._begin()
            if ready:
                ready.set()
            try:
                while stop is None or not stop.is_set():
                    if batch := events.next(timeout_s=0.2 if stop else None):
                        self.take_in(batch)
            except KeyboardInterrupt:
                self._say("stopped watching; the containers run on with what they have")

    def provide_debugging_access(
        self, service: str, *, port: int = 5678, index: int = 1, wait: bool = False
    ) -> DebugAccess:
        """Restart the worker of a service's `index`-th container under debugpy, to be reached at 127.0.0.1:`port`
        until the answer is closed (0: any free port). With `wait`, it begins when a debugger is attached.
        """
        self._refuse_production("dev.debug")
        found = [one for one in self._engine.members() if one.service == service and one.running]
        if not found:
            running = sorted({one.service for one in self._engine.members() if one.running and one.supervised})
            there = f"running are {', '.join(running)}" if running else "nothing runs; start it with: invoke compose.up"
            raise ToolError(f"no container of {service} runs; {there}")
        if not 1 <= index <= len(found):
            raise ToolError(f"{service} has {len(found)} running containers; there is no number {index}")
        member = found[index - 1]
        if member.environment == "production" or not member.supervised:
            raise ToolError(f"{member.name}: " + _REFUSED.format(what="dev.debug"))
        declaration = self._declaration or declare.load(self._root, environment=self._environment)
        places = {tree.at: tree.source for one in declaration.images.values() for tree in one.trees if tree.at}
        return open_access(self._engine, member, others=len(found) - 1, places=places, port=port, wait=wait)

    def members(self) -> list[Member]:
        """The development containers that are kept in step."""
        return [
            one
            for one in self._engine.members()
            if one.supervised
            and one.environment != "production"
            and one.image in self._contents
            and (not self._services or one.service in self._services)
        ]

    def take_in(self, batch: Sequence[Event]) -> threading.Thread | None:
        """One batch: what changed is copied, or rebuilt. Answers the thread that waits for the workers, where there is
        one; the next batch need not wait for a worker that drains.
        """
        self._print(one.problem for one in batch if one.problem)
        touched = {path for one in batch for path in one.paths}
        try:
            changes = self.detect_code_changes(touched) if touched else Changes()
            self._print([*report.nothing(changes), *report.rebuild(changes)])
            self._print(report.syntax(self._root / one.path for one in changes.of(Effect.SYNC)))
            self._rebuild_or_say(changes)
            members = self.members()
            synced = self.synchronize(members)
        except ToolError as error:
            self._say(f"{error}\n  nothing was copied; the next save tries again")
            return None
        if not synced and not changes.of(Effect.SYNC):
            return None
        at_s = min(one.at_s for one in batch)
        waiter = threading.Thread(target=self._finish, args=(changes, synced, at_s, members), daemon=True)
        waiter.start()
        return waiter

    def _rebuild_or_say(self, changes: Changes) -> None:
        if not changes.rebuild and not (self._unbuilt and changes.files):
            return
        try:
            if not self.rebuild_affected_containers(changes):
                self._say("  no container is made from these images: nothing to rebuild now")
        except ToolError as error:
            self._say(f"{error}\n  the next save tries again")

    def _finish(self, changes: Changes, synced: Sequence[Synced], at_s: float, members: Sequence[Member]) -> None:
        done = self._synchronizer.go_live(synced)
        seconds = time.monotonic() - at_s
        by_image = {name: [one for one in members if name in self._lineage(one.image)] for name in self._contents}
        if changes.of(Effect.SYNC):
            lines = report.synced(changes, by_image, done, seconds)
        else:
            lines = report.reconciled(synced, done, seconds)
        self._print([*lines, *report.failures(done)])

    def _begin(self) -> None:
        """What was edited, recreated or never built while nobody watched."""
        began_s = time.monotonic()
        changes = self.detect_code_changes()
        self._print(report.rebuild(changes))
        self._rebuild_or_say(changes)
        synced = self.synchronize()
        self._finish(Changes(), synced, began_s, self.members())
        watched = [f"{one.name} ({one.image})" for one in self.members()]
        self._say(
            f"watching for {', '.join(watched) or 'containers to come: invoke compose.up starts them'}; Ctrl-C ends"
        )

    def _files(self, touched: Iterable[Path] | None) -> Mapping[str, str]:
        known = self._look.files if self._look and self._look.files is not None else None
        if known is None or touched is None:
            listed = files(self._root)
            return snapshot(self._root, listed, {})
        paths = set(touched)
        new = {path for path in paths if self._name(path) not in known and (path.is_dir() or digest_of(path))}
        if new:  # git says which of them matter
            paths = paths - new | {path for path in files(self._root) if self._name(path) not in known}
        folders = tuple(f"{self._name(path)}/" for path in new if path.is_dir())
        paths |= {self._root / name for name in known if name.startswith(folders)}  # one put in another's place
        return snapshot(self._root, paths, known)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _built(self, declaration: Declaration, images: Sequence[Existing]) -> dict[str, Mapping[str, str]]:
        """The manifests of the images that the tags name."""
        by_tag = {name: one for one in images for name in one.tags}
        found = {name: by_tag.get(tag(prefix(), name, self._environment)) for name in declaration.images}
        return {name: made for name, one in found.items() if one and (made := manifest.of(one)) is not None}

    def _build_selectively(self, images: Sequence[str]) -> int:
        from ci.images.command import selective
        from ci.stack.compose import stack_of
        from ci.stack.deploy import roll

        code = selective(self._environment, images, root=self._root)
        # Not by selective: it has nothing to do, and deploys nothing, where an earlier try came as far as the images.
        if code == 0 and any(one.running and one.image in images for one in self._engine.members()):
            stack = stack_of(self._environment, project=self._project)
            roll(images, environment=self._environment, prefix=prefix(), stack=stack)
        return code

    def _refuse_production(self, what: str) -> None:
        if self._environment != "development":
            raise ToolError(_REFUSED.format(what=what))

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._say(line)
