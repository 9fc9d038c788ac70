"""What one image is made of, and the first input that differs from the image that its tag names."""

from __future__ import annotations

from ci.images.contents import Gatherer
from ci.images.explain import details
from ci.images.model import Decision, Plan
from ci.images.origins import workspace_path


def report(plan: Plan, name: str, gatherer: Gatherer) -> str:
    """For a person. `plan` has the image and its parents."""
    decisions = {one.contents.image.name: one for one in plan.decisions}
    one = decisions[name]
    image = one.contents.image
    lines = [f"{name} ({image.environment}): {image.title}", f"  key      {one.contents.key}"]
    lines += [f"  base     {image.bases[base]} as {base}" for base in image.bases]
    lines += [f"  parent   {parent} {decisions[parent].contents.key[:12]}" for parent in image.parents]
    lines += [f"  stage    {image.target}"] if image.target else []
    lines += [f"  argument {argument}={value}" for argument, value in image.args.items()]
    lines += [f"  flow     {flow}" for flow in image.flows]
    for path, lock in image.locks.items():
        count = sum(given.startswith(f"lock:{path}:") for given in one.contents.manifest)
        lines.append(f"  lock     {lock}: {count} packages")
    lines += ["  files", *(f"    {line}" for line in _files(one, gatherer))]
    lines += [f"  note     {note}" for note in one.contents.notes]
    lines.append(f"{one.action.value}: {one.reason}")
    lines += [f"  {line}" for line in _differences(one, decisions, gatherer)]
    return "\n".join(lines)


def _files(one: Decision, gatherer: Gatherer) -> list[str]:
    """Each input file as the workspace has it, with the module that imports it first."""
    lines = list[str]()
    for entry in one.contents.entries:
        shown = workspace_path(one.contents.image, entry.path)
        chain = gatherer.chain(one.contents.image, entry.path)
        if entry.path in one.contents.image.locks:
            continue
        if entry.content is not None:
            shown = f"{shown}: {entry.path.rpartition('/')[2]}"
        if entry.link is not None:
            shown = f"{shown} -> {entry.link}"
        lines.append(f"{shown}  imported by {chain[-2]}" if len(chain) > 1 else shown)
    return lines


def _differences(one: Decision, decisions: dict[str, Decision], gatherer: Gatherer) -> list[str]:
    """The changes; where only a parent changed, the parent's."""
    lines = details(one, gatherer.chain)
    changed = [change.input.partition(":") for change in one.changes]
    if changed and all(kind == "parent" for kind, _, _ in changed):
        for _, _, parent in changed:
            inner = _differences(decisions[parent], decisions, gatherer) if parent in decisions else []
            lines += [f"{parent}: {line}" for line in inner]
    return lines
