"""What goes into each image: the files of its build context, its manifest, its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ci.errors import ToolError
from ci.images import closure, digests, imports, manifest, slices
from ci.images.declare import FILE, FLOWS, Registry, registry
from ci.images.folders import Folder, Kind
from ci.images.globs import is_literal, path_pattern
from ci.images.model import Contents, Declaration, Entry, Image, Tree
from ci.images.remembered import Remembered
from ci.workspace import ROOT


def gather(declaration: Declaration, *, root: Path = ROOT, base_ids: Mapping[str, str]) -> dict[str, Contents]:
    """Every image's contents, parents first. `base_ids`: external reference -> image id.

    Raises ToolError for what cannot go into an image: a file that is missing, special or unreadable, a link out of its
    folder, two trees with one place.
    """
    return Gatherer(declaration, root=root).contents(base_ids)


class Gatherer:
    """One look at the workspace: every file is examined once, whatever is asked."""

    def __init__(self, declaration: Declaration, *, root: Path = ROOT) -> None:
        self.declaration = declaration
        self.root = root
        self._remembered = Remembered(root)
        self._folders = dict[str, Folder]()
        self._closures = dict[Tree, closure.Closure]()
        self._read = dict[str, imports.Imports]()
        self._registry: Registry | None = None
        self._trees = dict[Tree, tuple[tuple[Entry, ...], tuple[str, ...]]]()

    def look(self) -> None:
        """Examine the files of every tree now; `contents` then needs only what the engine knows."""
        for image in self.declaration.images.values():
            for tree in image.trees:
                self._tree(tree)

    def contents(self, base_ids: Mapping[str, str]) -> dict[str, Contents]:
        """Every image's contents, parents first."""
        made = dict[str, Contents]()
        for image in self.declaration.images.values():
            for reference in image.bases.values():
                if reference not in base_ids:
                    raise ToolError(
                        f"{image.name} is built on {reference}, which is not here; "
                        f"run: docker pull {reference}, or where no registry is reached: invoke build.bootstrap"
                    )
            made[image.name] = self._image(image, base_ids, {name: made[name].key for name in image.parents})
        self._remembered.save()
        return made

    def _image(self, image: Image, base_ids: Mapping[str, str], parent_keys: Mapping[str, str]) -> Contents:
        context = _Context(image.name)
        notes = list[str]()
        dockerfile = self._copied("Dockerfile", image.dockerfile, None)
        context.add(replace(dockerfile, executable=False), "its Dockerfile")
        for tree in image.trees:
            found, said = self._tree(tree)
            notes.extend(said)
            for entry in found:
                context.add(entry, f"trees with source {tree.source}")
        locks = {path: self._slice(lock) for path, lock in image.locks.items()}
        for path, packages in locks.items():
            context.add(_written(path, slices.text(packages), None), f"locks.{path}")
        if image.flows:
            self._register(image, context)
        entries = tuple(context.entries[path] for path in sorted(context.entries))
        made = manifest.make(
            image,
            self.declaration,
            entries=entries,
            locks=locks,
            base_ids=base_ids,
            parent_keys=parent_keys,
        )
        return Contents(image=image, entries=entries, manifest=made, key=manifest.key(made), notes=tuple(notes))

    def _tree(self, tree: Tree) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """The entries of a tree, and what a person should know."""
        if tree not in self._trees:
            notes = list[str]()
            paths = sorted(self.paths(tree, notes))
            self._trees[tree] = tuple(self._entry(tree, path) for path in paths), tuple(notes)
        return self._trees[tree]

    def paths(self, tree: Tree, notes: list[str]) -> set[str]:
        """The files and links of a tree, relative to its source."""
        folder = self._folder(tree.source)
        found = set[str]()
        for pattern in tree.files:
            matched = folder.match(pattern)
            if not matched and is_literal(pattern):
                raise ToolError(f"{FILE}: {tree.source}: files: there is no file {pattern}; create it or mend the line")
            if not matched:
                notes.append(f"{tree.source}/{pattern} matches no file")
            found |= matched
        for pattern in tree.exclude:
            found = {path for path in found if not path_pattern(pattern).fullmatch(path)}
        if tree.entry:
            reached = self.closure(tree)
            notes.extend(reached.notes)
            found |= reached.files
        return found

    def closure(self, tree: Tree) -> closure.Closure:
        """The import closure of a tree's entries."""
        if tree not in self._closures:
            folder = self._folder(tree.source)
            self._closures[tree] = closure.trace(
                folder, tree.entry, lambda path: self._imports(f"{tree.source}/{path}")
            )
        return self._closures[tree]

    def chain(self, image: Image, path: str) -> list[str]:
        """The imports that bring a file of the context in: entry module, ..., its own; empty if none do."""
        for tree in image.trees:
            inner = path.removeprefix(f"{tree.to}/")
            if tree.entry and inner != path and (chain := self.closure(tree).chain(inner)):
                return chain
        return []

    def _imports(self, path: str) -> imports.Imports:
        if path not in self._read:
            kept = self._remembered.derived("imports 1", path, lambda data: asdict(imports.read(data)))
            self._read[path] = _imports(kept)
        return self._read[path]

    def _slice(self, lock: str) -> tuple[slices.Package, ...]:
        python, platform = self.declaration.python, self.declaration.platform

        def cut(data: bytes) -> list[dict[str, Any]]:
            return [asdict(one) for one in slices.cut(data.decode(), file=lock, python=python, platform=platform)]

        kept = self._remembered.derived(f"slice 1 {python} {platform}", lock, cut)
        return tuple(
            slices.Package(
                name=one["name"], version=one["version"], extras=tuple(one["extras"]), hashes=tuple(one["hashes"])
            )
            for one in kept
        )

    def _entry(self, tree: Tree, path: str) -> Entry:
        at = f"{tree.at}/{path}" if tree.at else None
        context = f"{tree.to}/{path}"
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise ToolError(f"{tree.source}/{path!r}: its name is not UTF-8; rename it") from error
        folder = self._folder(tree.source)
        kind = folder.kind(path)
        if kind is Kind.SPECIAL:
            raise ToolError(f"{tree.source}/{path}: is a {kind.value}; no image can hold it: exclude or remove it")
        if kind is Kind.LINK:
            target = folder.target(path)
            return Entry(path=context, digest=digests.of_link(target), link=target, at=at)
        return self._copied(context, f"{tree.source}/{path}", at)

    def _copied(self, context: str, source: str, at: str | None) -> Entry:
        digest, executable = self._remembered.file(source)
        return Entry(path=context, digest=digest, executable=executable, source=self.root / source, at=at)

    def _register(self, image: Image, context: _Context) -> None:
        """The metadata by which Python finds an image's flows, and only those."""
        known = self._registry = self._registry or registry(self.root)
        tree = next(tree for tree in image.trees if tree.source == f"{FLOWS}/src")
        for flow in image.flows:
            module = known.flows[flow].partition(":")[0].replace(".", "/")
            if not {f"{tree.to}/{module}.py", f"{tree.to}/{module}/__init__.py"} & context.entries.keys():
                name = module.replace("/", ".")
                raise ToolError(
                    f'{FILE}: images.{image.name}: flow {flow} is {name}, which does not go in; entry = ["{name}"]'
                )
        folder = f"{known.name.replace('-', '_')}-{known.version}.dist-info"
        points = "".join(f"{flow} = {known.flows[flow]}\n" for flow in sorted(image.flows))
        texts = {
            "METADATA": f"Metadata-Version: 2.1\nName: {known.name}\nVersion: {known.version}\n",
            "entry_points.txt": f"[rpa.flows]\n{points}",
        }
        for name, text in texts.items():
            at = f"{tree.at}/{folder}/{name}" if tree.at else None
            context.add(_written(f"{tree.to}/{folder}/{name}", text, at), "flows")

    def _folder(self, source: str) -> Folder:
        if source not in self._folders:
            self._folders[source] = Folder(self.root, source)
        return self._folders[source]


