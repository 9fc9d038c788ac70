"""Builds what a plan says: one `docker buildx bake`, a look into each image, and only then its tags.

What a run that was killed leaves, at each step:

| killed | there is | the next run |
|---|---|---|
| while contexts are written | files, each of them complete | compares every one again |
| while bake runs | nothing, or a finished image with its key and no tag | waits for the builder's end, looks into it |
| while images are looked into | finished images with their keys and no tag | looks into them |
| while tags are put | some staying tags, moving tags elsewhere | puts the rest |

So the staying tag means: built and looked into. An image that has a key and no staying tag is not trusted yet.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from ci import docker
from ci.build_secrets import build_secrets
from ci.errors import ToolError
from ci.images import bakefile, builder, contexts, labels, manifest, timings
from ci.images.model import IMAGE_LABEL, KEY_LABEL, Action, Contents, Plan, key_tag, tag
from ci.images.progress import Step
from ci.images.verify import verify as look_into
from ci.workspace import ROOT

_SHOWN = 12  # differences of one image
_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What was done. `ids` has the engine's id of every image of the plan."""

    built: tuple[str, ...]
    tagged: tuple[str, ...]
    seconds: float
    steps: tuple[Step, ...]
    ids: Mapping[str, str]
    rebuilt: tuple[str, ...] = ()  # those that were wrong inside, and right when built without the cache


def build(
    plan: Plan,
    *,
    prefix: str,
    root: Path = ROOT,
    no_cache: bool = False,
    verify: bool = True,
    out: TextIO | None = None,
) -> BuildReport:
    """Make every image of `plan` current. Progress goes to `out` (None: stderr).

    ToolError where a build fails, with the step's last lines and the command that repeats it, or where an image built
    twice holds something else than its key says. No tag has moved then.
    """
    began = time.monotonic()
    run = _Run(plan, prefix=prefix, root=root, verify=verify, out=sys.stderr if out is None else out)
    _refuse_absent_bases(plan)
    with contexts.locked(run.place, waiting=lambda: run.tell("waiting for another build to end ...")) as lock:
        steps = run.build(no_cache=no_cache, lock=lock)
        run.put_tags()
    seconds = round(time.monotonic() - began, 3)
    if built := run.names(Action.BUILD):
        keys = {one.contents.image.name: one.contents.key for one in run.decisions}
        timings.append(
            root,
            {name: keys[name] for name in built},
            steps,
            environment=plan.declaration.environment,
            seconds=seconds,
            no_cache=no_cache or bool(run.rebuilt),
        )
    return BuildReport(
        built=built,
        tagged=run.names(Action.TAG),
        seconds=seconds,
        steps=steps,
        ids=dict(run.ids),
        rebuilt=tuple(run.rebuilt),
    )


def _refuse_absent_bases(plan: Plan) -> None:
    for decision in plan.of(Action.BUILD):
        for value in decision.contents.manifest.values():
            reference, _, identity = value.rpartition(" ")
            if identity == manifest.ABSENT:
                raise ToolError(f"{reference} is not here; docker pull {reference}, or: invoke build.bootstrap")


