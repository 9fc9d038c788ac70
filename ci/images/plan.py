"""What is to be done about each image, and why. Current is what has an image with its key; nothing else counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ci.errors import ToolError
from ci.images import manifest
from ci.images.model import (
    IMAGE_LABEL,
    KEY_LABEL,
    Action,
    Change,
    Contents,
    Decision,
    Declaration,
    Existing,
    Plan,
    key_tag,
    tag,
)
from ci.images.origins import sentence
from ci.images.reading import nearest


def make(
    declaration: Declaration,
    contents: Mapping[str, Contents],
    existing: Sequence[Existing],
    *,
    prefix: str,
    wanted: Sequence[str] | None = None,
    seen: Collection[str] = (),
) -> Plan:
    """Decide about `wanted` images (None: all) and their parents, in build order.

    `seen` are keys that once existed here; they only make the reason better: removed, rather than never built.
    """
    chosen = _with_parents(declaration, wanted)
    tagged = {name: image for image in reversed(existing) for name in image.tags}
    decided = dict[str, Decision]()
    for name in declaration.images:
        if name in chosen:
            one = contents[name]
            moving = tagged.get(tag(prefix, name, declaration.environment))
            staying = tagged.get(key_tag(prefix, name, one.key))
            found = _with_key(one, existing, staying, moving)
            built = [parent for parent in one.image.parents if decided[parent].action is Action.BUILD]
            if found is None or built:
                changes, reason = _why_build(one, existing, moving, seen, tag(prefix, name, declaration.environment))
                if found is not None:
                    reason = f"its parent {built[0]} is built"
                decided[name] = Decision(contents=one, action=Action.BUILD, reason=reason, changes=changes)
            else:
                decided[name] = _take(one, found, moving, staying, prefix, declaration.environment)
    return Plan(declaration=declaration, decisions=tuple(decided.values()))


def _with_parents(declaration: Declaration, wanted: Sequence[str] | None) -> set[str]:
    ahead, chosen = list(declaration.images if wanted is None else wanted), set[str]()
    while ahead:
        name = ahead.pop()
        if name not in declaration.images:
            raise ToolError(f'there is no image "{name}"{nearest(name, declaration.images)}')
        if name not in chosen:
            chosen.add(name)
            ahead += declaration.images[name].parents
    return chosen


def _with_key(
    contents: Contents, existing: Sequence[Existing], staying: Existing | None, moving: Existing | None
) -> Existing | None:
    """The image that has the key, its own name, and a manifest that belongs to the key; rather a tagged one."""
    own = [one for one in existing if _is(one, contents)]
    for preferred in (staying, moving):
        if preferred in own:
            return preferred
    return max(own, key=lambda one: (one.created, one.id), default=None)


def _is(one: Existing, contents: Contents) -> bool:
    labels = one.labels
    return (
        labels.get(KEY_LABEL) == contents.key
        and labels.get(IMAGE_LABEL) == contents.image.name
        and manifest.of(one) is not None
    )


def _take(
    contents: Contents,
    found: Existing,
    moving: Existing | None,
    staying: Existing | None,
    prefix: str,
    environment: str,
) -> Decision:
    name = contents.image.name
    changes = _changes(contents, moving)
    if moving is not found:
        other = "names another one" if moving else "is not there"
        reason, action = f"an image with its key exists, {tag(prefix, name, environment)} {other}", Action.TAG
    elif staying is not found:
        reason, action = f"it has not its staying tag {key_tag(prefix, name, contents.key)}", Action.TAG
    else:
        reason, action = "nothing that it is made of changed", Action.NOTHING
    return Decision(contents=contents, action=action, reason=reason, changes=changes, existing=found.id)


def _changes(contents: Contents, moving: Existing | None) -> tuple[Change, ...]:
    before = manifest.of(moving) if moving else None
    return manifest.differences(before, contents.manifest) if before is not None else ()


def _why_build(
    contents: Contents, existing: Sequence[Existing], moving: Existing | None, seen: Collection[str], name: str
) -> tuple[tuple[Change, ...], str]:
    changes = _changes(contents, moving)
    absent = [value.split(" ")[0] for value in contents.manifest.values() if value.endswith(f" {manifest.ABSENT}")]
    if absent:
        return changes, f"its base {absent[0]} is not here (docker pull {absent[0]}, or invoke build.bootstrap)"
    forged = [one for one in existing if one.labels.get(KEY_LABEL) == contents.key and manifest.of(one) is None]
    if forged:
        return changes, f"{_called(forged[0])} claims its key with a manifest of another: not trusted"
    if moving is None:
        if contents.key in seen or _known_to_children(contents, existing):
            return (), f"{name} was built as it is now, and is gone: removed or pruned"
        others = any(one.labels.get(IMAGE_LABEL) == contents.image.name for one in existing)
        return (), f"{name} is not there; what there is of it was made of something else" if others else "never built"
    if KEY_LABEL not in moving.labels:
        return (), f"{name} carries no key: it was made by something else"
    if manifest.of(moving) is None:
        return (), f"{name} carries a manifest that does not belong to its key: not trusted"
    if not changes:
        return (), f"{name} is another image: {moving.labels.get(IMAGE_LABEL, 'it does not say which')}"
    more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
    return changes, f"{sentence(contents.image, changes[0])}{more}"


def _known_to_children(contents: Contents, existing: Sequence[Existing]) -> bool:
    """Whether some image was built on one with this key."""
    wanted = f"parent:{contents.image.name}"
    return any((manifest.of(one) or {}).get(wanted) == contents.key for one in existing)


def _called(image: Existing) -> str:
    return image.tags[0] if image.tags else image.id[:19]