class _Context:
    """The places of one build context, each with who fills it."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.entries = dict[str, Entry]()
        self._owners = dict[str, str]()
        self._folders = dict[str, str]()

    def add(self, entry: Entry, owner: str) -> None:
        above = ["/".join(parts[:end]) for parts in [entry.path.split("/")] for end in range(1, len(parts))]
        other = self._owners.get(entry.path) or self._folders.get(entry.path)
        other = other or next((self._owners[folder] for folder in above if folder in self._owners), None)
        if other:
            raise ToolError(
                f"{FILE}: images.{self.image}: {owner} and {other} both write {entry.path} in the build context; "
                "give one of them another `to`, or exclude the file from one"
            )
        self.entries[entry.path] = entry
        self._owners[entry.path] = owner
        self._folders |= dict.fromkeys(above, owner)


def _written(path: str, text: str, at: str | None) -> Entry:
    content = text.encode()
    return Entry(path=path, digest=digests.of_bytes(content), content=content, at=at)


def _imports(kept: dict[str, Any]) -> imports.Imports:
    exported = kept["exported"]
    return imports.Imports(
        plain=tuple(kept["plain"]),
        froms=tuple((level, base, tuple(names)) for level, base, names in kept["froms"]),
        stars=tuple((level, base) for level, base in kept["stars"]),
        exported=None if exported is None else tuple(exported),
        unknown=tuple((line, why) for line, why in kept["unknown"]),
    )
