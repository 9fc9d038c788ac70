"""The yardstick: the work of a no-op flow by hand, in plain psycopg, as a good engineer would write it once.

Kept from the engine, because it is the durable work itself: immutable records, chunks of 1,000, a claim with SKIP
LOCKED under a lease id (asynchronous commit), one transaction that takes the chunk out under that lease, notes how it
ended and COPYs one result row per record (synchronous commit). The tables have the engine's columns and keys.

Left out, because that is what the engine adds: partitions, lease renewal and reclaim, retries and dead letters,
handlers that may fail, emission to other flows, adaptive claims, drain, metrics, health, PgBouncer's rules.
"""
