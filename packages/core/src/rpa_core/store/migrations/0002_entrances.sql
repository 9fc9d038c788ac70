-- 0002 entrances: what comes in is bounded by bytes, and nothing of it is lost without a word.
-- Additive: workers and clients of 0001 run beside it. Locks: ACCESS EXCLUSIVE on rpa.chunk for the moment that adding
-- a column without a default takes.

-- == Chunks know their size ==

-- Bytes of JSON text in the chunk's payloads; NULL where the writer did not count them: a client of 0001, or records
-- that were put back. A worker measures those before it reads them.
ALTER TABLE rpa.chunk ADD COLUMN bytes bigint CHECK (bytes >= 0);

-- == Flows, periods and enqueueing ==

-- == Dead letters, rights and retention ==
