"""Claim, process, complete: the loop that turns leased records into committed outcomes.

    claim      lease chunks (attempts and epoch are counted here, so that a crash leaves its mark)
    read       their immutable records
    handle     the flow's handler; no transaction is open meanwhile
    account    outcomes -> results, dead letters, retries, remainder, records for other flows
    complete   one transaction, fence first; a lost lease writes nothing

What a crash does
    before or while handling    the lease runs out, another worker claims; nothing was written
    inside the completion       PostgreSQL rolls it back; as above
    at the COMMIT, unheard      `Ledger.settle` reads what became of it; nothing is repeated blindly
    while the database is away  what was finished is in the spool (`finished.py`); a later life commits it, by its lease
    after it                    nothing: the outcome is committed

Trust: the worker begins no record once its lease may have run out (`lease.py`). Drain: it begins no further record,
commits what it finished and gives the rest back in the same transaction.
"""
