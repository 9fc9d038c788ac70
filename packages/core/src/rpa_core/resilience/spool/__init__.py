"""The spool: a durable local queue for what must reach another system later.

    put -> waiting --delivered--> gone          (acknowledged: never sent again)
               |  \\--later-------> waiting       (its stream waits, in order; other streams go on)
               |---refused------> dead letter    (also too old, or damaged; kept until a person decides)
               \\---no room-------> dropped       (only entries put with keep=False, oldest first, counted)
    dead letter --retry--> waiting, at the end of its stream      --discard--> gone

One SQLite file in WAL mode for each life of a process, `<flow>.<label>.<incarnation>.spool`, beside it a lock that the
kernel lets go of with the process, and a reserve. What a dead process left is adopted by the next one of the same flow,
delivered, and removed when nothing is left in it. Delivery is at least once, with ids that receivers can tell apart.
Without a folder the same queue lives in memory: same limits, same order, gone with the process.

A SIGKILL at any moment, step by step:

    while a put is under way            all of its entries are there, or none
    after a put returned                they are there, in order
    between delivery and receipt        the head of the stream is delivered once more
    after the receipt was written       it never comes back
    between two removals of files       the next process removes the rest

What each kind may take, and what happens when there is no room:

    kind      share  its share is used up            the disk is full
    prefect    25 %  oldest logs and progress are     logs and progress are dropped, states are written
                     dropped; states may take what    out of the reserve
                     other kinds have left
    alert       5 %  refused (it is logged anyway)    written out of the reserve
    finished   35 %  refused, stays in memory         refused, stays in memory
    intake     35 %  refused, the client hears 503    refused, the client hears 503
    receipts         need no room                     written out of the reserve

Dead letters count in their kind's share; those that may be dropped go first. A process that begins on a full disk
keeps its spool in memory and says so. Every entry carries a checksum that is looked at whenever its body is read. A
file that is no database any more is put aside as `*.damaged-<time>`, never deleted; what can be read of it goes on.
"""
