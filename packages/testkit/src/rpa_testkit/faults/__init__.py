"""What can be broken. Each kind works on any driver that offers what it needs; `catalogue` lists them.

lease      a fault's life
process    crash, terminate, restart, pause
network    partition (both, one way), latency, bandwidth, reset, half-open
database   postgres-crash, postgres-restart, backends-terminated, slots-filled, read-only
resources  memory, cpu, disk-full, files
http       a dependency answers with errors, late, by turns, or is not heard
severed    a worker started or killed without PostgreSQL, or cut off at a COMMIT
catalogue  all kinds by name
"""
