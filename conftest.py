"""The workspace's own rules for pytest: two forms of a long proof, what runs first, what cannot be collected."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import pytest

pytest_plugins = ["pytester"]  # pytest allows this in the root alone

_TOOLS_MISSING = find_spec("invoke") is None
collect_ignore = ["tests/ci"] if _TOOLS_MISSING else []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--proof",
        choices=("short", "full"),
        default="short",
        help="how often and how long the counted proofs repeat a thing: short (each change) or full (each night)",
    )


def pytest_configure() -> None:
    """What the tests start has the signals of a program started by hand, also where this run was started with `&`.

    An ignored signal is inherited, a handled one is not: this process ignores it as before, by a handler.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """The form of the proofs, and what is left out."""
    header = [f"proof: {config.getoption('--proof')}"]
    if _TOOLS_MISSING:
        header.append("left out: tests/ci, which needs `pip install --require-hashes -r requirements/lint.txt`")
    return header


@pytest.hookimpl(trylast=True)  # after -k and -m have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is proved in full only; slow tests first."""
    if config.getoption("--proof") != "full":
        left_out = [item for item in items if item.get_closest_marker("full_proof")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [bool(item.get_closest_marker("slow")) for item in items]
    items[:] = [items[index] for index in slow_first(slow, workers)]


def slow_first(slow: Sequence[bool], workers: int) -> list[int]:
    """The order of so many tests, as indices: each worker's block begins with its share of the slow ones.

    xdist's `worksteal` deals out contiguous blocks, the first of len // workers tests, and moves tests from the ends of
    blocks to workers that have none left: a slow test at an end would be the last one to begin.
    """
    long = [index for index, is_slow in enumerate(slow) if is_slow]
    rest = iter([index for index, is_slow in enumerate(slow) if not is_slow])
    order: list[int] = []
    for worker in range(workers):
        size = (len(slow) - len(order)) // (workers - worker)
        block = long[worker::workers]
        order += block
        order += [index for _, index in zip(range(size - len(block)), rest, strict=False)]
    return [*order, *rest]


@pytest.fixture(scope="session")
def counted(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`counted(short, full)`: how often, or for how many seconds, a proof does a thing under this `--proof`."""
    in_full = request.config.getoption("--proof") == "full"
    return lambda short, full: full if in_full else short
