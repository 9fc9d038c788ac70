"""A process that puts entries into a spool, and may deliver them, until it is killed. Run as a program.

It writes a line to the record, in one write each, when
    P <id>  a put returned          D <id>  the receiver got it          A <id>  its acknowledgement returned
    X <id>  the receiver got something else than was put
Ids are `<incarnation>.<stream>:<number>`; bodies follow from the ids.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from rpa_core.resilience.spool.courier import Courier
from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.resilience.spool.model import Delivered, Entry, New, Verdict
from rpa_core.resilience.spool.spool import Spool

KIND = "prefect"
_STREAMS = 3


def body_of(name: str) -> bytes:
    """From a few bytes to some pages."""
    digest = hashlib.sha256(name.encode()).digest()
    return digest * (1 + digest[0] * digest[1] // 128)


def spools_in(folder: Path, incarnation: str) -> Spools:
    """As the runtime opens them."""
    return open_spools(
        folder,
        flow="kills",
        label="test",
        incarnation=incarnation,
        max_bytes=2**28,
        max_age_s=86_400,
        reserve_bytes=2**16,
    )


def recorder(path: Path) -> Callable[[str], None]:
    """Appends lines; what it took survives the process."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def record(text: str) -> None:
        os.write(descriptor, text.encode())

    return record


def receiver(record: Callable[[str], None], takes_s: float) -> Callable[[Spool, Entry], Verdict]:
    """Takes its time before and after it has got an entry: a kill should find it at every step."""
    waiting = threading.Event()

    def deliver(_: Spool, entry: Entry) -> Verdict:
        waiting.wait(takes_s)
        record(f"{'D' if entry.body == body_of(entry.id) else 'X'} {entry.id}\n")
        waiting.wait(takes_s)
        return Delivered()

    return deliver


def reporting(record: Callable[[str], None]) -> None:
    """Every acknowledgement is reported as soon as it returned."""
    acknowledge = Spool.acknowledge

    def and_report(self: Spool, *ids: str) -> None:
        acknowledge(self, *ids)
        record("".join(f"A {each}\n" for each in ids))

    Spool.acknowledge = and_report  # type: ignore[method-assign]  # this process is for this alone


def put_for_ever(spool: Spool, incarnation: str, record: Callable[[str], None], at_most: int) -> None:
    """Some at a time, over some streams; slowly when more than `at_most` wait, unless that is 0."""
    rand = random.Random(incarnation)
    numbers = [0] * _STREAMS
    waiting = threading.Event()
    while True:
        if at_most:
            waiting.wait(0.002 if spool.depth(KIND).entries < at_most else 0.05)
        names = []
        for _ in range(rand.choice((1, 1, 2, 5, 20))):
            stream = rand.randrange(_STREAMS)
            names.append(f"{incarnation}.{stream}:{numbers[stream]}")
            numbers[stream] += 1
        spool.put(*(New(name, KIND, name.partition(":")[0], body_of(name)) for name in names))
        record("".join(f"P {name}\n" for name in names))


def lose_by_acknowledging_first() -> None:
    """A mistake: what is sent is taken out before it is sent."""
    ask = Courier._ask

    def ask_late(self: Courier, spool: Spool, entry: Entry) -> Verdict:
        spool.acknowledge(entry.id)
        return ask(self, spool, entry)

    Courier._ask = ask_late  # type: ignore[method-assign]  # a mistake on purpose


def serve_the_newest_first() -> None:
    """A mistake: streams are served from their ends."""
    heads, entries = Spool.heads, Spool.entries

    def newest(self: Spool, kind: str, limit: int = 100, *, without: Sequence[str] = ()) -> list[Entry]:
        return [entries(self, kind, head.stream)[-1] for head in heads(self, kind, limit, without=without)]

    Spool.heads = newest  # type: ignore[method-assign, assignment]  # a mistake on purpose


def acknowledge_in_memory_alone() -> None:
    """A mistake: what is acknowledged is hidden, and taken out in batches."""
    acknowledge, heads = Spool.acknowledge, Spool.heads
    done: list[str] = []

    def later(self: Spool, *ids: str) -> None:
        done.extend(ids)
        if len(done) >= 50:
            acknowledge(self, *done)

    def but_done(self: Spool, kind: str, limit: int = 100, *, without: Sequence[str] = ()) -> list[Entry]:
        found = heads(self, kind, limit, without=without)
        waiting = [next((e for e in self.entries(kind, head.stream) if e.id not in done), None) for head in found]
        return [entry for entry in waiting if entry is not None]

    Spool.acknowledge = later  # type: ignore[method-assign]  # a mistake on purpose
    Spool.heads = but_done  # type: ignore[method-assign, assignment]  # a mistake on purpose


def report_before_it_is_written() -> None:
    """A mistake: puts are gathered, and written together."""
    put = Spool.put
    gathered: list[New] = []

    def later(self: Spool, *entries: New) -> None:
        gathered.extend(entries)
        if len(gathered) >= 100:
            put(self, *gathered)
            gathered.clear()

    Spool.put = later  # type: ignore[method-assign]  # a mistake on purpose


MISTAKES: dict[str, Callable[[], None]] = {
    "acknowledge-first": lose_by_acknowledging_first,
    "newest-first": serve_the_newest_first,
    "acknowledge-in-memory": acknowledge_in_memory_alone,
    "put-in-memory": report_before_it_is_written,
}


def main() -> None:
    """Until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("record", type=Path)
    parser.add_argument("incarnation")
    parser.add_argument("--deliver", action="store_true")
    parser.add_argument("--mistake", choices=sorted(MISTAKES))
    given = parser.parse_args()
    record = recorder(given.record)
    if given.mistake:
        MISTAKES[given.mistake]()
    reporting(record)
    spools = spools_in(given.folder, given.incarnation)
    if given.deliver:
        Courier(KIND, spools.all, receiver(record, 0.001)).start()
        threading.Thread(target=tidy_for_ever, args=(spools,), daemon=True).start()
    put_for_ever(spools.own, given.incarnation, record, at_most=50 if given.deliver else 0)


def tidy_for_ever(spools: Spools) -> None:
    """More often than the runtime does: a kill should find it at that too."""
    waiting = threading.Event()
    while not waiting.wait(0.01):
        spools.tidy()


if __name__ == "__main__":
    main()
