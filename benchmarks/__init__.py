"""Speed and memory, measured against bars. `python -m benchmarks` runs everything; `nox -s benchmark` calls it.

Each module of this folder is one measurement with a `measure(bench)` that gives figures; `catalogue.py` lists them.
`baseline/` is the same durable work written by hand in plain psycopg: what the engine's comfort costs is measured
against it in the same run, the two taking turns, so that a busy machine slows both. Every figure is a median over
`--runs` runs (5 by default) with all samples in the JSON report, unless the measurement says otherwise.

PostgreSQL is the embedded one with fsync, synchronous_commit and full_page_writes on, as in production. Workers are
the real command (`rpa run`) in processes of their own. `--quick` takes tiny sizes and one run: it proves that the
benchmarks still work, and its figures mean nothing.

It stands outside the packages because it uses all three.
"""
