"""The spool as a queue: order, ids, room, age, dead letters; in memory and in a file alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpa_core.resilience.spool.directory import shares
from rpa_core.resilience.spool.model import DeadEntry, Listener, New, Share, SpoolFull
from rpa_core.resilience.spool.rows import size_of
from rpa_core.resilience.spool.spool import Spool

MIB = 2**20


class Now:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture(params=["memory", "file"])
def spool(request: pytest.FixtureRequest, tmp_path: Path, now: Now) -> Iterator[Spool]:
    path = tmp_path / "f.l.a.spool" if request.param == "file" else None
    with closing(Spool(path, max_bytes=MIB, shares=shares(100.0), now=now)) as opened:
        yield opened


def new(name: str, stream: str = "s", kind: str = "prefect", body: bytes = b"{}", *, keep: bool = True) -> New:
    return New(name, kind, stream, body, keep)


def ids(found: Any) -> list[str]:
    return [entry.id for entry in found]


@pytest.mark.requirement("R2.3")
def test_heads_are_the_oldest_of_each_stream(spool: Spool) -> None:
    """One entry of each stream, oldest first; the next one only when it is out of the way."""
    spool.put(new("a1", "a"), new("b1", "b"), new("a2", "a"), new("c1", "c", kind="alert"))
    assert ids(spool.heads("prefect")) == ["a1", "b1"]
    assert ids(spool.heads("prefect", limit=1)) == ["a1"]
    assert ids(spool.heads("prefect", limit=1, without={"a"})) == ["b1"]
    spool.acknowledge("a1", "unknown")
    assert ids(spool.heads("prefect")) == ["b1", "a2"]
    assert ids(spool.entries("prefect")) == ["b1", "a2"]
    assert ids(spool.entries("prefect", "a")) == ["a2"]
    assert spool.waits("prefect", "a")
    assert not spool.waits("prefect", "c")
    assert ids(spool.heads("alert")) == ["c1"]


@pytest.mark.requirement("R2.3")
def test_heads_are_found_among_many(spool: Spool) -> None:
    """Behind a long stream, and beside many that are left out."""
    spool.put(*(new(f"long{number}", "long", keep=number % 2 == 0) for number in range(500)))
    spool.put(*(new(f"id{number}", f"s{number}") for number in range(500)))
    assert ids(spool.heads("prefect", 3)) == ["long0", "id0", "id1"]
    without = {"long", *(f"s{number}" for number in range(495))}
    assert ids(spool.heads("prefect", without=without)) == [f"id{number}" for number in range(495, 500)]
    assert len(spool.heads("prefect", 1000)) == 501


@pytest.mark.requirement("R2.3")
def test_an_id_is_put_once(spool: Spool) -> None:
    """The same id changes nothing, neither while it waits nor while it is dead."""
    spool.put(new("a", body=b"1"))
    spool.put(new("a", body=b"2"))
    assert [entry.body for entry in spool.entries("prefect")] == [b"1"]
    spool.bury(spool.heads("prefect")[0], "refused")
    spool.put(new("a", body=b"3"))
    assert spool.entries("prefect") == []
    assert [dead.entry.body for dead in spool.dead()] == [b"1"]


@pytest.mark.requirement("R2.3")
def test_dead_letters_are_put_back_or_thrown_away(spool: Spool, now: Now) -> None:
    """With their reason; back to the end of the stream, under the same id, as if new."""
    told: list[DeadEntry] = []
    spool.listen("prefect", Listener(on_put=lambda: None, on_dead=told.append))
    spool.put(new("a"), new("b"), new("c"))
    spool.put_off(spool.heads("prefect")[0])
    first = spool.heads("prefect")[0]
    assert first.tries == 1
    spool.bury(first, "no such run")
    spool.bury(first, "again: it waits no longer")
    assert [(dead.entry.id, dead.reason) for dead in told] == [("a", "no such run")]
    assert spool.depth("prefect").dead == 1
    now.at += 50
    assert spool.retry("a")
    assert not spool.retry("a")
    assert ids(spool.entries("prefect")) == ["b", "c", "a"]
    back = spool.entries("prefect")[-1]
    assert (back.tries, back.put_at) == (0, now.at)
    spool.bury(back, "no such run")
    assert spool.discard("a")
    assert not spool.discard("a")
    assert (list(spool.dead()), spool.depth("prefect").dead) == ([], 0)
    spool.put(new("a"))
    assert ids(spool.entries("prefect")) == ["b", "c", "a"]


@pytest.mark.requirement("R2.3", "R6.5")
def test_a_kind_has_its_share(spool: Spool) -> None:
    """Where all is to be kept, the next one is refused, and other kinds have what is theirs."""
    body = b"x" * 10_000
    count = int(0.35 * MIB) // size_of(len(body))
    for number in range(count):
        spool.put(new(f"i{number}", kind="intake", body=body))
    with pytest.raises(SpoolFull, match="no room"):
        spool.put(new("one more", kind="intake", body=body))
    assert not spool.has_room("intake", len(body))
    assert spool.has_room("finished", len(body))
    spool.put(new("f", kind="finished", body=body))
    spool.acknowledge("i0")
    assert spool.has_room("intake", len(body))
    spool.put(new("again", kind="intake", body=body))


@pytest.mark.requirement("R2.3")
def test_a_put_is_all_or_nothing(spool: Spool) -> None:
    """One that does not fit takes the others with it."""
    with pytest.raises(SpoolFull):
        spool.put(new("a", kind="alert"), new("b", kind="alert", body=b"x" * MIB))
    with pytest.raises(SpoolFull, match="takes no entries of kind 'other'"):
        spool.put(new("a", kind="alert"), new("b", kind="other"))
    assert spool.entries("alert") == []


@pytest.mark.requirement("R2.3")
def test_what_may_be_dropped_goes_first(spool: Spool) -> None:
    """Droppable entries make room for newer ones, oldest first and counted; states may take what others leave."""
    body = b"x" * 2000
    for number in range(300):
        spool.put(new(f"log{number}", "logs", body=body, keep=False))
    spool.put(*(new(f"state{number}", "states", body=body) for number in range(150)))
    waiting = spool.entries("prefect")
    logs = [entry.id for entry in waiting if not entry.keep]
    assert logs == [f"log{number}" for number in range(300 - len(logs), 300)]
    assert spool.depth("prefect").dropped == 300 - len(logs)
    spool.put(new("late log", "logs", body=body, keep=False))
    assert len([entry for entry in spool.entries("prefect") if entry.keep]) == 150
    assert spool.depth("prefect").dropped == 301 - len([e for e in spool.entries("prefect") if not e.keep])
    with pytest.raises(SpoolFull):
        spool.put(*(new(f"more{number}", "states", body=body) for number in range(500)))
    spool.put(new("no place at all", body=b"x" * MIB, keep=False))
    assert "no place at all" not in ids(spool.entries("prefect"))


@pytest.mark.requirement("R2.3")
def test_what_is_too_old_is_not_sent(spool: Spool, now: Now) -> None:
    """It is dropped, or a dead letter with that reason where it is to be kept."""
    spool.put(new("log", keep=False), new("state"))
    now.at += 60
    spool.put(new("young"))
    now.at += 41
    assert spool.depth("prefect").oldest_s == pytest.approx(101)
    spool.tidy()
    assert ids(spool.entries("prefect")) == ["young"]
    assert [(dead.entry.id, dead.reason) for dead in spool.dead()] == [("state", "not delivered within 100 s")]
    assert spool.depth("prefect").dropped == 1
    assert spool.retry("state")
    spool.tidy()
    assert ids(spool.entries("prefect")) == ["young", "state"]


@pytest.mark.requirement("R2.3")
def test_notes_are_remembered_and_forgotten(spool: Spool) -> None:
    """By kind and name."""
    spool.remember("prefect", "run", b"1")
    spool.remember("prefect", "run", b"2")
    spool.remember("alert", "open", b"x")
    assert spool.notes("prefect") == {"run": b"2"}
    assert spool.note("alert", "open") == b"x"
    assert not spool.close_if_drained(notes_for_s=10)
    spool.remember("prefect", "run", None)
    spool.remember("alert", "open", None)
    assert spool.note("alert", "open") is None
    assert spool.close_if_drained(notes_for_s=10)


def test_a_closed_spool_is_empty_and_takes_nothing(spool: Spool) -> None:
    """A courier that comes too late finds nothing, and a put says so."""
    spool.put(new("a"))
    assert not spool.close_if_drained()
    spool.close()
    spool.close()
    assert spool.heads("prefect") == []
    assert spool.depth("prefect").entries == 0
    assert not spool.has_room("prefect", 1)
    with pytest.raises(SpoolFull, match="closed"):
        spool.put(new("b"))


@pytest.mark.requirement("R2.3")
def test_a_file_is_read_as_it_was_left(tmp_path: Path) -> None:
    """Entries, tries, dead letters, notes and counts; only its owner may read it."""
    path = tmp_path / "f.l.a.spool"
    with closing(Spool(path, max_bytes=MIB, shares=shares(None))) as first:
        assert first.durable
        first.put(new("a"), new("b"), new("c"))
        first.put_off(first.heads("prefect")[0])
        first.bury(first.entries("prefect")[1], "refused")
        first.remember("prefect", "n", b"v")
        before = first.entries("prefect"), list(first.dead()), first.notes("prefect")
        assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}
    with closing(Spool(path, max_bytes=MIB, shares=shares(None))) as second:
        assert (second.entries("prefect"), list(second.dead()), second.notes("prefect")) == before
        assert (second.depth("prefect").entries, second.depth("prefect").dead) == (2, 1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "acknowledge", "put_off", "bury", "retry", "discard"]),
        st.integers(0, 7),
        st.integers(0, 2),
        st.integers(0, 3000),
    ),
    max_size=60,
)


@pytest.mark.requirement("R2.3")
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_it_does_what_lists_would_do(steps: list[tuple[str, int, int, int]]) -> None:
    """Any sequence of calls leaves what a simple model of lists leaves, and the counts agree with it."""
    with closing(Spool(None, max_bytes=MIB, shares={"k": Share(ratio=1.0)})) as spool:
        waiting: list[tuple[str, str, bytes]] = []
        dead: list[tuple[str, str, bytes]] = []
        for what, number, stream, size in steps:
            name = f"id{number}"
            at = next((i for i, each in enumerate(waiting) if each[0] == name), None)
            gone = next((i for i, each in enumerate(dead) if each[0] == name), None)
            if what == "put":
                spool.put(New(name, "k", f"s{stream}", bytes(size)))
                if at is None and gone is None:
                    waiting.append((name, f"s{stream}", bytes(size)))
            elif what == "acknowledge":
                spool.acknowledge(name)
                del waiting[at : at + 1 if at is not None else 0]
            elif what == "put_off" and at is not None:
                spool.put_off(spool.entries("k")[at])
            elif what == "bury" and at is not None:
                spool.bury(spool.entries("k")[at], "r")
                dead.append(waiting.pop(at))
            elif what == "retry":
                assert spool.retry(name) is (gone is not None)
                if gone is not None:
                    waiting.append(dead.pop(gone))
            elif what == "discard":
                assert spool.discard(name) is (gone is not None)
                del dead[gone : gone + 1 if gone is not None else 0]
        assert [(e.id, e.stream, e.body) for e in spool.entries("k")] == waiting
        assert sorted(d.entry.id for d in spool.dead()) == sorted(each[0] for each in dead)
        heads = {stream: name for name, stream, _ in reversed(waiting)}
        assert {entry.stream: entry.id for entry in spool.heads("k")} == heads
        depth = spool.depth("k")
        assert (depth.entries, depth.dead) == (len(waiting), len(dead))
        assert depth.size_bytes == sum(size_of(len(body)) for _, _, body in waiting + dead)