class _Run:
    """One run under the lock."""

    def __init__(self, plan: Plan, *, prefix: str, root: Path, verify: bool, out: TextIO) -> None:
        self.decisions = list(plan.decisions)
        self.ids = {one.contents.image.name: one.existing for one in plan.decisions if one.existing is not None}
        self.rebuilt = list[str]()
        self.place = contexts.folder(root, plan.declaration.environment, prefix)
        self._platform = plan.declaration.platform
        self._prefix = prefix
        self._root = root
        self._verify = verify
        self._out = out

    def tell(self, line: str) -> None:
        print(line, file=self._out, flush=True)

    def names(self, action: Action) -> tuple[str, ...]:
        return tuple(one.contents.image.name for one in self.decisions if one.action is action)

    def build(self, *, no_cache: bool, lock: int) -> tuple[Step, ...]:
        """Afterwards every image is there and holds what its key says."""
        self._take_existing()
        building = [one.contents for one in self.decisions if one.action is Action.BUILD]
        if not building:
            return ()
        steps = self._bake(building, no_cache=no_cache, lock=lock)
        self._refuse_moved_bases(building)
        wrong = self._differences(building)
        if wrong:
            self.tell(f"{_listed(wrong)}\nnot what the keys say; building once more, without the cache")
            again = self._with_dependants(wrong)
            for one in building:
                if one.image.name not in again:  # right, and may be the parent of one that is not
                    docker.tag(self.ids[one.image.name], self._staying(one))
            building = [one for one in building if one.image.name in again]
            self._withdraw(building)
            steps += self._bake(building, no_cache=True, lock=lock)
            wrong = self._differences(building)
            self.rebuilt += [one.image.name for one in building]
        if wrong:
            self._withdraw(building)
            raise ToolError(
                f"{_listed(wrong)}\nbuilt twice, the second time without the cache, and still not what the keys say; "
                "no tag has moved. Does the Dockerfile put something else there? Else the builder's store is broken: "
                "docker buildx prune"
            )
        return steps

    def put_tags(self) -> None:
        """The staying tags, then the moving ones, so that those of one run move together."""
        changed = [one.contents for one in self.decisions if one.action is not Action.NOTHING]
        for one in changed:
            docker.tag(self.ids[one.image.name], self._staying(one))
        for one in changed:
            docker.tag(self.ids[one.image.name], tag(self._prefix, one.image.name, one.image.environment))

    def _staying(self, contents: Contents) -> str:
        return key_tag(self._prefix, contents.image.name, contents.key)

    def _take_existing(self) -> None:
        """Give those that exist their staying tag, by which children find them; look into them where it is missing."""
        existing = docker.images()
        tagged = {name: one.id for one in existing for name in one.tags}
        present = {one.id for one in existing}
        gone = {name for name, identity in self.ids.items() if identity not in present}
        fresh = [
            one.contents
            for one in self.decisions
            if one.action is Action.TAG
            and (name := one.contents.image.name) not in gone
            and tagged.get(self._staying(one.contents)) != self.ids[name]
        ]
        wrong = self._inside(fresh) if self._verify else {}
        if wrong:
            self.tell(f"{_listed(wrong)}\nnot what the keys say: a build was interrupted; building anew")
            self._withdraw([one for one in fresh if one.image.name in wrong])
        for contents in fresh:
            if contents.image.name not in wrong:
                docker.tag(self.ids[contents.image.name], self._staying(contents))
        again = self._with_dependants(gone.union(wrong))
        for number, one in enumerate(self.decisions):
            if one.contents.image.name in again:
                self.decisions[number] = replace(one, action=Action.BUILD, existing=None)

    def _bake(self, building: list[Contents], *, no_cache: bool, lock: int) -> tuple[Step, ...]:
        names = [one.image.name for one in building]
        for name in names:
            self.ids.pop(name, None)
        bases = (value.rpartition(" ") for one in building for value in _bases(one).values())
        text = bakefile.compose(
            building,
            platform=self._platform,
            prefix=self._prefix,
            folders={one.image.name: contexts.materialise(one, self.place) for one in building},
            keys={one.contents.image.name: one.contents.key for one in self.decisions},
            ids={**self.ids, **{reference: identity for reference, _, identity in bases}},
            provenance=labels.provenance(self._root),
            secret_files=build_secrets(self._root),
        )
        steps, candidates = builder.bake(
            text, names, place=self.place, no_cache=no_cache, keep_open=lock, out=self._out
        )
        existing = {one.id: one for one in docker.images()}
        for one in building:
            name = one.image.name
            found = next((existing[each] for each in candidates[name] if each in existing), None)
            if found is None or (found.labels.get(KEY_LABEL), found.labels.get(IMAGE_LABEL)) != (one.key, name):
                raise ToolError(f"{name} was built, but the engine has no image with its key; run it again")
            self.ids[name] = found.id
        return steps

    def _differences(self, building: list[Contents]) -> dict[str, list[str]]:
        """Image -> what is not as its key says: the files, and the parent that it stands on."""
        found = self._inside(building) if self._verify else {}
        inspected = {one["Id"]: one["RootFS"]["Layers"] for one in docker.inspect("image", list(self.ids.values()))}
        layers = {name: inspected.get(identity, []) for name, identity in self.ids.items()}
        for one in building:
            name = one.image.name
            for parent in one.image.parents:
                if layers[name][: len(layers[parent])] != layers[parent]:
                    found.setdefault(name, []).append(f"does not stand on {parent} as it is now")
        return found

    def _refuse_moved_bases(self, building: list[Contents]) -> None:
        """A base that was pulled or made anew while we built is in the images and not in their keys."""
        now = {name: one.id for one in docker.images() for name in one.tags}
        for one in building:
            for value in _bases(one).values():
                reference, _, identity = value.rpartition(" ")
                if now.get(reference, identity) != identity:
                    self._withdraw(building)
                    raise ToolError(f"{reference} was replaced while {one.image.name} was built; run it again")

    def _inside(self, looked_at: list[Contents]) -> dict[str, list[str]]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = list(pool.map(lambda one: look_into(one, self.ids[one.image.name]), looked_at))
        return {one.image.name: lines for one, lines in zip(looked_at, answers, strict=True) if lines}

    def _with_dependants(self, names: Iterable[str]) -> Collection[str]:
        """Those and every image of the run that stands on one of them."""
        found = set(names)
        for one in self.decisions:  # parents come first
            if found.intersection(one.contents.image.parents):
                found.add(one.contents.image.name)
        return found

    def _withdraw(self, wrong: list[Contents]) -> None:
        """Remove images that are not what their labels say, so that no later decision finds them."""
        for one in reversed(wrong):
            if (identity := self.ids.pop(one.image.name, None)) is not None:
                docker.run("image", "rm", "--force", identity, check=False, timeout_s=60)


def _bases(contents: Contents) -> dict[str, str]:
    """Name in the Dockerfile -> "reference id", of the bases that are not ours."""
    return {name: value for name, value in contents.manifest.items() if name.startswith("base:")}


def _listed(wrong: Mapping[str, list[str]]) -> str:
    lines = list[str]()
    for image, differences in wrong.items():
        lines += [f"{image}: {line}" for line in differences[:_SHOWN]]
        if len(differences) > _SHOWN:
            lines.append(f"{image}: and {len(differences) - _SHOWN} more")
    return "\n".join(lines)
