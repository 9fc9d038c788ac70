"""Reads docker/images.toml for one environment, strictly: what is wrong is said here, before anything is built."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from ci.errors import ToolError
from ci.images import globs
from ci.images.model import Declaration, Image, Tree
from ci.images.reading import Table, is_name, nearest
from ci.images.slices import MACHINES
from ci.workspace import ROOT

FILE = "docker/images.toml"
FLOWS = "packages/flows"  # whose entry points `flows` names, and whose sources register them
_PER_ENVIRONMENT = ("target", "trees", "locks", "args", "bases")


def load(root: Path = ROOT, *, environment: str) -> Declaration:
    """The images of `environment`, parents first. ToolError names file, place and remedy of the first mistake."""
    top = Table(_toml(root / FILE, FILE), file=FILE, place="")
    python = top.text("python")
    if not re.fullmatch(r"3\.\d+(\.\d+)?", python):
        top.fail("python", f'"{python}" is not a Python version; write "3.13" or "3.13.2"')
    platform = top.text("platform")
    if platform not in MACHINES:
        top.fail("platform", f'"{platform}" is not known{nearest(platform, MACHINES)}')
    environments = top.texts("environments")
    if environment not in environments:
        raise ToolError(f'{FILE}: there is no environment "{environment}"{nearest(environment, environments)}')
    declared = top.raw("images", {})
    images = Table(declared, file=FILE, place="images")
    top.close()
    found = {name: _image(images, name, environments, environment, root) for name in declared}
    if not found:
        top.fail("images", "declares nothing; write a table [images.NAME]")
    _check_flows(found, root)
    return Declaration(
        environment=environment, python=python, platform=platform, images={name: found[name] for name in _order(found)}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What packages/flows/pyproject.toml says of itself."""

    name: str
    version: str
    flows: Mapping[str, str]  # flow -> "module:attribute"


def registry(root: Path = ROOT) -> Registry:
    """The package that has the flows."""
    file = f"{FLOWS}/pyproject.toml"
    project = Table(_toml(root / file, file).get("project", {}), file=file, place="project")
    groups = Table(project.raw("entry-points", {}), file=file, place="project.entry-points")
    return Registry(name=project.text("name"), version=project.text("version"), flows=groups.mapping("rpa.flows"))


