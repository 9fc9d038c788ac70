"""What `import rpa_core` and `rpa health` cost over bare Python, and that an import loads nothing foreign."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.figures import Figure

_NEW_MODULES = """
import sys
before = set(sys.modules)
import rpa_core
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(names - set(sys.stdlib_module_names) - {"rpa_core"}))
"""
# Nobody listens there: what is timed is the command, not an answer.
_PROBE = """
import io, sys
sys.stderr = io.StringIO()
from rpa_core.cli.main import main
main(["health", "--url", "http://127.0.0.1:1/"])
"""


def measure(bench: Bench) -> Iterator[Figure]:
    """Medians of 20 starts each, taking turns."""
    bare, imported, probed = [], [], []
    for _ in range(bench.size(20, 3)):
        bare.append(_start_ms("pass"))
        imported.append(_start_ms("import rpa_core"))
        probed.append(_start_ms(_PROBE))
    yield _over(bare, imported, "import rpa_core over bare Python", limit_ms=60)
    yield _over(bare, probed, "a probe by `rpa health` over bare Python", limit_ms=150)
    foreign = subprocess.run([sys.executable, "-c", _NEW_MODULES], check=True, capture_output=True, text=True)
    names = foreign.stdout.split()
    yield Figure(
        name="third-party modules loaded by `import rpa_core`",
        value=len(names),
        unit="modules",
        bar=figures.at_most(0),
        note=", ".join(names),
    )


def _over(bare: list[float], started: list[float], name: str, *, limit_ms: float) -> Figure:
    return Figure(
        name=name,
        value=statistics.median(started) - statistics.median(bare),
        unit="ms",
        bar=figures.at_most(limit_ms),
        samples=[b - a for a, b in zip(bare, started, strict=True)],
        note=f"bare {statistics.median(bare):.1f} ms, with it {statistics.median(started):.1f} ms",
    )


def _start_ms(statement: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter() - begun) * 1000
