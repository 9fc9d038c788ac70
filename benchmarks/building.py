"""Building images: deciding that nothing is to be done, one edit, what is in a layer; beside `docker compose build`.

Both sides build the same four images from a copy of the workspace: `invoke build.selective`, and Compose with the
Dockerfiles of benchmarks/baseline/images, as one would write them by hand. Processes are timed as a whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ci import docker
from ci.images.declare import load
from ci.workspace import ROOT, files

from benchmarks.bench import Bench
from benchmarks.figures import Figure, at_most, of

_IMAGES = ("rpa-base", "rpa-flow1", "rpa-flow2", "rpa-flow3")
_FLOW_FILE = "packages/flows/src/rpa_flows/rpa2/flow.py"
_CORE_FILE = "packages/core/src/rpa_core/errors.py"
_BASELINE = "benchmarks/baseline/images/compose.yml"
_SELECTIVE = (sys.executable, "-m", "invoke", "build.selective", "--environment", "production")
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copy of the workspace, with image names of its own."""

    root: Path
    prefix: str

    def selective(self) -> float:
        """Seconds of `invoke build.selective`, the whole process."""
        return self._time(*_SELECTIVE)

    def compose(self) -> float:
        """Seconds of `docker compose build` of the same images, the whole process."""
        return self._time("docker", "compose", "--project-directory", ".", "--file", _BASELINE, "build")

    def selected(self) -> list[str]:
        """The images that would be built now."""
        said = self._run(*_SELECTIVE, "--dry-run", "--json")
        return [one["image"] for one in json.loads(said)["images"] if one["action"] == "build"]

    def edit(self, path: str, number: int) -> None:
        """A change that is in the image and breaks nothing."""
        file = self.root / path
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"\n# benchmark \d+\n$", "", text) + f"\n# benchmark {number}\n", encoding="utf-8")

    def _time(self, *command: str) -> float:
        began = time.perf_counter()
        self._run(*command)
        return time.perf_counter() - began

    def _run(self, *command: str) -> str:
        environ = os.environ | {"RPA_IMAGE_PREFIX": self.prefix, "BASELINE_PREFIX": f"{self.prefix}plain-"}
        done = subprocess.run(
            command, cwd=self.root, env=environ, capture_output=True, text=True, timeout=900, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def measure(bench: Bench) -> Iterator[Figure]:
    """Raises RuntimeError where there is no engine, or a command fails."""
    runs = bench.runs
    with _copy(bench) as copy:
        first = copy.selective()
        bench.say(f"first build of four images: {first:.1f} s")
        copy.compose()
        if built := copy.selected():
            raise RuntimeError(f"nothing changed, but it would build {built}")
        ours, theirs = _alternate(copy, runs)
        yield _ratio("nothing changed", ours, theirs, 0.7)
        more = bench.size(10_000, 200)
        _add_files(copy.root, more)
        copy.compose()
        ours, theirs = _alternate(copy, runs)
        yield _ratio(f"nothing changed, {more:,} more files", ours, theirs, 0.15)
        shutil.rmtree(copy.root / "more")
        yield of(
            "one flow file edited: only that image",
            _edits(copy, _FLOW_FILE, ["rpa-flow2"], runs),
            "s",
            at_most(2.5),
            note="whole process, built, verified, tagged",
        )
        yield of(
            "one core file edited: base and dependants",
            _edits(copy, _CORE_FILE, list(_IMAGES), runs),
            "s",
            at_most(6),
            note="four images",
        )
        yield from _sizes(copy)


def _alternate(copy: _Copy, runs: int) -> tuple[list[float], list[float]]:
    pairs = [(copy.selective(), copy.compose()) for _ in range(runs)]
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]


def _ratio(name: str, ours: list[float], theirs: list[float], limit: float) -> Figure:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    middle = of(name, ratios, "x", at_most(limit))
    seconds = f"{of('', ours, '').value:.2f} s, docker compose build {of('', theirs, '').value:.2f} s"
    return of(name, ratios, middle.unit, middle.bar, note=seconds, selective_s=ours, compose_s=theirs)


def _edits(copy: _Copy, path: str, expected: list[str], runs: int) -> list[float]:
    samples = []
    for number in range(runs):
        copy.edit(path, number + uuid.uuid4().int % 1_000_000 * 100)
        if (built := copy.selected()) != expected:
            raise RuntimeError(f"{path} edited: {built} would be built, not {expected}")
        samples.append(copy.selective())
    return samples


def _sizes(copy: _Copy) -> Iterator[Figure]:
    python = load(environment="production").images["rpa-base"].bases["python"]
    base = _size(f"{copy.prefix}rpa-base:production")
    yield of("rpa-base over its python base", [(base - _size(python)) / _MB], "MB", at_most(120))
    layers = {name: (_size(f"{copy.prefix}{name}:production") - base) / _MB for name in _IMAGES[1:]}
    note = ", ".join(f"{name} {size:.2f}" for name, size in layers.items())
    yield of("largest flow layer", [max(layers.values())], "MB", at_most(1), note=note)


def _size(image: str) -> int:
    """Bytes of all layers."""
    return int(docker.run("image", "inspect", "--format", "{{.Size}}", image).stdout)


def _add_files(root: Path, number: int) -> None:
    """As a checkout grows: data, notebooks, an unpacked archive."""
    for position in range(number):
        path = root / "more" / f"{position // 100}" / f"{position}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{position}\n" * 20, encoding="utf-8")


@contextmanager
def _copy(bench: Bench) -> Iterator[_Copy]:
    copy = _Copy(bench.folder / "copy", f"bench-{uuid.uuid4().hex[:8]}/")
    for path in files():
        target = copy.root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    try:
        yield copy
    finally:
        made = docker.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
        if ours := [name for name in made if name.startswith(copy.prefix)]:
            docker.run("image", "rm", "--force", *ours, timeout_s=300)
        shutil.rmtree(copy.root)
