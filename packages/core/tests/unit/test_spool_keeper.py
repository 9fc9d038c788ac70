"""The keeper: what waits is exported, what is left behind is adopted and removed, errors end nothing."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import pytest

from rpa_core.observability.metrics import Metrics
from rpa_core.resilience.spool.directory import Spools, open_spools
from rpa_core.resilience.spool.model import New
from rpa_core.runtime.spooling import SpoolKeeper


def begin(folder: Path | None, incarnation: str) -> Spools:
    return open_spools(
        folder, flow="f", label="l", incarnation=incarnation, max_bytes=2**20, max_age_s=1e6, reserve_bytes=0
    )


def value(metrics: Metrics, name: str, kind: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"kind": kind})


@pytest.mark.requirement("R2.3", "R5.2")
def test_the_gauges_add_up_all_spools(tmp_path: Path) -> None:
    """Entries, bytes, age, dead letters and drops of each kind, its own and adopted; zero where there are none."""
    earlier = begin(tmp_path, "a")
    earlier.own.put(New("a1", "prefect", "s", b"x"), New("a2", "prefect", "s", b"x"))
    earlier.own.bury(earlier.own.heads("prefect")[0], "refused")
    earlier.close()
    metrics = Metrics()
    with closing(begin(tmp_path, "b")) as spools:
        spools.own.put(New("b1", "prefect", "s", b"x"))
        spools.own.put(New("b2", "prefect", "s", b"x" * 2**20, keep=False))
        keeper = SpoolKeeper(spools, metrics, threading.Event())
        keeper.export()
        keeper.export()
        assert value(metrics, "rpa_spool_entries", "prefect") == 2
        assert (value(metrics, "rpa_spool_bytes", "prefect") or 0) > 3
        assert value(metrics, "rpa_spool_oldest_seconds", "prefect") is not None
        assert value(metrics, "rpa_spool_dead", "prefect") == 1
        assert value(metrics, "rpa_spool_dropped_total", "prefect") == 1
        for kind in ("alert", "finished", "intake"):
            assert value(metrics, "rpa_spool_entries", kind) == 0
            assert value(metrics, "rpa_spool_dropped_total", kind) == 0


@pytest.mark.requirement("R2.5", "R8.2")
def test_an_error_is_not_its_end() -> None:
    """It adopts and tidies without anybody asking, and again after something went wrong."""
    looked, tidied = threading.Event(), threading.Event()

    class Failing(Spools):
        def adopt(self) -> int:
            if not looked.is_set():
                looked.set()
                raise OSError("once")
            return super().adopt()

        def tidy(self) -> int:
            tidied.set()
            return super().tidy()

    stop = threading.Event()
    with closing(begin(None, "a")) as spools:
        keeper = SpoolKeeper(Failing(spools.own), Metrics(), stop, every_s=0.01, tidy_every_s=0.01)
        keeper.start()
        assert tidied.wait(20)
        stop.set()
        keeper.stop()


@pytest.mark.requirement("R2.5", "R8.2")
def test_what_is_left_behind_is_adopted_and_removed(tmp_path: Path) -> None:
    """A process that ends while another one runs: its spool is taken over, and goes when it is drained."""
    other = begin(tmp_path, "a")
    with closing(begin(tmp_path, "b")) as spools:
        other.own.put(New("x", "prefect", "s", b"x"))
        other.close()
        keeper = SpoolKeeper(spools, Metrics(), threading.Event(), every_s=0.01, tidy_every_s=0.01)
        keeper.start()
        waiting = threading.Event()
        while not spools.adopted():
            assert not waiting.wait(0.01)
        spools.adopted()[0].acknowledge("x")
        while spools.adopted() or (tmp_path / "f.l.a.spool-lock").exists():
            assert not waiting.wait(0.01)
        keeper.stop()
