"""The locked requirements: which there are, what goes into each, and whether they are in step with pyproject.toml.

Each lock is compiled with hashes, once for every supported Python and platform. It carries a digest of what it was
compiled from, so that the check needs neither network nor compiler. The members themselves are never locked: they are
installed as the wheels built from this tree.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci.workspace import ROOT, manifest, read_toml

FOLDER = "requirements"
_COMPILE = (
    "uv pip compile - --universal --generate-hashes --no-emit-index-url --no-emit-find-links "
    "--no-header --no-annotate --quiet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One file: the dependencies of `members` (with their extras) and of the workspace's `groups`."""

    name: str
    use: str
    members: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


LOCKS = (
    Lock(name="base", use="rpa-core as another project installs it", members=("core",)),
    Lock(name="runtime", use="what the images run", members=("core[http,prefect]", "flows")),
    Lock(name="core", use="rpa-core alone, under test", members=("core[http,prefect]",), groups=("test",)),
    Lock(
        name="flows", use="rpa-flows with core, under test", members=("core[http,prefect]", "flows"), groups=("test",)
    ),
    Lock(
        name="testkit",
        use="rpa-testkit with core, under test",
        members=("core[http]", "testkit[docker]"),
        groups=("test",),
    ),
    Lock(
        name="test",
        use="everything, under test",
        members=("core[http,prefect]", "flows", "testkit[docker]"),
        groups=("test", "tasks"),
    ),
    Lock(
        name="peers",
        use="everything, beside the other queues it is measured against",
        members=("core[http,prefect]", "flows", "testkit[docker]"),
        groups=("test", "tasks", "peers"),
    ),
    Lock(
        name="prefect",
        use="everything, beside a real Prefect server",
        members=("core[http,prefect]", "flows[prefect]", "testkit[docker]"),
        groups=("test", "tasks", "prefect"),
    ),
    Lock(
        name="typing",
        use="the type checker",
        members=("core[http,prefect]", "flows", "testkit[docker]"),
        groups=("typing", "build"),
    ),
    Lock(name="debug", use="what development images have besides", groups=("debug",)),
    Lock(name="tasks", use="what invoke's tasks import", groups=("tasks",)),
    Lock(name="lint", use="the linter and the workspace's own tests", groups=("lint",)),
    Lock(name="build", use="building the wheels", groups=("build",)),
)


def inputs(lock: Lock, root: Path = ROOT) -> list[str]:
    """The requirements that `lock` is compiled from, sorted; the workspace's own members are left out."""
    groups = read_toml(root / "pyproject.toml")["dependency-groups"]
    found = set[str]()
    for member in lock.members:
        found.update(_member_requirements(member, root))
    for group in lock.groups:
        found.update(_group_requirements(group, groups))
    return sorted(line for line in found if not re.match(r"rpa-(core|flows|testkit)\b", line))


def digest(lock: Lock, root: Path = ROOT) -> str:
    """Stands in the lock's first line."""
    return hashlib.sha256("\n".join([*inputs(lock, root), _pythons(root)]).encode()).hexdigest()


def stale(root: Path = ROOT) -> list[str]:
    """The locks that are missing, or were compiled from something else than pyproject.toml says now."""
    return [lock.name for lock in LOCKS if f"inputs sha256:{digest(lock, root)}" not in _first_line(_path(lock, root))]


def compile_all(root: Path = ROOT, *, upgrade: bool = False) -> None:
    """Write every lock. Without `upgrade`, versions that still fit stay as they are."""
    if shutil.which("uv") is None:
        raise SystemExit("compiling locks needs uv: pip install uv")
    for lock in LOCKS:
        path = _path(lock, root)
        path.parent.mkdir(exist_ok=True)
        command = [*_COMPILE.split(), "--python-version", _pythons(root), "--output-file", str(path)]
        text = "\n".join(inputs(lock, root))
        # Not in the workspace's folder: there uv would resolve its members as editable paths.
        command += ["--upgrade"] if upgrade else []
        subprocess.run(command, input=text, text=True, check=True, cwd=path.parent, stdout=subprocess.DEVNULL)
        path.write_text(_header(lock, root) + _clean(path.read_text()), encoding="utf-8")
        print(f"{path.relative_to(root)}: {path.read_text().count('==')} packages")


def _member_requirements(member: str, root: Path) -> list[str]:
    name, _, wanted = member.rstrip("]").partition("[")
    project = manifest(name, root)["project"]
    extras = project.get("optional-dependencies", {})
    return [*project.get("dependencies", ()), *(line for extra in wanted.split(",") if extra for line in extras[extra])]


def _group_requirements(name: str, groups: dict[str, list[Any]]) -> Iterator[str]:
    for entry in groups[name]:
        if isinstance(entry, dict):
            yield from _group_requirements(entry["include-group"], groups)
        else:
            yield entry


def _pythons(root: Path) -> str:
    required = read_toml(root / "pyproject.toml")["project"]["requires-python"]
    return str(required).removeprefix(">=")


def _header(lock: Lock, root: Path) -> str:
    return f"# {lock.use}. Written by `invoke deps.lock`; inputs sha256:{digest(lock, root)}\n"


def _clean(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(("#", "--")))


def _path(lock: Lock, root: Path) -> Path:
    return root / FOLDER / f"{lock.name}.txt"


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0] if path.exists() else ""


def main(arguments: Iterable[str] | None = None) -> int:
    """`python -m ci.locks compile|check`."""
    parser = argparse.ArgumentParser(prog="python -m ci.locks", description=__doc__)
    parser.add_argument("what", choices=["compile", "check"])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.what == "compile":
        compile_all(upgrade=options.upgrade)
        return 0
    out_of_step = stale()
    for name in out_of_step:
        print(f"{FOLDER}/{name}.txt is out of step with pyproject.toml; run: invoke deps.lock", file=sys.stderr)
    return 1 if out_of_step else 0


if __name__ == "__main__":
    raise SystemExit(main())
