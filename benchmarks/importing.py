"""What `import rpa_core` costs over bare Python, and that it loads nothing that has to be installed."""

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


def measure(bench: Bench) -> Iterator[Figure]:
    """Medians of 20 starts each, taking turns."""
    bare, imported = [], []
    for _ in range(bench.size(20, 3)):
        bare.append(_start_ms("pass"))
        imported.append(_start_ms("import rpa_core"))
    yield Figure(
        name="import rpa_core over bare Python",
        value=statistics.median(imported) - statistics.median(bare),
        unit="ms",
        bar=figures.at_most(60),
        samples=[b - a for a, b in zip(bare, imported, strict=True)],
        note=f"bare {statistics.median(bare):.1f} ms, with it {statistics.median(imported):.1f} ms",
    )
    foreign = subprocess.run([sys.executable, "-c", _NEW_MODULES], check=True, capture_output=True, text=True)
    names = foreign.stdout.split()
    yield Figure(
        name="third-party modules loaded by it",
        value=len(names),
        unit="modules",
        bar=figures.at_most(0),
        note=", ".join(names),
    )


def _start_ms(statement: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter() - begun) * 1000
