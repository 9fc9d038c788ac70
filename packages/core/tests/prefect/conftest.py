"""What the tests against a real Prefect server share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rpa_testkit.prefect_server import PrefectServer

from .door import Door
from .reported import Known, Life


@pytest.fixture
def flow() -> str:
    """A flow that no other test reports."""
    return f"flow-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def known(prefect_server: PrefectServer) -> Iterator[Known]:
    """What the shared server knows."""
    asked = Known(prefect_server.api_url)
    yield asked
    asked.close()


@pytest.fixture
def door(prefect_server: PrefectServer) -> Iterator[Door]:
    """Faults in front of the shared server."""
    with Door(prefect_server.port) as made:
        yield made


@pytest.fixture
def live() -> Iterator[Callable[..., Life]]:
    """Makes lives, and leaves none of their threads behind."""
    made: list[Life] = []

    def begin(*args: Any, **options: Any) -> Life:
        made.append(Life(*args, **options))
        return made[-1]

    yield begin
    for life in made:
        life.close()
