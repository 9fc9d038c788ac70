"""What would be inside each image, found by brute force: nothing here comes from `ci.images`.

The tree is read as it is. Imports are read from compiled bytecode, where `ci.images` reads syntax trees; markers are
evaluated by hand. It is slow, straight and remembers only what a text compiles to.
"""

# Paths are plain texts where they are many.
# ruff: noqa: PTH112, PTH113, PTH114, PTH115, PTH116, PTH118, PTH120, PTH123, PTH208

from __future__ import annotations

import ast
import fnmatch
import hashlib
import itertools
import os
import re
import tomllib
import warnings
from collections.abc import Callable
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path
from types import CodeType
from typing import Any, TypeVar

T = TypeVar("T")
Inside = tuple[Any, ...]
_JUNK = ("__pycache__", "*.py[cod]", "*~", ".*.sw?", ".#*", "#*#", "*.egg-info", ".DS_Store")
_MACHINE = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}


_LOOKS = list[Any]()


def _of_this_look(function: Callable[..., T]) -> Callable[..., T]:
    """Remember answers within one call of `inside`."""
    remembering = cache(function)
    _LOOKS.append(remembering)
    return remembering


class Refused(Exception):
    """No image can be made of this tree."""


def inside(root: Path, environment: str, base_ids: dict[str, str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """image -> (digest of everything that decides its bytes, context path -> content). Raises Refused."""
    for remembered in _LOOKS:
        remembered.cache_clear()
    text = tomllib.loads((root / "docker/images.toml").read_text())
    flows = tomllib.loads((root / "packages/flows/pyproject.toml").read_text())["project"]
    found = dict[str, tuple[str, dict[str, Any]]]()
    for name, image in text["images"].items():  # declared parents first
        more = image.get(environment, {})
        files = dict[str, Any]()
        for tree in image.get("trees", []) + more.get("trees", []):
            for path in _tree(root / tree["source"], tree):
                files[f"{tree['to']}/{path}"] = _content(f"{root}/{tree['source']}/{path}")
        files["Dockerfile"] = _digest((root / image["dockerfile"]).read_bytes())
        for place, lock in (image.get("locks", {}) | more.get("locks", {})).items():
            files[place] = tuple(_slice((root / lock).read_text(), text["python"], text["platform"]))
        if image.get("flows"):
            points = {flow: flows["entry-points"]["rpa.flows"][flow] for flow in image["flows"]}
            files["dist-info"] = (flows["name"], flows["version"], tuple(sorted(points.items())))
            for value in points.values():
                module = value.split(":")[0].replace(".", "/")
                if f"flow/{module}.py" not in files and f"flow/{module}/__init__.py" not in files:
                    raise Refused(value)
        whole: Inside = (
            text["python"],
            text["platform"],
            image.get("target"),
            more.get("target"),
            sorted({**image.get("args", {}), **more.get("args", {})}.items()),
            sorted((base, base_ids[reference]) for base, reference in image.get("bases", {}).items()),
            [found[parent][0] for parent in image.get("parents", [])],
            sorted(files.items()),
        )
        found[name] = hashlib.sha256(repr(whole).encode("utf-8", "surrogateescape")).hexdigest(), files
    return found


def _content(path: str) -> tuple[str, str, bool]:
    if os.path.islink(path):
        return "link", os.readlink(path), False
    if not os.path.isfile(path):
        raise Refused(path)
    with open(path, "rb") as file:
        return "file", _digest(file.read()), bool(os.stat(path).st_mode & 0o100)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tree(source: Path, tree: dict[str, Any]) -> set[str]:
    if not source.is_dir():
        raise Refused(source)
    found = set[str]()
    paths = _logical(source)
    for pattern in tree.get("files", []):
        parts = pattern.split("/")
        fixed = "/".join(itertools.takewhile(lambda part: not re.search(r"[*?\[]", part), parts))
        if not os.path.lexists(source / fixed):
            raise Refused(pattern)
        matched = [path for path in paths if _wild(parts).fullmatch(path)]
        if not matched and fixed == pattern:
            raise Refused(pattern)
        for end in range(1, len(parts)):  # links to folders on the way
            matched += [
                path for path in paths if _wild(parts[:end]).fullmatch(path) and os.path.isdir(f"{source}/{path}")
            ]
        for path in matched:
            found |= _steps(source, path)
    for entry in tree.get("entry", []):
        if not _file_of(source, entry):
            raise Refused(entry)
    return found | _imported(source, tree.get("entry", []))


@cache
def _wild_text(pattern: str) -> re.Pattern[str]:
    parts = [
        ".*" if part == "**" else fnmatch.translate(part)[4:-3].replace(".*", "[^/]*") for part in pattern.split("/")
    ]
    return re.compile("/".join(parts), re.DOTALL)


def _wild(parts: list[str]) -> re.Pattern[str]:
    return _wild_text("/".join(parts))


@cache
def _junk(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _JUNK)


@_of_this_look
def _logical(source: Path) -> list[str]:
    """Every path to a file or a link, also through links to folders of the source; no folder inside itself."""
    found = list[str]()

    def walk(folder: str, above: tuple[str, ...], inner: str) -> None:
        for name in os.listdir(folder):
            path = f"{folder}/{name}"
            if not _junk(name):
                is_link, is_folder = os.path.islink(path), os.path.isdir(path)
                real = os.path.realpath(path) if is_link else f"{above[-1]}/{name}"
                if is_link or not is_folder:
                    found.append(f"{inner}{name}")
                if is_folder and real not in above and not (is_link and _is_foreign(source, path)):
                    walk(path, (*above, real), f"{inner}{name}/")

    walk(str(source), (os.path.realpath(source),), "")
    return found


def _is_foreign(source: Path, path: str | Path) -> bool:
    if os.path.islink(path) and os.readlink(path).startswith("/"):
        return True
    return not f"{os.path.realpath(path)}/".startswith(f"{os.path.realpath(source)}/")


@_of_this_look
def _steps(source: Path, path: str) -> frozenset[str]:
    """The links on a path, and the file that it leads to."""
    found = set[str]()
    base, here, ahead = f"{source}/", "", path.split("/")
    while ahead:
        here = os.path.normpath(os.path.join(here, ahead.pop(0)))
        if os.path.islink(base + here):
            if _is_foreign(source, base + here):
                raise Refused(here)
            if here in found:  # a link to itself
                return frozenset(found)
            found.add(here)
            ahead = os.readlink(base + here).split("/") + ahead
            here = os.path.dirname(here)
    if os.path.isfile(base + here) and not _junk(here.rpartition("/")[2]):
        found.add(here)
    return frozenset(found)


@_of_this_look
def _file_of(source: Path, module: str) -> str | None:
    """The file of a module, as a path in `source`, perhaps through links; None where there is none."""
    place = module.replace(".", "/")
    candidates = (f"{place}/__init__.py", f"{place}.py")
    return next((candidate for candidate in candidates if os.path.isfile(f"{source}/{candidate}")), None)


def _imported(source: Path, entries: list[str]) -> set[str]:
    """The files that the entries may import, function bodies and all."""
    ahead, done, found = [one for entry in entries for one in _prefixes(entry)], set[str](), set[str]()
    while ahead:
        module = ahead.pop()
        if module in done:
            continue
        done.add(module)
        path = _file_of(source, module)
        if path is None:
            if os.path.isdir(f"{source}/{module.replace('.', '/')}"):
                found |= _steps(source, module.replace(".", "/"))
            continue
        found |= _steps(source, path)
        package = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
        for name, whole in _names((source / path).read_bytes(), package):
            if name.endswith(".*"):
                ahead += _starred(source, name.removesuffix(".*"))
            ahead += _all_of(source, name) if whole else _prefixes(name)
    return found


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)] if name else []