def _toml(path: Path, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ToolError(f"{name}: cannot be read ({error.strerror}); it must be a file of the workspace") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ToolError(f"{name}: not TOML: {error}; mend that line") from error


def _image(images: Table, name: str, environments: Iterable[str], environment: str, root: Path) -> Image:
    table = Table(images.raw(name), file=FILE, place=f"images.{name}")
    if not is_name(name):
        table.fail("", "is no name for an image; use lower-case letters, digits, and single . _ - between them")
    title = table.text("title")
    dockerfile = table.path("dockerfile", table.text("dockerfile"))
    if not (root / dockerfile).is_file():
        table.fail("dockerfile", f"there is no file {dockerfile}{_like(root, dockerfile)}")
    parents, flows = table.texts("parents"), table.texts("flows")
    parts = [table]
    for each in environments:  # sections of other environments are checked as well: a mistake there is one today
        if table.has(each):
            section = Table(table.raw(each), file=FILE, place=f"images.{name}.{each}")
            _values(section, root)
            section.close(_PER_ENVIRONMENT)
            parts += [section] if each == environment else []
    merged = [_values(part, root) for part in parts]
    table.close([*environments, *_PER_ENVIRONMENT])
    return Image(
        name=name,
        title=title,
        environment=environment,
        dockerfile=dockerfile,
        trees=tuple(tree for one in merged for tree in one["trees"]),
        target=next((one["target"] for one in reversed(merged) if one["target"]), None),
        parents=parents,
        bases=_merge(one["bases"] for one in merged),
        locks=_merge(one["locks"] for one in merged),
        flows=flows,
        args=_merge(one["args"] for one in merged),
    )


def _values(table: Table, root: Path) -> dict[str, Any]:
    """What both an image and its section for an environment may say."""
    trees = table.raw("trees", [])
    if not isinstance(trees, list):
        table.fail("trees", 'must be a list of tables like [{ source = "...", to = "..." }]')
    locks = table.mapping("locks")
    for place, lock in locks.items():
        table.path("locks", place)
        if not (root / table.path("locks", lock)).is_file():
            table.fail(f"locks.{place}", f"there is no file {lock}{_like(root, lock)}; or run: invoke deps.lock")
    for base, reference in (bases := table.mapping("bases")).items():
        if re.search(r"\s", reference):
            table.fail(
                f"bases.{base}", f'"{reference}" is no image reference; write one like "python:3.13-slim-trixie"'
            )
    return {
        "target": table.text("target") if table.has("target") else (table.raw("target"), None)[1],
        "bases": bases,
        "locks": locks,
        "args": table.mapping("args"),
        "trees": [_tree(value, table, number, root) for number, value in enumerate(trees)],
    }


def _tree(value: object, owner: Table, number: int, root: Path) -> Tree:
    table = Table(value, file=FILE, place=f"{owner.place}.trees[{number}]")
    source = table.path("source", table.text("source"))
    to = table.path("to", table.text("to"))
    at = table.text("at") if table.has("at") else (table.raw("at"), None)[1]
    if at is not None and (not at.startswith("/") or ".." in at.split("/") or at != at.rstrip("/")):
        table.fail("at", f'"{at}" must be an absolute path in the image like "/app/flow"')
    files, exclude, entry = table.texts("files"), table.texts("exclude"), table.texts("entry")
    table.close()
    folder = root / source
    if not folder.is_dir():
        table.fail("source", f"there is no folder {source}{_like(root, source)}")
    if not files and not entry:
        table.fail("", "has neither files nor entry, so nothing of it would get in; give one of them")
    for key, patterns in (("files", files), ("exclude", exclude)):
        for pattern in patterns:
            table.path(key, pattern)
            if problem := globs.problem(pattern):
                table.fail(key, f'"{pattern}" {problem}')
    for pattern in files:
        start = folder.joinpath(*globs.fixed(pattern))
        if not (start.exists() or start.is_symlink()):
            missing = f"{source}/{'/'.join(globs.fixed(pattern))}"
            table.fail("files", f'"{pattern}": there is no {missing}{_like(root, missing)}')
    for module in entry:
        _check_entry(table, folder, source, module)
    return Tree(source=source, to=to, at=at, files=files, exclude=exclude, entry=entry)


def _check_entry(table: Table, folder: Path, source: str, module: str) -> None:
    if not all(part.isidentifier() for part in module.split(".")):
        table.fail("entry", f'"{module}" is not the name of a module; write one like "rpa_flows.rpa1"')
    place = folder.joinpath(*module.split("."))
    if not ((place / "__init__.py").is_file() or place.with_name(f"{place.name}.py").is_file()):
        siblings = _modules(place.parent, module.rpartition(".")[0])
        table.fail("entry", f'there is no module "{module}" in {source}{nearest(module, siblings)}')


def _modules(folder: Path, package: str) -> list[str]:
    """The modules in a folder, by their names under `package`; for a suggestion."""
    if not folder.is_dir():
        return []
    names = {path.stem if path.is_file() else path.name for path in folder.iterdir() if path.suffix in ("", ".py")}
    return sorted(f"{package}.{name}".lstrip(".") for name in names if name.isidentifier() and name[:2] != "__")


def _like(root: Path, wanted: str) -> str:
    """A file or folder beside the wanted one that is spelt alike."""
    folder = (root / wanted).parent
    beside = (
        [f"{wanted.rpartition('/')[0]}/{one.name}".lstrip("/") for one in folder.iterdir()] if folder.is_dir() else []
    )
    hint = nearest(wanted, beside)
    return hint if "did you mean" in hint else ""


def _merge(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {key: value for part in parts for key, value in part.items()}


def _order(images: Mapping[str, Image]) -> list[str]:
    """Parents first; otherwise as declared."""
    for image in images.values():
        for parent in image.parents:
            if parent not in images:
                hint = nearest(parent, set(images) - {image.name})
                raise ToolError(f'{FILE}: images.{image.name}.parents: "{parent}" is not declared{hint}')
    try:
        return list(TopologicalSorter({name: image.parents for name, image in images.items()}).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise ToolError(f"{FILE}: images.{error.args[1][0]}.parents: a circle, {circle}; one must go") from error


def _check_flows(images: Mapping[str, Image], root: Path) -> None:
    if not any(image.flows for image in images.values()):
        return
    known = registry(root).flows
    for image in images.values():
        place = f"{FILE}: images.{image.name}.flows"
        for flow in image.flows:
            if flow not in known:
                raise ToolError(f'{place}: {FLOWS}/pyproject.toml has no flow "{flow}"{nearest(flow, known)}')
        trees = [tree for tree in image.trees if tree.source == f"{FLOWS}/src"]
        if image.flows and len(trees) != 1:
            raise ToolError(f"{place}: needs one tree with source {FLOWS}/src to register them in; it has {len(trees)}")
