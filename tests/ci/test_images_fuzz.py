"""The decision, against random edits of a copy of this workspace, judged by brute force."""

# Paths are plain texts where they are many.
# ruff: noqa: PTH112, PTH113, PTH114, PTH208

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from ci.errors import ToolError
from ci.images import declare, remembered
from ci.images.contents import gather
from ci.images.model import Contents
from ci.workspace import ROOT, files
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from tests.ci import images_oracle as oracle
from tests.ci.images_mutations import ALL, Copy, Mutation, bytes_of

_STEPS = 45
_FOLDERS = (
    "packages/core/src",
    "packages/flows",
    "docker/base",
    "docker/flow",
    "docker/prometheus",
    "tests/ci",
    "docs",
)
# Rooms of core that are left out: core goes in as it lies there, and a smaller copy leaves time for more edits.
_LEFT_OUT = ("cli", "config", "formats", "health", "observability", "processing", "runtime", "services")
_ROOMS = tuple(f"packages/core/src/rpa_core/{room}/" for room in _LEFT_OUT)
_SINGLE = ("docker/images.toml", "README.md", "packages/testkit/README.md")
_NUMBER = st.integers(0, 9999)


class Trial:
    """A copy under edits: equal bytes have equal keys, other bytes have other keys, over all states ever seen."""

    def __init__(self, root: Path) -> None:
        self.copy = Copy(root=root, original={name: (ROOT / name).read_bytes() for name in _originals()})
        self.refused = 0
        self._keys = dict[tuple[str, str, str], str]()  # environment, image, bytes -> key
        self._bytes = dict[tuple[str, str, str], str]()  # environment, image, key -> bytes
        self.start_over()

    def start_over(self) -> None:
        """The tree as it was at first; what was learnt about keys stays, and so does what is remembered."""
        root, original = f"{self.copy.root}/", self.copy.original
        for folder in ("packages", "docker", "requirements"):
            for parent, names, files_here in os.walk(root + folder, topdown=False):
                for path in [f"{parent}/{name}" for name in (*files_here, *names)]:
                    if os.path.islink(path) or (os.path.isfile(path) and path.removeprefix(root) not in original):
                        Path(path).unlink()
                    elif os.path.isdir(path) and not os.listdir(path):
                        Path(path).rmdir()
        for place in {(self.copy.root / name).parent for name in original}:
            place.mkdir(parents=True, exist_ok=True)
        for name, data in original.items():
            if bytes_of(root + name) != data:
                Path(root + name).write_bytes(data)
            Path(root + name).chmod(0o644)

    def check(self, environment: str) -> dict[str, Contents] | None:
        """Compare; None where no image can be made, which both must say."""
        try:
            expected = oracle.inside(self.copy.root, environment, self.copy.base_ids)
        except oracle.Refused:
            expected = None
        if expected is None:
            with pytest.raises(ToolError):
                self._gather(environment)
            self.refused += 1
            return None
        found = self._gather(environment)
        for name, one in found.items():
            digest, inside = expected[name]
            known = self._keys.setdefault((environment, name, digest), one.key)
            assert known == one.key, f"needless: the bytes of {name} were here before, under another key"
            known = self._bytes.setdefault((environment, name, one.key), digest)
            assert known == digest, f"missed: {name} had this key with other bytes"
            # The keys alone could agree by accident: the files must be the same, too.
            paths = {entry.path for entry in one.entries if ".dist-info/" not in entry.path}
            assert paths == set(inside) - {"dist-info"}, f"{name} holds other files"
        return found

    def opened(self, found: dict[str, Contents], number: int) -> int:
        """Import a flow's entries in a process of its own; what it opens must be in, also what modulefinder finds."""
        flows = [one for one in found.values() if one.image.flows]
        for one in [flows[number % len(flows)]]:
            for tree in one.image.trees:
                if tree.entry:
                    source = self.copy.root / tree.source
                    inside = {entry.path.removeprefix(f"{tree.to}/") for entry in one.entries}
                    opened = [*really_opened(source, tree.entry), *_found_by_stdlib(source, tree.entry)]
                    assert {part for path in opened for part in _parts(source, path)} <= inside
        return 1

    def _gather(self, environment: str) -> dict[str, Contents]:
        declaration = declare.load(self.copy.root, environment=environment)
        return gather(declaration, root=self.copy.root, base_ids=self.copy.base_ids)


