"""PostgreSQL: the ledger of work, the records, their outcomes. The only room that speaks SQL.

What is kept
    record       immutable input, one row each, ids handed out in blocks of 1,000
    chunk        what is still to do: one small mutable row leases up to 1,000 records
    result       the one outcome of a record that is done; its primary key is the backstop
    dead_letter  a record that was set aside, with every reason; it can be put back
    chunk_done   how each chunk ended, for audit and for the unknown outcome of a COMMIT
    period       a span of days; records, results, dead letters and finished chunks of a period leave together

States of a chunk: (w)aiting -> (r)eady -> (l)eased -> gone into `chunk_done`; a lease that ran out goes back to
leased under another lease id, a released one to ready.

Invariants, most of them held by the database itself
    1. A record is in exactly one place: an unfinished chunk, `result` or `dead_letter`.
    2. Records and the chunk that lists them are written by one transaction, so no cursor over ids exists that a
       late commit could slip behind.
    3. A chunk ends once: its row is deleted, under the lease id and epoch of the claim, by the transaction that
       writes its results. Whoever does not find the row under its lease writes nothing.
    4. A finished chunk accounts for each of its records: n_ok + n_moved + n_dead = n is a CHECK.

A crash anywhere before that commit leaves the lease to run out; a crash after it loses only the news, which
`Ledger.settle` reads back.
"""