def _starred(source: Path, package: str) -> list[str]:
    """The modules that `from package import *` imports beside the package itself."""
    path = _file_of(source, package)
    if path is None or not path.endswith("/__init__.py"):
        return []
    text = (source / path).read_text()
    if "__all__" not in text:
        return []
    literal = re.search(r'(?m)^__all__ = \[([\w", ]*)\]$', text)
    if literal is None or text.count("__all__") > 1:
        return _all_of(source, package)
    return [f"{package}.{name}" for name in re.findall(r'"(\w+)"', literal[1])]


def _all_of(source: Path, package: str) -> list[str]:
    """Every module below a package."""
    place = package.replace(".", "/")
    below = [path for path in _logical(source) if not place or path.startswith(f"{place}/")]
    for path in below:
        if os.path.islink(f"{source}/{path}") and _is_foreign(source, f"{source}/{path}"):
            raise Refused(path)
    modules = [path.removesuffix(".py").replace("/", ".") for path in below if path.endswith(".py")]
    return [module.removesuffix(".__init__") for module in modules]


@cache
def _names(source: bytes, package: str) -> list[tuple[str, bool]]:
    """(module, whether all of it) that a text imports from within `package`."""
    found = list[tuple[str, bool]]()
    for kind, level, name, names in _operations(source):
        if kind == "all":
            found.append((package, True))
            continue
        base = name
        if level:
            parts = package.split(".") if package else []
            if level > len(parts):
                continue
            base = ".".join([*parts[: len(parts) - level + 1], *filter(None, [name])])
        found.append((base, False))
        found += [(f"{base}.{one}", False) for one in names]
    return found


