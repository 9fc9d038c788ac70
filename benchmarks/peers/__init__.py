"""The same work on rpa and on three other queues: one small JSON record in, one committed result row out.

What is equal for all sides: the records, the PostgreSQL server with its durable settings, two worker processes, what is
done with a record (decoded, encoded again, stored as a row with the record's number as its key), the start (all records
are there, both workers are at the gate, the gate opens), how time is measured (the server's commit timestamps), and the
proof at the end that each record has exactly one row. What differs is each side's own way of handing out and finishing
records, set up as its documentation advises for throughput; `Side.settings` names each choice with its reason and page.

A record is the unit of delivery, retry and failure on every side. Handing a peer's handler a thousand records at once
would be faster, and would be another contract: one bad record would then fail the other 999.
"""
