"""What cannot work is refused when the flow is made, or found when it is loaded."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rpa_core.errors import UsageError
from rpa_core.processing.flow import Flow, FlowContext, Record
from rpa_core.processing.outcome import Done, Outcome
from rpa_core.runtime import flows
from rpa_core.runtime.signals import Signals


def _handle(record: Record, context: FlowContext) -> Outcome:
    return Done()


async def _async_two(first: Any, second: Any) -> Any:
    return None


async def _async_one(first: Any) -> Any:
    return None


def _yields_two(first: Any, second: Any) -> Iterator[Any]:
    yield None


def _yields_one(first: Any) -> Iterator[Any]:
    yield None


async def _async_yields(first: Any, second: Any = None) -> AsyncIterator[Any]:
    yield None


class _Async:
    async def __call__(self, record: Record, context: FlowContext) -> Outcome:
        return Done()


class _Inherits(_Async):
    pass


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"name": "Orders"}, "flow name 'Orders'"),
        ({"name": ""}, "flow name ''"),
        ({"name": None}, "must have a name"),
        ({"name": 7}, "7 is no name"),
        ({"next_flow": "Bad Next"}, "flow name 'Bad Next'"),
        ({"known_key": "drop"}, "known_key is 'drop'"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": True}, "concurrency is True"),
        ({"batch": 1}, "batch is 1"),
        ({"databases": "survey_hub"}, "databases is 'survey_hub'"),
        ({"databases": None}, "databases is None"),
        ({"migrations": ("rpa_db", "shop")}, "migrations is"),
        ({"settings": 5}, "settings must be a class"),
        ({"handle": "shop.handle"}, "handle is 'shop.handle'"),
        ({"handle": lambda record: Done()}, r"handle is called with \(record, context\)"),
        ({"handle": _yields_two}, "handle yields"),
        ({"handle": _async_yields}, "async generator"),
        ({"effects": _async_two}, "effects is async"),
        ({"effects": _yields_two}, "effects yields"),
        ({"effects": lambda connection: None}, "effects is called with"),
        ({"effects": _Async()}, "effects is async"),
        ({"open": _async_one}, "open is async"),
        ({"open": asynccontextmanager(_async_yields)}, "open is async"),
        ({"open": _yields_one}, "open yields: put @contextlib.contextmanager above it"),
        ({"validate": _async_one}, "validate is async"),
        ({"files": _async_one}, "files is async"),
        ({"check_columns": _async_two}, "check_columns is async"),
    ],
)
def test_a_flow_that_cannot_work_is_not_made(given: dict[str, Any], reason: str) -> None:
    """One error, with what to do."""
    with pytest.raises(UsageError, match=reason):
        Flow(**{"name": "act", "handle": _handle, **given})


@pytest.mark.requirement("R8.7")
def test_every_way_to_write_a_function_is_seen() -> None:
    """Partials, instances, bound methods and generators that are context managers or batches."""
    assert Flow(name="act", handle=_Async()).is_async
    assert Flow(name="act", handle=_Inherits()).is_async
    assert Flow(name="act", handle=_Async().__call__).is_async
    assert Flow(name="act", handle=functools.partial(_async_two)).is_async
    assert not Flow(name="act", handle=_handle, open=contextmanager(_yields_one)).is_async
    assert Flow(name="act", handle=_yields_two, batch=True).batch
    assert Flow(name="act", handle=print).name == "act"  # type: ignore[arg-type]  # a builtin has no signature to judge


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("name", ["id", "key", "raw", "attempt", "payload", "more"])
def test_a_records_attributes_cannot_be_set(name: str) -> None:
    """What a handler gets, it cannot change."""
    record = Record(1, "k", b"2", 3)
    with pytest.raises(AttributeError):
        setattr(record, name, 0)
    assert (record.id, record.key, record.raw, record.attempt, record.payload) == (1, "k", b"2", 3, 2)


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys\nsys.exit(0)\n", r"SystemExit: 0 \(.*\.py, line 2\)"),
        ("1 / 0\n", r"ZeroDivisionError: division by zero \(.*\.py, line 1\)"),
        ("def (\n", "SyntaxError"),
        ("import no_such_thing\n", "No module named 'no_such_thing'"),
        ("OTHER = 1\n", r"FLOW is not there \(in the module: no flow\)"),
        ("FLOW = 1\n", "FLOW is a int, not a rpa_core.Flow"),
    ],
)
def test_whatever_a_module_does_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, text: str, reason: str
) -> None:
    """It is found beside the command; what it raises at its import is a usage error, SystemExit too."""
    name = f"module_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere", *sys.path])
    with pytest.raises(UsageError, match=reason):
        flows.load(f"{name}:FLOW")


@pytest.mark.requirement("R8.7")
@pytest.mark.parametrize("spec", [":x", ".m:F", "m:", "m:a.b", "a b:F", "1:F"])
def test_what_is_no_module_and_attribute_is_refused(spec: str) -> None:
    """Never a traceback."""
    with pytest.raises(UsageError, match="give module:ATTRIBUTE"):
        flows.load(spec)


@pytest.mark.requirement("R5.5")
def test_signals_go_back_to_what_heard_them_before() -> None:
    """A host program keeps its Ctrl-C."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    signals = Signals(lambda _: None)
    signals.install()
    signals.remove()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
