"""The first-party import closure of entry modules inside one folder.

It is computed anew from the folder as it is now. A new file that takes the place of a third-party or a missing module
is therefore found, because the name is looked up here first, every time. Only what is read from a file's text is
remembered, by the text's digest. Modules are source files; compiled extensions are declared as `files`.

An import by a name that is known only when it runs takes in all of the package around it. A module of yet another
package, imported so, must be declared as an `entry`; forgotten, it is missing in the image, where the build loads it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ci.images.folders import Folder, Kind, python_files
from ci.images.imports import Imports

Reader = Callable[[str], Imports]  # a file's path in the folder -> what it imports


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """`files`: modules and the links to them, as paths in the folder. `via`: module -> who imported it first."""

    files: frozenset[str]
    via: Mapping[str, str | None]  # dotted names; None: an entry
    paths: Mapping[str, str]  # dotted name -> file
    notes: tuple[str, ...] = ()

    def chain(self, path: str) -> list[str]:
        """How a file came in: entry module, ..., its own module; empty if it did not."""
        module = next((name for name, file in self.paths.items() if file == path), None)
        chain = list[str]()
        while module is not None and module not in chain:
            chain.append(module)
            module = self.via.get(module)
        return chain[::-1]


def trace(folder: Folder, entries: Iterable[str], read: Reader) -> Closure:
    """Everything that importing `entries` may open in `folder`."""
    walk = _Walk(folder, read)
    for entry in sorted(entries):
        walk.name(entry, None)
    walk.run()
    return Closure(
        files=frozenset(walk.files), via=walk.via, paths=walk.paths, notes=tuple(dict.fromkeys(sorted(walk.notes)))
    )


class _Walk:
    def __init__(self, folder: Folder, read: Reader) -> None:
        self.folder = folder
        self.read = read
        self.files = set[str]()
        self.via = dict[str, str | None]()
        self.paths = dict[str, str]()
        self.notes = list[str]()
        self._ahead = deque[str]()
        self._packages = set[str]()
        self._named = dict[str, bool]()

    def run(self) -> None:
        while self._ahead:
            module = self._ahead.popleft()
            self._follow(module, self.read(self.paths[module]))

    def name(self, dotted: str, importer: str | None) -> bool:
        """Take in a module and the packages it is in; False where this folder has no such module."""
        if dotted not in self._named:
            package = dotted.rpartition(".")[0]
            if package:
                self.name(package, importer)
            self._named[dotted] = self._module(dotted, importer)
        return self._named[dotted]

    def _module(self, dotted: str, importer: str | None) -> bool:
        if dotted in self.via:
            return True
        place = dotted.replace(".", "/")
        package = self.folder.locate(place)
        inside = self.folder.locate(f"{place}/__init__.py") if package.kind is Kind.FOLDER else package
        found = (
            inside if package.kind is Kind.FOLDER and inside.kind is Kind.FILE else self.folder.locate(f"{place}.py")
        )
        if found is inside:
            self._packages.add(dotted)
        elif found.kind is not Kind.FILE:
            if package.kind is Kind.FOLDER:  # a namespace package: a folder alone
                self.files.update(package.links)
                self._packages.add(dotted)
                return True
            return False
        self.files.update(found.links, (found.path,))
        self.via[dotted] = importer
        self.paths[dotted] = found.path
        self._ahead.append(dotted)
        return True

    def _follow(self, module: str, imports: Imports) -> None:
        for name in imports.plain:
            self.name(name, module)
        for level, base, names in imports.froms:
            package = self._absolute(module, level, base)
            if package and self.name(package, module):
                for name in names:
                    self.name(f"{package}.{name}", module)
        for level, base in imports.stars:
            package = self._absolute(module, level, base)
            if package and self.name(package, module) and package in self.paths:
                exported = self.read(self.paths[package]).exported
                for name in exported or ():
                    self.name(f"{package}.{name}", module)
                if exported is None and package in self._packages:
                    self._widen(package, module, f"{self._where(package)}: its __all__ is made when it runs")
        for line, why in imports.unknown:
            around = module if module in self._packages else module.rpartition(".")[0]
            self._widen(around, module, f"{self._where(module)}:{line}: {why}")

    def _absolute(self, module: str, level: int, base: str) -> str | None:
        """The name that a relative import means; None above the top, where Python fails as well."""
        if not level:
            return base
        parts = module.split(".")
        drop = level - (module in self._packages)
        if drop >= len(parts):
            return None
        return ".".join([*parts[: len(parts) - drop], *filter(None, [base])])

    def _widen(self, package: str, importer: str, why: str) -> None:
        """Take in the whole of a package, because any of it may be imported."""
        for path in python_files(self.folder, package.replace(".", "/")):
            module = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            if module != "__init__":
                self._module(module, importer)
        self.notes.append(f"{why}; all of {package or self.folder.name} goes in")

    def _where(self, module: str) -> str:
        return f"{self.folder.name}/{self.paths[module]}"
