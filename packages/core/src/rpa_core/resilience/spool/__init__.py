"""The spool: a durable local queue for what must reach another system later.

    put -> waiting --delivered--> gone          (acknowledged: never sent again)
               |  \\--later-------> waiting       (its stream waits, in order; other streams go on)
               |---refused------> dead letter    (kept with its reason until a person decides)
               \\---no room-------> dropped       (only entries put with keep=False, oldest first, counted)

One SQLite file in WAL mode for each life of a process, named after it and locked by it. What a dead process left is
adopted by the next one of the same flow. `put` returns when the entry is on the disk: a SIGKILL at any moment leaves
every entry that was put, in order, and none half. Each entry carries a checksum; one that does not match becomes a
dead letter, and a file that is no database any more is put aside, never deleted.

Without a folder the same queue lives in memory: same limits, same order, gone with the process.
"""
