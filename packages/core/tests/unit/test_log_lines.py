"""Log records become lines: ECS JSON of bounded length, or text for people; logging never hurts the work."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from rpa_core.observability.format import Service
from rpa_core.observability.logs import Logging, configure
from rpa_core.observability.redaction import Redactor


class Captured:
    """A configured logging set-up writing to memory."""

    def __init__(self, **options: Any) -> None:
        self.stream = io.StringIO()
        self.logs: Logging = configure(stream=self.stream, **options)

    def lines(self) -> list[dict[str, Any]]:
        assert self.logs.flush()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def captured() -> Iterator[Captured]:
    made = Captured(level="debug", service=Service(name="rpa1", version="1.2", environment="test"), hooks=True)
    yield made
    made.logs.stop()


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


@pytest.mark.requirement("R5.3")
def test_a_record_is_one_ecs_object(captured: Captured) -> None:
    """Field names are ECS, keys flat and dotted, extras stand beside them."""
    logging.getLogger("rpa.lease").warning("lost %d", 7, extra={"event.action": "lease.lost", "rpa.chunk": 7})
    (line,) = captured.lines()
    assert line["message"] == "lost 7"
    assert line["log.level"] == "warning"
    assert line["@timestamp"].endswith("Z")
    assert line["ecs.version"]
    assert (line["log.logger"], line["event.action"], line["rpa.chunk"]) == ("rpa.lease", "lease.lost", 7)
    assert (line["service.name"], line["service.version"], line["service.environment"]) == ("rpa1", "1.2", "test")
    assert line["log.origin.file.name"] == "test_log_lines.py"


@pytest.mark.requirement("R5.3")
def test_a_traceback_stays_inside(captured: Captured) -> None:
    """An error is one line with type, message, code and stack, its causes included."""
    from rpa_core.errors import LeaseLost

    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise LeaseLost("second\nline") from error
    except LeaseLost:
        logging.getLogger("rpa").exception("failed")
    (line,) = captured.lines()
    assert line["error.type"] == "rpa_core.errors.LeaseLost"
    assert line["error.code"] == "LEA001"
    assert "KeyError: 'first'" in line["error.stack_trace"]
    assert "second\nline" in line["error.stack_trace"]


@pytest.mark.requirement("R5.3")
@pytest.mark.parametrize("where", ["message", "extra", "many", "stack", "quotes"])
def test_no_line_is_longer_than_8_kib(captured: Captured, where: str) -> None:
    """Long texts lose their middle, and the line says so; it stays valid JSON with its beginning and end."""
    log = logging.getLogger("rpa")
    text = "BEGIN" + "ü" * 50_000 + "END"
    if where == "message":
        log.info(text)
    elif where == "extra":
        log.info("x", extra={"payload": text, "nested": {"a": [text, text]}})
    elif where == "many":
        log.info("x", extra={f"key{number}": "v" * 200 for number in range(500)})
    elif where == "quotes":
        log.info("BEGIN" + '"\\\n' * 20_000 + "END")
    else:
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("x")
    assert captured.logs.flush()
    (raw,) = captured.stream.getvalue().splitlines()
    assert len(raw.encode()) <= 8192
    line = json.loads(raw)
    assert line["log.truncated"] is True
    if where == "stack":
        assert line["error.stack_trace"].startswith("Traceback")
        assert line["error.stack_trace"].endswith("END")


@pytest.mark.requirement("R5.3")
def test_short_lines_are_not_marked(captured: Captured) -> None:
    """`log.truncated` is there only when something was left out."""
    logging.getLogger("rpa").info("short")
    assert "log.truncated" not in captured.lines()[0]


@pytest.mark.requirement("R5.3")
def test_nothing_a_caller_passes_makes_it_raise() -> None:
    """Objects without text, cycles, wrong arguments, surrogates, NaN: each is a line of valid JSON."""
    captured = Captured()  # made here and not by the fixture: it must stand in for the test runner's own handler
    log = logging.getLogger("rpa")
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    log.info("a %s", Hostile())
    log.info("b %d", "text")
    log.info("c", extra={"hostile": Hostile(), "cycle": cycle, "set": {1}, "nan": float("nan"), "bytes": b"\xff"})
    log.info("d \ud800")
    log.info("e", extra={"log.level": "clash"})
    log.info({"a": 1})
    lines = captured.lines()
    captured.logs.stop()
    assert len(lines) == 6
    assert "arguments do not fit" in lines[1]["message"]
    assert "str() raised RuntimeError" in lines[2]["hostile"]
    assert (lines[4]["log.level"], lines[4]["labels.log.level"]) == ("info", "clash")


@pytest.mark.requirement("R5.3")
def test_the_callers_objects_stay_as_they_are(captured: Captured) -> None:
    """Hiding a secret changes a copy."""
    given = {"password": "hunter22", "plain": ["x"]}
    logging.getLogger("rpa").info("x", extra={"given": given})
    assert captured.lines()[0]["given"] == {"password": "********", "plain": ["x"]}
    assert given == {"password": "hunter22", "plain": ["x"]}


@pytest.mark.requirement("R5.3", "R7.2")
@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("dsn postgresql://u:hunter22@h/d", "hunter22"),
        ("host=h password=hunter22 dbname=d", "hunter22"),
        ("{'api_key': 'hunter22'}", "hunter22"),
        ("Authorization: Bearer hunter22hunter22", "hunter22"),
        ("INTAKE_TOKEN=hunter22", "hunter22"),
    ],
)
def test_secrets_nobody_registered_are_hidden_by_their_place(captured: Captured, text: str, hidden: str) -> None:
    """After a telling key, in a connection string, in a bearer header."""
    logging.getLogger("rpa").info(text)
    message = captured.lines()[0]["message"]
    assert hidden not in message
    assert "********" in message


@pytest.mark.requirement("R5.3")
@pytest.mark.parametrize("text", ["secret sharing explained", "took 3 tokens", "password: see the file", "a://b/c"])
def test_plain_words_stay(captured: Captured, text: str) -> None:
    """Prose that mentions a key is not torn apart beyond what follows it."""
    logging.getLogger("rpa").info(text)
    assert captured.lines()[0]["message"].split()[0] == text.split()[0]


@pytest.mark.requirement("R5.3")
def test_warnings_and_dying_threads_are_lines(captured: Captured) -> None:
    """What bypasses loggers comes through the same formatter, and the hooks are put back afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = captured.logs._hooks._warning  # catch_warnings restores it; the hook under test is this
        warnings.warn("old way", DeprecationWarning, stacklevel=1)

    def die() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=die, name="doomed")
    thread.start()
    thread.join()
    sys.unraisablehook(UnraisableArgs(ValueError("in __del__")))  # type: ignore[arg-type]  # the C type cannot be made
    sys.excepthook(ValueError, ValueError("unhandled"), None)
    lines = captured.lines()
    assert [line["event.action"] for line in lines] == [
        "process.warning",
        "process.thread_exception",
        "process.unraisable_exception",
        "process.unhandled_exception",
    ]
    assert lines[1][
        "process.thread.name" if "labels.process.thread.name" not in lines[1] else "labels.process.thread.name"
    ]
    installed = sys.excepthook
    captured.logs.stop()
    assert sys.excepthook is not installed


