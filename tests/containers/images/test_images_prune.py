"""Pruning on the engine."""

from __future__ import annotations

import pytest
from ci import docker
from ci.images.prune import prune, text
from tests.containers.images.workbench import Small


@pytest.mark.requirement("R4.8")
def test_old_images_go_and_those_in_use_stay(small: Small) -> None:
    """The newest, the tagged, a running one's and a kept child's parent stay; a dry run removes nothing."""
    flow = [small.contents("flow", {"f": f"{number}".encode() * 999}, more={"of": small.prefix}) for number in range(3)]
    flow_ids = [small.build(one).ids["flow"] for one in flow]
    parents = [small.contents("parent", {"p": f"{number}".encode()}, more={"of": small.prefix}) for number in range(2)]
    child = small.contents(
        "child",
        {"c": b"c"},
        dockerfile="FROM parent\nCOPY data/c /data/c\n",
        parents=(parents[0],),
        more={"of": small.prefix},
    )
    parent_ids = [small.build(parents[0], child, verify=False).ids["parent"], small.build(parents[1]).ids["parent"]]
    container = docker.run("create", flow_ids[0], "nothing").stdout.strip()
    try:
        would = prune(0, prefix=small.prefix, dry_run=True)
        assert [one.id for one in would.removed] == [flow_ids[1]]
        assert "1 images would be removed" in text(would, dry_run=True)
        assert set(flow_ids) <= {one.id for one in docker.images()}
        done = prune(0, prefix=small.prefix)
        assert ([one.id for one in done.removed], done.kept) == ([flow_ids[1]], ())
        assert 0 < done.freed_bytes < 10_000
        left = {one.id for one in docker.images()}
        assert flow_ids[1] not in left
        assert {flow_ids[0], flow_ids[2], *parent_ids} <= left
    finally:
        docker.run("rm", "--force", container)
    assert [one.id for one in prune(1, prefix=small.prefix).removed] == [flow_ids[0]]
    assert prune(0, prefix=small.prefix).removed == ()
