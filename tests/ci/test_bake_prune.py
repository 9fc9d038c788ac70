"""Which images are removed, and which never."""

from __future__ import annotations

import json

import pytest
from ci.errors import ToolError
from ci.images import manifest, prune
from ci.images.model import Existing

_NOW = 1_000_000.0


class Engine:
    """Images as an engine would list them, oldest first."""

    def __init__(self, prefix: str = "") -> None:
        self.images = list[Existing]()
        self.prefix = prefix

    def add(
        self, image: str, *, parent: Existing | None = None, tags: tuple[str, ...] | None = None, environment: str = "e"
    ) -> Existing:
        number = len(self.images)
        inputs = {"number": str(number)} | ({"parent:base": parent.labels["rpa.key"]} if parent else {})
        key = manifest.key(inputs)
        labels = {
            "rpa.key": key,
            "rpa.image": image,
            "rpa.environment": environment,
            "rpa.prefix": self.prefix,
            "rpa.manifest": json.dumps(inputs, sort_keys=True, separators=(",", ":")),
        }
        staying = (f"{self.prefix}{image}:k-{key[:12]}",)
        made = Existing(
            id=f"sha256:{number:064}", tags=staying if tags is None else tags, labels=labels, created=number
        )
        self.images.append(made)
        return made

    def removed(self, keep: int, *, used: tuple[Existing, ...] = (), prefix: str | None = None) -> list[str]:
        where = self.prefix if prefix is None else prefix
        chosen = prune.choose(self.images, used={one.id for one in used}, keep=keep, prefix=where, now=_NOW)
        return [one.id for one in chosen]


@pytest.mark.requirement("R4.8")
def test_the_newest_of_each_image_and_environment_stay() -> None:
    """Each environment has its own."""
    engine = Engine()
    old, *_ = [engine.add("flow") for _ in range(3)]
    engine.add("flow", environment="other")
    assert engine.removed(2) == [old.id]
    assert engine.removed(3) == []
    assert len(engine.removed(0)) == 4
    with pytest.raises(ToolError, match="--keep -1"):
        engine.removed(-1)


@pytest.mark.requirement("R4.8")
def test_what_is_in_use_stays() -> None:
    """By a container, by a moving or any other tag, by an image that stands on it."""
    engine = Engine()
    base, unused = engine.add("base"), engine.add("base")
    moving = engine.add("flow", tags=("flow:production", "flow:k-1"), parent=base)
    running = engine.add("flow")
    kept_by_hand = engine.add("flow", tags=("flow:k-2", "mine:1"))
    assert engine.removed(0, used=(running,)) == [unused.id]
    assert {base.id, moving.id, kept_by_hand.id}.isdisjoint(engine.removed(0))


@pytest.mark.requirement("R4.8")
def test_a_child_goes_before_its_parent() -> None:
    """The engine refuses the other order."""
    engine = Engine()
    base = engine.add("base")
    child = engine.add("flow", parent=base)
    engine.add("zebra")
    removed = engine.removed(0)
    assert removed.index(child.id) < removed.index(base.id)


@pytest.mark.requirement("R4.8")
def test_only_our_own_images_are_looked_at() -> None:
    """Those with the prefix; others' images, and ours with another prefix, are not touched."""
    engine = Engine("team/")
    mine = engine.add("flow")
    engine.add("flow", tags=("other/flow:k-1",))
    engine.images.append(Existing(id="sha256:f", tags=("postgres:k-17",), labels={}, created=1))
    assert engine.removed(0) == [mine.id]
    assert engine.removed(0, prefix="nobody/") == []


@pytest.mark.requirement("R4.8")
def test_what_a_killed_build_left_goes_when_no_build_can_want_it_any_more() -> None:
    """An image without a tag, an hour old; a younger one may be about to be tagged."""
    engine = Engine()
    old, young = engine.add("flow", tags=()), engine.add("flow", tags=())
    engine.images[1] = Existing(id=young.id, tags=(), labels=young.labels, created=int(_NOW) - 60)
    assert engine.removed(5) == [old.id]
    assert engine.removed(5, prefix="team/") == []


@pytest.mark.requirement("R4.8")
@pytest.mark.parametrize(
    ("text", "value"), [("0B", 0), ("301kB", 301_000), ("1.5GB", 1_500_000_000), ("N/A", 0), ("", 0)]
)
def test_sizes_are_read_as_the_engine_writes_them(text: str, value: int) -> None:
    """What it does not say counts as nothing."""
    assert prune._bytes(text) == value