def really_opened(source: Path, entries: Sequence[str]) -> list[str]:
    """The files below `source` that Python opens when it imports `entries`, third-party packages stood in for."""
    script = Path(__file__).with_name("images_opened.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), str(source), "yes", *entries],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: list[str] = json.loads(done.stdout)["opened"]
    return found


def _found_by_stdlib(source: Path, entries: Sequence[str]) -> Iterator[str]:
    """What the standard library's own finder finds, by bytecode."""
    finder = ModuleFinder(path=[str(source)])
    # It stumbles over namespace packages, and over relative imports that lead out of the tree.
    with suppress(SyntaxError, ValueError, AttributeError, ImportError):
        for entry in entries:
            finder.import_hook(entry)
    for module in finder.modules.values():
        if (file := getattr(module, "__file__", None)) and os.path.isfile(file):
            yield os.path.relpath(file, source)


def _parts(source: Path, path: str) -> Iterator[str]:
    """The file that a path leads to, and the links on the way as far as the path names them."""
    yield os.path.relpath(os.path.realpath(source / path), os.path.realpath(source))
    for link in [Path(path), *Path(path).parents]:
        if (source / link).is_symlink() and not any((source / parent).is_symlink() for parent in link.parents):
            yield link.as_posix()


def _originals() -> Iterator[str]:
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        wanted = name.startswith((*(f"{folder}/" for folder in _FOLDERS), "requirements/"))
        if name in _SINGLE or (wanted and not name.startswith(_ROOMS)):
            yield name


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember files that changed a moment ago, so that what is remembered is put to the test as well.

    Two seconds are for file systems that stamp in seconds; those that tests run on stamp in clock ticks.
    """
    monkeypatch.setattr(remembered, "_RACY_NS", 0)


@pytest.mark.requirement("R4.3", "R4.4", "R4.8")
@pytest.mark.slow
def test_no_edit_is_missed_and_none_is_needless(
    tmp_path: Path, no_patience: None, counted: Callable[[int, int], int]
) -> None:
    """At least 600 random edits (2,000 in full): a key changes exactly when the bytes inside the image do."""
    most = counted(16, 50)
    done = Counter[str]()
    examples = Counter[str]()

    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate],  # the step that failed is known; shrinking would take minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(st.tuples(st.sampled_from(ALL), _NUMBER, _NUMBER), min_size=_STEPS, max_size=_STEPS),
        st.sampled_from(["development", "production"]),
    )
    def fuzz(steps: list[tuple[Mutation, int, int]], environment: str) -> None:
        root = tmp_path / "copy"
        shutil.rmtree(root, ignore_errors=True)
        trial = Trial(root)
        assert trial.check(environment) is not None
        for mutation, a, b in steps:
            note(f"{mutation.__name__}({a}, {b})")
            if mutation(trial.copy, a, b):
                done[mutation.__name__] += 1
                if trial.check(environment) is None:
                    trial.start_over()
        if (found := trial.check(environment)) is not None:
            examples["run"] += trial.opened(found, examples["all"])
        examples["refused"] += trial.refused
        examples["all"] += 1

    fuzz()
    assert sum(done.values()) >= counted(600, 2000), done
    assert {mutation.__name__ for mutation in ALL} == set(done)
    assert examples["refused"] < sum(done.values()) / 5, "too many edits led to no image at all"
    assert examples["run"] >= most / 2


@pytest.mark.requirement("R4.4")
@pytest.mark.parametrize("entry", ["rpa_flows.rpa1", "rpa_flows.rpa2", "rpa_flows.rpa3"])
def test_the_process_that_judges_sees_what_python_opens(entry: str) -> None:
    """The stand-ins carry the import to its end: the flow's own modules are opened."""
    source = ROOT / "packages/flows/src"
    opened = really_opened(source, [entry])
    package = entry.replace(".", "/")
    assert {f"{package}/__init__.py", f"{package}/flow.py", f"{package}/settings.py"} <= set(opened)
