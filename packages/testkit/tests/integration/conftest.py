"""What the tests of the proxy share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rpa_testkit.proxy.client import Proxy

from .upstream import EDGE, Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server of the test's own."""
    with Upstream() as server:
        yield server


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[Proxy]:
    """A proxy with one edge that leads to `upstream`."""
    with Proxy.spawn(seed=7, env=os.environ) as made:
        made.open_edge(EDGE, upstream.address)
        yield made
