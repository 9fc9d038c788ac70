"""Building images: deciding that nothing is to be done, one edit, what is in a layer; beside `docker compose build`.

Both sides build the same four images from a copy of the workspace: `invoke build.selective`, and Compose with the
Dockerfiles of benchmarks/baseline/images, as one would write them by hand. Processes are timed as a whole.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from ci import docker
from ci.build_secrets import build_secrets
from ci.images.declare import load

from benchmarks.bench import Bench
from benchmarks.copies import Copy, copied
from benchmarks.figures import Bar, Figure, at_most, of

_IMAGES = ("rpa-base", "rpa-flow1", "rpa-flow2", "rpa-flow3")
_FLOW_FILE = "packages/flows/src/rpa_flows/rpa2/flow.py"
_CORE_FILE = "packages/core/src/rpa_core/errors.py"
_BASELINE = "benchmarks/baseline/images/compose.yml"
_ENVIRONMENT = "production"
_SELECTIVE = (sys.executable, "-m", "invoke", "build.selective", "--environment", _ENVIRONMENT)
_COMPOSE = ("docker", "compose", "--project-directory", ".", "--file", _BASELINE, "build")
# How the hand-written side takes the sources: folder by folder, or all at once, as many projects do.
_BY_FOLDER, _WHOLE = "Dockerfile", "whole.Dockerfile"
_MB = 1_000_000


def measure(bench: Bench) -> Iterator[Figure]:
    """Raises RuntimeError where there is no engine, or a command fails."""
    with copied(bench.folder) as copy:
        for name, path in build_secrets(copy.root).items():
            copy.variables[f"BASELINE_{name.upper()}"] = str(path)
        bench.say(f"first build of four images: {copy.seconds(*_SELECTIVE):.1f} s")
        if built := copy.to_build(_ENVIRONMENT):
            raise RuntimeError(f"nothing changed, but it would build {built}")
        yield _nothing(bench, copy, "nothing changed", _BY_FOLDER, at_most(0.7))
        yield _nothing(bench, copy, "the same, they COPY the whole workspace", _WHOLE, None)
        more = bench.size(10_000, 200)
        _add_files(copy.root, more)
        yield _nothing(bench, copy, f"nothing changed, {more:,} more files", _BY_FOLDER, None)
        yield _nothing(bench, copy, "the same, they COPY the whole workspace too", _WHOLE, at_most(0.15))
        shutil.rmtree(copy.root / "more")
        samples = [_edited(copy, _FLOW_FILE, ["rpa-flow2"]) for _ in range(bench.runs)]
        yield of("one flow file edited: only that image", samples, "s", at_most(2.5), note="built, verified, tagged")
        samples = [_edited(copy, _CORE_FILE, list(_IMAGES)) for _ in range(bench.runs)]
        yield of("one core file edited: base and dependants", samples, "s", at_most(6), note="four images")
        yield from _sizes(copy)


def _nothing(bench: Bench, copy: Copy, name: str, dockerfile: str, bar: Bar | None) -> Figure:
    """Alternating, so that both sides see the same machine."""
    copy.variables["BASELINE_DOCKERFILE"] = dockerfile
    bench.say(f"{name}: docker compose build once: {copy.seconds(*_COMPOSE):.1f} s")
    pairs = [(copy.seconds(*_SELECTIVE), copy.seconds(*_COMPOSE)) for _ in range(bench.runs)]
    ours, theirs = [one for one, _ in pairs], [other for _, other in pairs]
    note = f"{of('', ours, 's').value:.2f} s, docker compose build {of('', theirs, 's').value:.2f} s"
    ratios = [one / other for one, other in pairs]
    return of(name, ratios, "x", bar, note=note, selective_s=ours, compose_s=theirs)


def _edited(copy: Copy, path: str, expected: list[str]) -> float:
    copy.edit(path)
    if (built := copy.to_build(_ENVIRONMENT)) != expected:
        raise RuntimeError(f"{path} edited: {built} would be built, not {expected}")
    return copy.seconds(*_SELECTIVE)


def _sizes(copy: Copy) -> Iterator[Figure]:
    python = load(environment=_ENVIRONMENT).images["rpa-base"].bases["python"]
    base = _size(f"{copy.prefix}rpa-base:{_ENVIRONMENT}")
    yield of("rpa-base over its python base", [(base - _size(python)) / _MB], "MB", at_most(120))
    layers = {name: (_size(f"{copy.prefix}{name}:{_ENVIRONMENT}") - base) / _MB for name in _IMAGES[1:]}
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
