"""When records came and when they were finished, for checkers that need all of a run's faults first."""

from __future__ import annotations

from array import array

from rpa_testkit.history.entries import Entry

NEVER = float("inf")


class Lives:
    """Fed with outcome lines; 24 bytes a record. `done` is infinite for what is unfinished."""

    def __init__(self) -> None:
        self.enqueued = array("d")
        self.done = array("d")
        self.seq = array("q")

    def note(self, entry: Entry) -> None:
        """Take an outcome's line."""
        value = entry[6]
        done = value[7]
        self.enqueued.append(value[6])
        self.done.append(NEVER if done is None else done)
        self.seq.append(entry[0])
