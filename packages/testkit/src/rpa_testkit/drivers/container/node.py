"""A container as a node of a topology."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from rpa_testkit.drivers.container import faketime, limits
from rpa_testkit.drivers.container.handle import Container, EngineError, State
from rpa_testkit.drivers.container.limits import Bounds
from rpa_testkit.drivers.container.space import Space
from rpa_testkit.drivers.protocol import NotPossible, Usage
from rpa_testkit.waits import until
from rpa_testkit.warden.undo import Command, Undo

_END_S = 30.0


class ContainerNode:
    """`asks` tells whether it answers; `bounds` is what it was created with; `log` takes its output at the end."""

    def __init__(
        self, name: str, container: Container, *, asks: Callable[[], bool], bounds: Bounds, space: Space, log: Path
    ) -> None:
        self.name = name
        self._container = container
        self._asks = asks
        self._bounds = bounds
        self._space = space
        self._log = log
        self._guard = threading.Lock()
        self._killed: set[str] = set()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._look().running

    @property
    def paused(self) -> bool:
        """Whether it is frozen."""
        return self._look().paused

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal."""
        return self._look().exit_code

    @property
    def incarnation(self) -> str:
        """The container and when it was started."""
        return f"{self._container.id[:12]}/{self._look().started_at}"

    def start(self) -> None:
        """Start it again: the same container, so its name, ports and settings stay."""
        self._look()  # the next start makes the Engine forget that this incarnation was killed for its memory
        self._container.start()

    def kill(self) -> None:
        """SIGKILL; a frozen one dies too."""
        self._container.signal("SIGKILL")
        self.wait_exit(_END_S)

    def terminate(self) -> None:
        """SIGTERM."""
        self._container.signal("SIGTERM")

    def wait_exit(self, timeout_s: float) -> int:
        """The exit code."""
        until(lambda: not self.running, timeout_s, f"{self.name} to end", self._tail, every_s=0.05)
        code = self.exit_code
        if code is None:
            raise EngineError(f"{self.name} was never started")
        return code

    def ready(self) -> bool:
        """Whether it answers."""
        return self._asks()

    def usage(self) -> Usage | None:
        """What its cgroup counts."""
        try:
            state = self._look()
            stats = self._container.stats() if state.running else {}
        except EngineError:
            return None
        if not stats.get("memory_stats"):
            return None
        return Usage(
            rss_bytes=limits.resident_bytes(stats),
            cpu_s=limits.cpu_s(stats),
            files=limits.open_files(self._container.id, state.pid),
        )

    def log_text(self) -> str:
        """All incarnations' output; after the end, what was kept of it."""
        if self._log.exists():
            return self._log.read_text(errors="replace")
        return self._container.output().decode(errors="replace")

    def pause(self) -> None:
        """The cgroup's freezer."""
        self._container.pause()

    def resume(self) -> None:
        """Nothing if it is not frozen."""
        if self.paused:
            self._container.unpause()

    def limit(self, what: str, amount: float | None) -> None:
        """`cpu`, `memory` or `files`; a bound that is taken away is replaced by the one it was created with."""
        match what:
            case "cpu":
                own = self._bounds.cores
                limits.limit_cpu(self._container, own if amount is None else amount, own)
            case "memory" if amount is None:
                self._container.update(memory_bytes=self._bounds.memory_bytes)
            case "memory":
                assert amount is not None
                limits.limit_memory(self._container, int(amount))
            case "files":
                if amount is not None or self.running:  # a new incarnation has the old limits again
                    limits.limit_files(self._container, self._bounds.files if amount is None else int(amount))
            case _:
                raise NotPossible(f"a container has no bound on {what!r}: there are cpu, memory and files")

    def throttled(self) -> float:
        """Periods of its cgroup, since it was started."""
        return float(limits.throttled_periods(self._container.stats()))

    def oom_kills(self) -> int:
        """Incarnations in which the kernel has killed for the memory bound."""
        self._look()
        return len(self._killed)

    def fill_disk(self) -> None:
        """Its tmpfs."""
        self._space.fill()

    def free_disk(self) -> None:
        """Nothing if it has ended: its tmpfs went with it."""
        self._space.give_back()

    def disk_free(self) -> int:
        """Of its tmpfs."""
        return self._space.free_bytes()

    def skew_clock(self, seconds: float) -> None:
        """With libfaketime alone."""
        faketime.skew(self._container, seconds)

    def clock_offset(self) -> float:
        """By its own `date`."""
        return faketime.offset(self._container)

    def undo_of(self, what: str) -> Undo:
        """The docker command that takes it back."""
        container, bounds = self._container.id, self._bounds
        update = ("docker", "update")
        match what:
            case "pause":
                return Command(argv=("docker", "unpause", container))
            case "cpu":
                return Command(argv=(*update, "--cpu-quota", str(limits.quota_us(bounds.cores)), container))
            case "memory":
                most = str(bounds.memory_bytes)
                return Command(argv=(*update, "--memory", most, "--memory-swap", most, container))
            case "files":
                return Command(argv=("docker", "exec", container, *limits.files_argv(bounds.files)))
            case "disk":
                return self._space.undo()
            case "clock":
                return faketime.undo(self._container)
        raise NotPossible(f"nothing is known that takes {what!r} back")

    def _look(self) -> State:
        state = self._container.state()
        if state.oom_killed:
            with self._guard:
                self._killed.add(state.started_at)
        return state

    def _tail(self) -> str:
        return self.log_text()[-4000:]