@cache
def _operations(source: bytes) -> tuple[tuple[str, int, str, tuple[str, ...]], ...]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
            code = compile(source, "?", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return (("all", 0, "", ()),)
    found = list[tuple[str, int, str, tuple[str, ...]]]()
    codes = [code]
    while codes:
        one = codes.pop()
        codes += [constant for constant in one.co_consts if isinstance(constant, CodeType)]
        for what, arguments in ModuleFinder().scan_opcodes(one):
            if what == "absolute_import":
                found.append(("import", 0, arguments[1], tuple(arguments[0] or ())))
            elif what == "relative_import":
                found.append(("import", arguments[0], arguments[2], tuple(arguments[1] or ())))
    text = source.decode()
    for call in re.finditer(r"(?:import_module|resources\.files)\(([^)]*)\)", text):
        literal = re.fullmatch(r'"([\w.]+)"', call[1])
        found.append(("import", 0, literal[1], ()) if literal else ("all", 0, "", ()))
    return tuple(found)


def _slice(lock: str, python: str, platform: str) -> list[tuple[str, str, tuple[str, ...]]]:
    text = re.sub(r"(?m)^\s*#.*\n?", "", lock).replace("\\\n", " ")
    found = dict[str, tuple[str, str, tuple[str, ...]]]()
    for line in filter(str.strip, text.splitlines()):
        pin, *hashes = line.split("--hash=")
        pin, _, marker = pin.partition(";")
        name, version = pin.strip().split("==")
        if not marker.strip() or _holds(marker.strip(), python, platform):
            found[name] = (name, version, tuple(sorted(one.strip() for one in hashes)))
    return sorted(found.values())


class _Version(tuple[int, ...]):
    """Compared as a version: the numbers in a text."""

    @classmethod
    def of(cls, text: str) -> _Version:
        return cls(int(part) for part in text.split("."))


def _holds(marker: str, python: str, platform: str) -> bool:
    expression = re.sub(r"(python_version|python_full_version) (\S+) '([\d.]+)'", r"\1 \2 V('\3')", marker)
    names = {
        "V": _Version.of,
        "python_version": _Version.of(python),
        "python_full_version": _Version.of(f"{python}.0"),
        "sys_platform": "linux",
        "platform_machine": _MACHINE[platform],
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    return bool(eval(expression, {"__builtins__": {}}, names))
