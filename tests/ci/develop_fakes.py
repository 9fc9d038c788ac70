"""A copy of the workspace, and an engine whose containers are dictionaries."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ci.develop.containers import Member
from ci.develop.events import Event
from ci.develop.orchestrator import DevelopmentOrchestrator
from ci.errors import ToolError
from ci.images import declare, manifest
from ci.images.contents import gather
from ci.images.model import KEY_LABEL, MANIFEST_LABEL, Existing
from ci.workspace import ROOT

FLOW = "packages/flows/src/rpa_flows"
CORE = "packages/core/src/rpa_core"
COPIED = ("docker/images.toml", "docker/base", "docker/flow", "packages/core/src", "packages/flows/src", "requirements")
IMAGES = {"rpa1": "rpa-flow1", "rpa2": "rpa-flow2", "rpa3": "rpa-flow3"}


def copy_workspace(root: Path) -> Path:
    """What the images are made of, a test and a page of documentation; no git."""
    for name in (*COPIED, "packages/flows/pyproject.toml", "packages/core/pyproject.toml"):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, target)
    for name in ("docs/page.md", "tests/test_it.py"):
        (root / name).parent.mkdir()
        (root / name).write_text("nothing that any image contains\n")
    return root


class FakeEngine:
    """Containers by name, each with its files: absolute path -> (content, mode)."""

    def __init__(self) -> None:
        self.files = dict[str, dict[str, tuple[bytes, int]]]()
        self.known = dict[str, Member]()
        self.reloads: list[str] = []
        self.restarts: list[str] = []
        self.reads: list[str] = []
        self.removed: list[str] = []
        self.broken: set[str] = set()  # containers that nothing can be copied into
        self.answer: Callable[[Member], dict[str, Any]] = lambda _: {"live": True}
        self.words = ["its last words"]
        self._runs = 0

    def run(self, service: str, files: dict[str, tuple[bytes, int]], *, index: int = 1, **other: Any) -> Member:
        """Start a container; one of the same name is replaced."""
        self._runs += 1
        name = f"rpa-{service}-{index}"
        values: dict[str, Any] = {
            "id": f"{name}-{self._runs}",
            "name": name,
            "service": service,
            "image": IMAGES[service],
            "environment": "development",
            "state": "running",
            "started": str(self._runs),
        }
        self.known[name] = Member(**{**values, **other})
        self.files[name] = dict(files)
        return self.known[name]

    def restarted(self, name: str) -> None:
        self._runs += 1
        self.known[name] = replace(self.known[name], started=str(self._runs), state="running")

    def members(self) -> list[Member]:
        return [self.known[name] for name in sorted(self.known)]

    def read(self, member: Member, folder: str) -> bytes | None:
        self.reads.append(member.name)
        buffer = io.BytesIO()
        found = {path: one for path, one in self.files[member.name].items() if path.startswith(f"{folder}/")}
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for path, (content, mode) in found.items():
                one = tarfile.TarInfo(str(Path(path).relative_to(Path(folder).parent)))
                one.size, one.mode = len(content), mode
                tar.addfile(one, io.BytesIO(content))
        return buffer.getvalue() if found else None

    def put(self, member: Member, archive: bytes) -> None:
        if member.name in self.broken:
            raise ToolError(f"{member.name}: nothing can be copied in")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for one in tar:
                content = tar.extractfile(one)
                assert content is not None
                assert (one.uid, one.gid) == (0, 0)
                assert one.mtime > 0
                self.files[member.name][f"/{one.name}"] = (content.read(), one.mode)

    def remove(self, member: Member, paths: Sequence[str]) -> None:
        self.removed += paths
        for path in paths:
            for name in list(self.files[member.name]):
                if name == path or name.startswith(f"{path}/"):
                    del self.files[member.name][name]

    def reload(self, member: Member, *arguments: str) -> dict[str, Any]:
        self.reloads.append(" ".join([member.name, *arguments]))
        return self.answer(member)

    def restart(self, member: Member) -> None:
        self.restarts.append(member.name)

    def last_words(self, member: Member, since_s: float) -> list[str]:
        return self.words


class Loop:
    """An orchestrator over a copy of the workspace; its images are those of `build`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.engine = FakeEngine()
        self.images = list[Existing]()
        self.said = list[str]()
        self.built = list[tuple[str, ...]]()
        self.build_code = 0
        self.orchestrator = self.another()

    def another(self, **other: Any) -> DevelopmentOrchestrator:
        """As after a new start of `invoke dev.watch`."""
        values = {"engine": self.engine, "build": self.build, "existing": lambda: self.images, "say": self.said.append}
        return DevelopmentOrchestrator(self.root, **{**values, **other})

    def contents(self) -> Any:
        declaration = declare.load(self.root, environment="development")
        bases = {reference: manifest.ABSENT for one in declaration.images.values() for reference in one.bases.values()}
        return gather(declaration, root=self.root, base_ids=bases)

    def build(self, images: Sequence[str] = ()) -> int:
        """Every image as it would be made now."""
        self.built.append(tuple(images))
        if not self.build_code:
            self.images = [
                Existing(
                    id=f"sha256:{one.key}",
                    tags=(f"{name}:development",),
                    labels={KEY_LABEL: one.key, MANIFEST_LABEL: manifest.canonical(one.manifest)},
                )
                for name, one in self.contents().items()
            ]
        return self.build_code

    def inside(self, service: str) -> dict[str, tuple[bytes, int]]:
        """What a fresh container of the image holds: taken from the workspace by hand, not by what is tested."""
        found = dict[str, tuple[bytes, int]]()
        contents = self.contents()
        for name in ("rpa-base", IMAGES[service]):
            for entry in contents[name].entries:
                if entry.at:
                    data = entry.source.read_bytes() if entry.source else entry.content
                    found[entry.at] = (data or b"", 0o755 if entry.executable else 0o644)
        return found

    def save(self, *names: str, text: str | None = None) -> None:
        """Touch files (with another content, if `text` is given) and let the loop take them in."""
        for name in names:
            path = self.root / name
            if text is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.take_in(*names)

    def append(self, name: str, text: str) -> None:
        """Save a file with a little more in it."""
        with (self.root / name).open("a", encoding="utf-8") as file:
            file.write(text)
        self.take_in(name)

    def take_in(self, *names: str, container: str = "") -> None:
        """As the events come; waits for the workers."""
        paths = frozenset(self.root / name for name in names)
        waiter = self.orchestrator.take_in([Event(paths=paths, container=container, at_s=0.0)])
        if waiter:
            waiter.join(30)
