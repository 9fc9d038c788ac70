"""What stands behind `invoke build.*`: prints to stdout, returns the exit code, raises ToolError.

`selective` with nothing to do is what people wait for most often: the engine is asked once, no process is started, and
what builds is only imported when there is something to build.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ci import docker
from ci.errors import ToolError
from ci.images import declare, manifest, plan, seen
from ci.images import explain as words
from ci.images.contents import Gatherer
from ci.images.model import Action, Declaration, Existing, Plan, tag
from ci.workspace import ROOT

if TYPE_CHECKING:
    from ci.images.bake import BuildReport

_PULL_S = 900


def prefix() -> str:
    """What stands in front of every image's name."""
    return os.environ.get("RPA_IMAGE_PREFIX", "")


def selective(
    environment: str = "development",
    images: Iterable[str] = (),
    dry_run: bool = False,
    explain: bool = False,
    as_json: bool = False,
    deploy: Callable[[Sequence[str]], object] | None = None,
    no_verify: bool = False,
    root: Path = ROOT,
) -> int:
    """Build what is not current, of `images` (none: all) and their parents; say why.

    With `dry_run` or `explain` nothing is built; a base that is not here is then a reason, and otherwise an error.
    `as_json` prints the plan for machines, and nothing else on stdout. `deploy` is called with the images at the end.
    """
    only_said = dry_run or explain
    gatherer, made = decide(environment, tuple(images), root=root, bases_may_lack=only_said)
    _say(made, gatherer, full=explain, as_json=as_json, quiet=not only_said)
    todo = [one for one in made.decisions if one.action is not Action.NOTHING]
    if only_said:
        return 0
    if todo:
        from ci.images import bake

        done = bake.build(made, prefix=prefix(), root=root, verify=not no_verify)
        seen.add(root, [one.contents.key for one in made.decisions], seen.load(root))
        print(_done(done), file=sys.stderr if as_json else sys.stdout)
    if deploy:  # also where nothing was built: an earlier build may not have been deployed
        deploy([one.contents.image.name for one in made.decisions])
    return 0


def _done(report: BuildReport) -> str:
    parts = [f"built {', '.join(report.built)}"] if report.built else []
    parts += [f"tagged {', '.join(report.tagged)}"] if report.tagged else []
    return f"{'; '.join(parts)} in {report.seconds:.1f} s"


def decide(
    environment: str, images: Sequence[str] = (), *, root: Path = ROOT, bases_may_lack: bool = False
) -> tuple[Gatherer, Plan]:
    """The plan for the workspace and the engine as they are now."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        asked = pool.submit(docker.images)  # answering takes the engine as long as reading the files takes here
        declaration = declare.load(root, environment=environment)
        gatherer = Gatherer(declaration, root=root)
        gatherer.look()
        existing = asked.result()
    if not bases_may_lack and _pull(_lacking(declaration, existing)):
        existing = docker.images()
    contents = gatherer.contents(_base_ids(declaration, existing, bases_may_lack=bases_may_lack))
    known = seen.load(root)
    made = plan.make(declaration, contents, existing, prefix=prefix(), wanted=images or None, seen=known)
    seen.add(root, [one.contents.key for one in made.decisions if one.existing], known)
    return gatherer, made


def base_ids(declaration: Declaration, existing: Iterable[Existing]) -> dict[str, str]:
    """The image ids of the external references, those that are here; one with a digest identifies itself."""
    by_tag = {name: one.id for one in existing for name in one.tags}
    found = dict[str, str]()
    for image in declaration.images.values():
        for reference in image.bases.values():
            _, at, digest = reference.partition("@")
            if at:
                found[reference] = digest
            elif (name := _as_listed(reference)) in by_tag:
                found[reference] = by_tag[name]
    return found


def _lacking(declaration: Declaration, existing: Iterable[Existing]) -> list[str]:
    """The external references that the engine does not have; one with a digest is the builder's to fetch."""
    found = base_ids(declaration, existing)
    wanted = dict.fromkeys(reference for image in declaration.images.values() for reference in image.bases.values())
    return [reference for reference in wanted if reference not in found]


