"""A plan in words, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

from ci.images.model import Action, Change, Decision, Image, Plan, key_tag, tag
from ci.images.origins import sentence, workspace_path

_MOST = 20  # changes shown of one image
Chain = Callable[[Image, str], list[str]]  # image, path in the context -> entry module, ..., the file's own module


def summary(plan: Plan) -> str:
    """One line: what there is to do."""
    counted = {action: len(plan.of(action)) for action in Action}
    if counted[Action.NOTHING] == len(plan.decisions):
        return f"nothing to do: {', '.join(one.contents.image.name for one in plan.decisions)} are current"
    parts = [f"{counted[Action.BUILD]} to build", f"{counted[Action.TAG]} to tag", f"{counted[Action.NOTHING]} current"]
    return f"{plan.declaration.environment}: {', '.join(parts)}"


def text(plan: Plan, *, full: bool = False, chain: Chain | None = None) -> str:
    """A line for each image; with `full`, every change and note below it."""
    width = max(len(one.contents.image.name) for one in plan.decisions)
    lines = list[str]()
    for one in plan.decisions:
        lines.append(f"{one.action.value:8} {one.contents.image.name:{width}}  {one.reason}")
        if full:
            lines += [f"           {line}" for line in details(one, chain)]
    return "\n".join([*lines, summary(plan)])


def details(decision: Decision, chain: Chain | None) -> list[str]:
    """Each change, with the imports that bring a module in; then what a person should know."""
    image = decision.contents.image
    lines = list[str]()
    for change in decision.changes[:_MOST]:
        lines.append(sentence(image, change))
        if chain and len(modules := _chain(image, change, chain)) > 1:
            lines.append(f"  imported: {' -> '.join(modules)}")
    if len(decision.changes) > _MOST:
        lines.append(f"and {len(decision.changes) - _MOST} more")
    return [*lines, *(f"note: {note}" for note in decision.contents.notes)]


def _chain(image: Image, change: Change, chain: Chain) -> list[str]:
    kind, _, path = change.input.partition(":")
    return chain(image, path) if kind == "file" and change.after is not None else []


def document(plan: Plan, *, prefix: str, chain: Chain | None = None) -> str:
    """The same for machines."""
    environment = plan.declaration.environment
    images = [
        {
            "image": (image := one.contents.image).name,
            "action": one.action.name.lower(),
            "reason": one.reason,
            "key": one.contents.key,
            "tag": tag(prefix, image.name, environment),
            "key_tag": key_tag(prefix, image.name, one.contents.key),
            "existing": one.existing,
            "changes": [
                {
                    "input": change.input,
                    "before": change.before,
                    "after": change.after,
                    "sentence": sentence(image, change),
                    "path": _path(image, change),
                    "imported": _chain(image, change, chain) if chain else [],
                }
                for change in one.changes
            ],
            "notes": list(one.contents.notes),
        }
        for one in plan.decisions
    ]
    return json.dumps({"environment": environment, "images": images}, indent=1)


def _path(image: Image, change: Change) -> str | None:
    kind, _, name = change.input.partition(":")
    if kind not in ("file", "lock"):
        return None
    return workspace_path(image, name.rpartition(":")[0] if kind == "lock" and ":" in name else name)