class UnraisableArgs:
    def __init__(self, error: BaseException) -> None:
        self.exc_type, self.exc_value, self.exc_traceback = type(error), error, None
        self.err_msg, self.object = None, self


class BlockedStream(io.StringIO):
    """A stdout whose reader has stopped reading."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.gate.wait(30)
        return super().write(text)


@pytest.mark.requirement("R5.3")
def test_a_blocked_stdout_does_not_block_the_work() -> None:
    """Beyond the queue's limit records are dropped and counted, and the loss is reported when stdout moves again."""
    stream = BlockedStream()
    logs = configure(stream=stream, queue_records=100, hooks=False)
    log = logging.getLogger("rpa")
    log.info("first")
    assert stream.entered.wait(10)
    for number in range(500):
        log.info("%d", number)  # returns although nobody reads
    assert logs.dropped == 400
    assert not logs.flush(0.01)
    stream.gate.set()
    assert logs.flush(10)
    log.info("after")
    logs.stop()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len([line for line in lines if line["message"].isdigit()]) == 100
    assert [line["rpa.dropped"] for line in lines if line.get("event.action") == "log.dropped"] == [400]
    assert lines[-1]["message"] == "after"


@pytest.mark.requirement("R5.3")
def test_a_closed_stdout_does_not_end_the_work() -> None:
    """Writing to a stream that is gone raises nowhere."""
    stream = io.StringIO()
    logs = configure(stream=stream, hooks=False)
    stream.close()
    logging.getLogger("rpa").info("x")
    assert logs.flush()
    logs.stop()


@pytest.mark.requirement("R5.3")
def test_the_console_format_reads_well() -> None:
    """One line with level, logger, text and extras; the traceback follows as people know it."""
    stream = io.StringIO()
    logs = configure("console", "info", stream=stream, hooks=False)
    log = logging.getLogger("rpa.worker")
    log.debug("hidden")
    log.info("claimed", extra={"event.action": "claim.made", "rpa.records": 5})
    try:
        raise ValueError("boom")
    except ValueError:
        log.exception("failed")
    logs.stop()
    text = stream.getvalue()
    assert "hidden" not in text
    assert "rpa.records=5" in text.splitlines()[0]
    assert text.rstrip().endswith("    ValueError: boom")