def _pull(references: Iterable[str]) -> bool:
    """Fetch what is lacking from its registry; ToolError, with the other way, where that cannot be reached."""
    pulled = False
    for reference in references:
        print(f"{reference} is not here; pulling it", file=sys.stderr)
        try:
            docker.run("pull", "--quiet", reference, timeout_s=_PULL_S)
        except ToolError as error:
            said = str(error).strip().splitlines()[-1]
            raise ToolError(
                f"{reference} is not here and cannot be pulled ({said}); make it from packages: invoke build.bootstrap"
            ) from None
        pulled = True
    return pulled


def _base_ids(declaration: Declaration, existing: Iterable[Existing], *, bases_may_lack: bool) -> dict[str, str]:
    found = base_ids(declaration, existing)
    if bases_may_lack:
        for image in declaration.images.values():
            found = dict.fromkeys(image.bases.values(), manifest.ABSENT) | found
    return found


def _as_listed(reference: str) -> str:
    """As the engine lists it: library/python -> python:latest."""
    name = reference.removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _say(made: Plan, gatherer: Gatherer, *, full: bool, as_json: bool, quiet: bool) -> None:
    if as_json:
        print(words.document(made, prefix=prefix(), chain=gatherer.chain))
    elif quiet and len(made.of(Action.NOTHING)) == len(made.decisions):
        print(words.summary(made))
    else:
        print(words.text(made, full=full, chain=gatherer.chain if full else None))


def group(kind: str, environment: str = "development", root: Path = ROOT) -> tuple[str, ...]:
    """Names of images: "base" have no parents of ours, "flows" run flows, "all"."""
    found = declare.load(root, environment=environment).images.values()
    return tuple(
        image.name
        for image in found
        if kind == "all" or (kind == "base" and not image.parents) or (kind == "flows" and image.flows)
    )


def why(image: str, environment: str = "development", root: Path = ROOT) -> int:
    """What an image is made of, and the first input that differs from the one that is tagged."""
    from ci.images.why import report

    gatherer, made = decide(environment, (image,), root=root, bases_may_lack=True)
    print(report(made, image, gatherer))
    return 0


def graph(environment: str = "development", format: str = "text", root: Path = ROOT) -> int:  # noqa: A002 - the option
    """The images and what they stand on. Needs no engine."""
    from ci.images.graph import draw

    declaration = declare.load(root, environment=environment)
    contents = Gatherer(declaration, root=root).contents(_base_ids(declaration, (), bases_may_lack=True))
    print(draw(contents, format))
    return 0


def affected(paths: Iterable[str | Path], environment: str = "development", root: Path = ROOT) -> dict[str, list[str]]:
    """Each path with the images that contain it now. Needs no engine."""
    from ci.images.affected import affected as look_up

    declaration = declare.load(root, environment=environment)
    contents = Gatherer(declaration, root=root).contents(_base_ids(declaration, (), bases_may_lack=True))
    return look_up(paths, contents=contents, root=root)


def verify_all(environment: str = "development", root: Path = ROOT) -> int:
    """Compare the files inside each tagged image with the manifest it carries; 1 if one differs or is not current."""
    from ci.images.verify import verify

    _, made = decide(environment, root=root)
    wrong = 0
    for one in made.decisions:
        name = tag(prefix(), one.contents.image.name, environment)
        if one.existing is None:
            print(f"{name}: not current: {one.reason}")
        found = [] if one.existing is None else verify(one.contents, one.existing)
        wrong += one.existing is None or bool(found)
        for line in found:
            print(f"{name}: {line}")
        if one.existing is not None and not found:
            print(f"{name}: {len(one.contents.entries)} inputs, as they should be")
    return 1 if wrong else 0


def timings_report(root: Path = ROOT) -> int:
    """How long builds took, and what got slower."""
    from ci.images.timings import text

    print(text(root))
    return 0


def prune(keep: int = 3, dry_run: bool = False, root: Path = ROOT) -> int:
    """Remove old images of ours, but `keep` of each, and none that is in use."""
    from ci.images import prune as pruning

    print(pruning.text(pruning.prune(keep, prefix=prefix(), dry_run=dry_run, root=root), dry_run=dry_run))
    return 0
