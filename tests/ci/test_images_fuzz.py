"""The decision, against random edits of a copy of this workspace, judged by brute force."""

# Paths are plain texts where they are many.
# ruff: noqa: PTH112, PTH113, PTH114, PTH208

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ci.errors import ToolError
from ci.images import declare, remembered
from ci.images.contents import gather
from ci.images.model import Contents
from ci.workspace import ROOT, files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ci import images_oracle as oracle
from tests.ci.images_mutations import ALL, Copy, Mutation, bytes_of

_STEPS, _EXAMPLES = 45, 54
_LEAST = 2000
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
            paths = {entry.path for entry in one.entries if ".dist-info/" not in entry.path}
            assert paths == set(inside) - {"dist-info"}, f"{name} holds other files"
        return found

    def _gather(self, environment: str) -> dict[str, Contents]:
        declaration = declare.load(self.copy.root, environment=environment)
        return gather(declaration, root=self.copy.root, base_ids=self.copy.base_ids)


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
def test_no_edit_is_missed_and_none_is_needless(tmp_path: Path, no_patience: None) -> None:
    """At least 2,000 random edits: a key changes exactly when the bytes inside the image do."""
    done = Counter[str]()
    examples = Counter[str]()

    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
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
            if mutation(trial.copy, a, b):
                done[mutation.__name__] += 1
                if trial.check(environment) is None:
                    trial.start_over()
        examples["refused"] += trial.refused
        examples["all"] += 1

    fuzz()
    assert sum(done.values()) >= _LEAST, done
    assert {mutation.__name__ for mutation in ALL} == set(done)
    assert examples["refused"] < sum(done.values()) / 5, "too many edits led to no image at all"
    print(done, examples)
