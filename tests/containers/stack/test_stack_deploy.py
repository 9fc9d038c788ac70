"""A new version comes into the running stack, behind the load balancer, while records are posted."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ci.images.model import tag
from ci.stack import operate
from ci.stack.compose import Stack
from ci.stack.deploy import roll

from .driver import Driver, docker, free_ports, inspect, responses

pytestmark = pytest.mark.xdist_group("stack")
IMAGES = ("rpa-base", "rpa-flow1", "rpa-flow2", "rpa-flow3")
VERSION = "test.version"


@pytest.fixture
def door(images: None, tmp_path: Path) -> Iterator[Driver]:
    """The stack as far as the intake needs it, on images under names of its own."""
    prefix = f"test-{uuid.uuid4().hex[:8]}/"
    for name in IMAGES:
        docker("tag", tag("", name, "development"), tag(prefix, name, "development"))
    places = {"RPA_SECRETS_DIR": str(tmp_path / "secrets"), "RPA_ENV_DIR": str(tmp_path / "env")}
    variables = {**free_ports(), **places, "RPA_IMAGE_PREFIX": prefix}
    chosen = Stack(project=prefix.rstrip("/"), variables=variables)
    try:
        operate.up(build=False, timeout_s=300, services=["haproxy"], stack=chosen)
        yield Driver(stack=chosen, first={})
    finally:
        operate.down(volumes=True, stack=chosen)
        docker("image", "rm", "--force", *(tag(prefix, name, "development") for name in IMAGES))


@pytest.mark.requirement("R5.6", "R5.4")
def test_a_new_version_replaces_the_old_without_a_refused_request(door: Driver, tmp_path: Path) -> None:
    """Both rpa1 workers are replaced, one after the other; every request meanwhile is taken in, each record once."""
    prefix = door.stack.variables["RPA_IMAGE_PREFIX"]
    image = tag(prefix, "rpa-flow1", "development")
    before = set(door.names("rpa1"))
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {image}\nLABEL {VERSION}=2\n")
    answers, refused, stop = Counter[int](), list[bytes](), threading.Event()

    def post() -> None:
        for number, line in enumerate(responses(5_000, seed=301).lines):
            if stop.wait(0.02):
                return
            answer = door.post_records([line], key=f"deploy-{number}")
            answers[answer.status] += 1
            if answer.status != 202:
                refused.append(answer.body)

    poster = threading.Thread(target=post)
    poster.start()
    try:
        built = docker("build", "--quiet", "--tag", image, str(context))
        rolled = roll(["rpa-flow1"], prefix=prefix, stack=door.stack)
    finally:
        stop.set()
        poster.join()
    assert {one.service: one.replaced for one in rolled} == {"migrate": 0, "rpa1": 2}
    after = set(door.names("rpa1"))
    assert len(after) == 2
    assert not after & before
    assert {one["Image"] for one in inspect(*after)} == {built.strip()}
    assert set(answers) == {202}, (answers, refused)
    assert door.tally()["rpa1"]["records"] == answers[202]
