"""What a worker tells the outside; the runtime turns it into metrics and health. Does nothing by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class WorkerEvents:
    """Callbacks from the worker's thread; they must be quick and must not raise.

    `completed`, `handed_on_known` and `lost` also come from the thread that completes what earlier runs finished.
    """

    def beat(self) -> None:
        """The main loop is alive."""

    def state(self, state: str) -> None:
        """waiting, running or paused."""

    def claimed(self, records: int) -> None:
        """A claim came back with so many records; 0 is an empty queue."""

    def handled(self, records: int, seconds: float) -> None:
        """So many records went through the handler in so much time."""

    def completed(self, *, done: int, moved: int, dead: int) -> None:
        """A chunk's outcomes are committed."""

    def handed_on_known(self, to: str, records: int) -> None:
        """So many records were not handed on to a flow that has their keys already."""

    def lost(self, records: int) -> None:
        """A chunk was lost to another worker; nothing was written for it."""

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Around a completing transaction."""
        yield
