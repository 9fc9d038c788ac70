"""The stack: from nothing running to all healthy, and from a saved file to a live worker; images present."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Queue

from ci.waits import until

from benchmarks.bench import Bench
from benchmarks.copies import Copy, copied
from benchmarks.figures import Figure, at_most, of

_UP = (sys.executable, "-m", "invoke", "compose.up", "--no-build")
_DOWN = ("compose.down", "--volumes")
_SAVED = {
    "saved flow file to live worker": ("packages/flows/src/rpa_flows/rpa2/flow.py", ("rpa2",)),
    "saved flow file to two live workers": ("packages/flows/src/rpa_flows/rpa1/flow.py", ("rpa1",)),
    "saved core file to four live workers": ("packages/core/src/rpa_core/errors.py", ("rpa1", "rpa2", "rpa3")),
}
_LIVE_S = 60.0


def measure(bench: Bench) -> Iterator[Figure]:
    """Raises RuntimeError where there is no engine, or a command fails."""
    with copied(bench.folder) as copy:
        copy.invoke("build.selective")
        try:
            samples = []
            for _ in range(bench.runs):
                copy.invoke(*_DOWN)
                samples.append(copy.seconds(*_UP))
            yield of("stack up, all healthy", samples, "s", at_most(45), note="whole process, empty volumes")
            with _watch(copy) as lines:
                for name, (path, services) in _SAVED.items():
                    samples = [_save(copy, lines, path, services) for _ in range(bench.size(10, 2))]
                    yield of(name, samples, "s", at_most(1.5), note="dev.watch in the development stack")
        finally:
            copy.invoke(*_DOWN)


@contextmanager
def _watch(copy: Copy) -> Iterator[Queue[str]]:
    """`invoke dev.watch`, once it watches; its lines."""
    process, lines = copy.start("dev.watch"), Queue[str]()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        _line(lines, "watching")
        yield lines
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()


def _save(copy: Copy, lines: Queue[str], path: str, services: tuple[str, ...]) -> float:
    """Seconds from the save until the watch has said that the workers are live, which they are with the new code."""
    began = time.perf_counter()
    word = copy.edit(path)
    said = _line(lines, path)
    taken = time.perf_counter() - began
    if "live after" not in said:
        raise RuntimeError(f"{path} was saved, and the watch says: {said}")
    what = f"{', '.join(services)} to run the saved code"
    until(lambda: all(word in _logs(copy, service) for service in services), timeout_s=_LIVE_S, what=what)
    return taken


def _logs(copy: Copy, service: str) -> str:
    return copy.invoke("compose.logs", "--service", service, "--tail", "50")


def _line(lines: Queue[str], text: str) -> str:
    deadline = time.perf_counter() + _LIVE_S
    seen = list[str]()
    while time.perf_counter() < deadline:
        try:
            seen.append(lines.get(timeout=1.0))
        except Empty:
            continue
        if text in seen[-1]:
            return seen[-1]
    raise RuntimeError(f"dev.watch did not say {text!r} within {_LIVE_S:g} s, but:\n{''.join(seen)}")