@pytest.mark.requirement("R5.3", "R7.2")
def test_nothing_that_is_logged_forges_a_line_or_steers_a_terminal() -> None:
    """In a message, an argument, an extra and a traceback; in the console format. JSON has escapes of its own."""
    hostile = "a\nINJECTED 12:00:00.000 CRITICAL root \x1b[2J\x9b\u202e\u2028\r\x00\ud800"
    stream = io.StringIO()
    logs = configure("console", "info", stream=stream, hooks=False)
    log = logging.getLogger("rpa.worker")
    log.info("aside %s", hostile, extra={"rpa.key": hostile, f"odd{hostile}": [hostile]})
    try:
        raise ValueError(hostile)
    except ValueError:
        log.exception(hostile)
    logs.stop()
    lines = stream.getvalue().splitlines()
    assert sum(not line.startswith("    ") for line in lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "\\x1b[2J\\x9b\\u202e\\u2028\\r\\x00\\ud800" in lines[0]


@pytest.mark.requirement("R5.3", "N4")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
@pytest.mark.parametrize("form", ["json", "console"])
def test_a_line_that_stdout_cannot_encode_is_written_with_escapes(form: Any, encoding: str) -> None:
    """It is there, and JSON still."""
    written = io.BytesIO()
    logs = configure(form, "info", stream=io.TextIOWrapper(written, encoding, errors="strict"), hooks=False)
    logging.getLogger("rpa.worker").info("gr\xfc\xdfe \u274c \U0001f600 \x81")
    logs.stop()
    (line,) = written.getvalue().decode(encoding).splitlines()
    assert "\\u274c" in line
    if form == "json":
        assert json.loads(line)["message"] == "gr\xfc\xdfe \u274c \U0001f600 \x81"


@pytest.mark.requirement("R5.3")
def test_libraries_write_warnings_and_what_is_worse() -> None:
    """Lines of rpa, of the flow's package and of loggers that no library has are written from the level on."""
    stream = io.StringIO()
    logs = configure("console", "debug", stream=stream, hooks=False, own=["hypothesis"])
    own = ("rpa.worker", "rpa_flows.x", "billing", "root", "test_log_lines", "hypothesis.of.the.flow")
    libraries = ("pytest", "httpx._client", "asyncio", "concurrent.futures")
    import httpx  # noqa: F401 - imported: a name alone makes no library

    for name in (*own, *libraries):
        logging.getLogger(name).info("info of %s", name)
        logging.getLogger(name).warning("warning of %s", name)
    logs.stop()
    text = stream.getvalue()
    assert [name for name in (*own, *libraries) if f"info of {name}" in text] == list(own)
    assert all(f"warning of {name}" in text for name in libraries)


@pytest.mark.requirement("R5.3")
def test_stop_puts_the_root_logger_back() -> None:
    """Two runtimes in one process, one after the other, do not see each other's handlers."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    logs = configure(stream=io.StringIO())
    assert root.handlers != before[1]
    logs.stop()
    logs.stop()
    assert (root.level, root.handlers) == before


@pytest.mark.requirement("R5.3", "R7.2")
@pytest.mark.parametrize(
    "text",
    ["ü" * 50_000, "x-" * 500_000, 'token="' * 9000, "a://b:" * 10_000, "password" + " " * 60_000, "password=" * 7000],
)
def test_hiding_secrets_takes_linear_time(captured: Captured, text: str) -> None:
    """No text, however it is made, keeps the caller busy: a pattern that backtracks would take minutes here."""
    started = time.process_time()
    for _ in range(5):
        logging.getLogger("rpa").info(text)
    assert time.process_time() - started < 5
    assert len(captured.lines()) == 5


@pytest.mark.requirement("R5.3", "R7.2")
def test_a_cut_does_not_uncover_half_a_secret() -> None:
    """A very long text is shortened before it is searched; what the cut goes through is left out as well."""
    redactor = Redactor(["correct-horse-battery"])
    for shift in range(-25, 25):
        text = "a" * (32 * 1024 + shift) + "correct-horse-battery" + "b" * (64 * 1024)
        hidden = redactor.text(text)
        assert "horse" not in hidden
        assert "correct" not in hidden
        assert "battery" not in redactor.text(text[::-1] + "correct-horse-battery")


@pytest.mark.requirement("R5.3")
def test_the_limit_holds_for_every_length_around_it(captured: Captured) -> None:
    """Just below the limit a line is whole, just above it is shortened; none is longer."""
    for length in range(7600, 8300, 7):
        logging.getLogger("rpa").info("x" * length)
    assert captured.logs.flush()
    lines = captured.stream.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 8192
    assert 0 < len([line for line in lines if "log.truncated" in line]) < len(lines)


@pytest.mark.requirement("R5.3", "R7.2")
def test_secrets_are_found_in_every_spelling() -> None:
    """As written, percent-encoded in a path or a form, in JSON, in repr."""
    secret = "pass phrase/1 é\"'\\"
    redactor = Redactor([secret])
    for spelling in (
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        repr(secret),
        repr(secret.encode()),
    ):
        assert "phrase" not in redactor.text(f"before {spelling} after"), spelling
