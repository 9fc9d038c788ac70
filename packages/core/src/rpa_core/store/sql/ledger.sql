-- The statements of a chunk's life. Times are the database's: no worker's clock takes part.

-- name: claim
-- Lease ready chunks from the cursor on, until they hold :records records or :size_bytes bytes of payload; a chunk of
-- unknown size counts as that many. SKIP LOCKED: no worker waits for another. A lost claim (asynchronous commit) only
-- wastes work: its lease id can then complete nothing.
WITH picked AS MATERIALIZED (
    SELECT id, n, coalesce(bytes, %(size_bytes)s::bigint) AS bytes FROM rpa.chunk
    WHERE flow = %(flow)s AND state = 'r' AND id + 0 >= %(cursor)s
      AND NOT (SELECT paused FROM rpa.flow WHERE id = %(flow)s)
    ORDER BY id + 0 LIMIT %(chunks)s
    FOR UPDATE SKIP LOCKED
), taken AS (
    SELECT id FROM (SELECT id, sum(n) OVER w - n AS before, sum(bytes) OVER w - bytes AS before_bytes
                    FROM picked WINDOW w AS (ORDER BY id)) p
    WHERE before < %(records)s AND (%(size_bytes)s::bigint IS NULL OR before_bytes < %(size_bytes)s)
      AND set_config('synchronous_commit', 'off', true) IS NOT NULL
)
UPDATE rpa.chunk c
SET state = 'l', epoch = epoch + 1, attempts = attempts + 1, lease_id = %(lease)s, owner = %(owner)s,
    not_before = NULL, lease_until = clock_timestamp() + make_interval(secs => %(ttl_s)s)
FROM taken WHERE c.id = taken.id
RETURNING c.id, c.period, c.lo, c.hi, c.ids, c.tries, c.n, c.epoch, c.attempts, c.progress, c.bytes;

-- name: reclaim
-- Lease what another worker let run out. After a restart of the server every old lease gets one full TTL more,
-- because its owner could not renew while the server was away.
WITH picked AS MATERIALIZED (
    SELECT id, n, coalesce(bytes, %(size_bytes)s::bigint) AS bytes FROM rpa.chunk
    WHERE flow = %(flow)s AND state = 'l'
      AND greatest(lease_until, pg_postmaster_start_time() + make_interval(secs => %(ttl_s)s)) < clock_timestamp()
      AND NOT (SELECT paused FROM rpa.flow WHERE id = %(flow)s)
    ORDER BY id LIMIT %(chunks)s
    FOR UPDATE SKIP LOCKED
), taken AS (
    SELECT id FROM (SELECT id, sum(n) OVER w - n AS before, sum(bytes) OVER w - bytes AS before_bytes
                    FROM picked WINDOW w AS (ORDER BY id)) p
    WHERE before < %(records)s AND (%(size_bytes)s::bigint IS NULL OR before_bytes < %(size_bytes)s)
)
UPDATE rpa.chunk c
SET epoch = epoch + 1, attempts = attempts + 1, lease_id = %(lease)s, owner = %(owner)s,
    lease_until = clock_timestamp() + make_interval(secs => %(ttl_s)s)
FROM taken WHERE c.id = taken.id
RETURNING c.id, c.period, c.lo, c.hi, c.ids, c.tries, c.n, c.epoch, c.attempts, c.progress, c.bytes;

-- name: promote
-- Make due retries ready, a bounded number at a time; answers how many records that is. The time is that of the
-- statement: a volatile clock would be no bound for the index, and every waiting chunk would be looked at.
WITH due AS MATERIALIZED (
    SELECT id, n FROM rpa.chunk
    WHERE flow = %(flow)s AND state = 'w' AND not_before <= statement_timestamp()
    ORDER BY not_before LIMIT %(chunks)s
    FOR UPDATE SKIP LOCKED
), taken AS (
    SELECT id FROM (SELECT id, sum(n) OVER (ORDER BY id) - n AS before FROM due) d WHERE before < %(records)s
), moved AS (
    UPDATE rpa.chunk c SET state = 'r', not_before = NULL FROM taken WHERE c.id = taken.id RETURNING c.n
)
SELECT coalesce(sum(n), 0)::integer FROM moved;

-- name: read_ranges
-- The records of range chunks. LIMIT keeps the planner on the primary key.
SELECT r.id, r.key, r.payload
FROM unnest(%(periods)s::integer[], %(los)s::bigint[], %(his)s::bigint[]) AS g (period, lo, hi)
CROSS JOIN LATERAL (
    SELECT id, key, payload FROM rpa.record
    WHERE period = g.period AND id BETWEEN g.lo AND g.hi ORDER BY id LIMIT 1000
) r;

-- name: read_ids
-- The records of a chunk that lists them one by one.
SELECT r.id, r.key, r.payload
FROM rpa.record r WHERE r.period = %(period)s AND r.id = ANY(%(ids)s::bigint[]);

-- name: outline_range
-- Which records a range chunk has and how large their payloads are, without reading them.
SELECT id, octet_length(payload::text) FROM rpa.record
WHERE period = %(period)s AND id BETWEEN %(lo)s AND %(hi)s ORDER BY id LIMIT 1000;

-- name: outline_ids
-- The same of a chunk that lists its records one by one.
SELECT id, octet_length(payload::text) FROM rpa.record WHERE period = %(period)s AND id = ANY(%(ids)s::bigint[]);

-- name: renew
-- One statement for all chunks of a claim; a HOT update. Locked rows are being completed: they are left alone.
WITH mine AS MATERIALIZED (
    SELECT id FROM rpa.chunk WHERE id = ANY(%(ids)s::bigint[]) AND lease_id = %(lease)s AND state = 'l'
    ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE rpa.chunk c SET lease_until = clock_timestamp() + make_interval(secs => %(ttl_s)s)
FROM mine WHERE c.id = mine.id AND set_config('synchronous_commit', 'off', true) IS NOT NULL
RETURNING c.id;

-- name: still_ours
-- Which chunks a lease still holds, whether or not their rows are locked right now.
SELECT id FROM rpa.chunk WHERE id = ANY(%(ids)s::bigint[]) AND lease_id = %(lease)s AND state = 'l';

-- name: progress
-- Where a worker stands in a chunk that has ended workers before; asynchronous, one row.
UPDATE rpa.chunk SET progress = %(progress)s
WHERE id = %(id)s AND lease_id = %(lease)s AND state = 'l'
  AND set_config('synchronous_commit', 'off', true) IS NOT NULL
RETURNING id;

-- name: fence
-- FIRST statement of a completion: take the chunks out of the ledger, or find out that they are not ours any
-- more. The row locks keep every reclaim away until this transaction ends.
WITH bounded AS MATERIALIZED (
    SELECT set_config('statement_timeout', %(statement_timeout)s, true),
           set_config('idle_in_transaction_session_timeout', %(idle_timeout)s, true)
), given AS (
    SELECT g.* FROM bounded,
      unnest(%(ids)s::bigint[], %(epochs)s::bigint[], %(ok)s::integer[], %(moved)s::integer[], %(dead)s::integer[])
      AS g (id, epoch, n_ok, n_moved, n_dead)
), held AS (
    DELETE FROM rpa.chunk c USING given g
    WHERE c.id = g.id AND c.lease_id = %(lease)s AND c.epoch = g.epoch AND c.state = 'l'
    RETURNING c.id, c.period, c.flow, c.n, g.n_ok, g.n_moved, g.n_dead, c.epoch, c.lease_id, c.attempts, c.owner,
              c.parent, c.created_at
)
INSERT INTO rpa.chunk_done (id, period, flow, n, n_ok, n_moved, n_dead, epoch, lease_id, attempts, owner, parent,
                            created_at)
SELECT * FROM held RETURNING id;

-- name: insert_chunk
-- A chunk for what goes on: retries (waiting), a remainder or the part of a split (ready).
INSERT INTO rpa.chunk (flow, period, lo, hi, ids, tries, n, state, not_before, attempts, parent, bytes)
VALUES (%(flow)s, %(period)s, %(lo)s, %(hi)s, %(ids)s::bigint[], %(tries)s::smallint[], %(n)s, %(state)s::"char",
        CASE WHEN %(delay_s)s::float8 > 0 THEN clock_timestamp() + make_interval(secs => %(delay_s)s::float8) END,
        %(attempts)s, %(parent)s, %(size_bytes)s);

-- name: release
-- Give chunks back unprocessed. The claim is not counted: its worker ended in an orderly way.
WITH mine AS MATERIALIZED (
    SELECT id FROM rpa.chunk WHERE id = ANY(%(ids)s::bigint[]) AND lease_id = %(lease)s AND state = 'l'
    ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE rpa.chunk c
SET state = CASE WHEN %(delay_s)s > 0 THEN 'w' ELSE 'r' END::"char",
    not_before = CASE WHEN %(delay_s)s > 0 THEN clock_timestamp() + make_interval(secs => %(delay_s)s) END,
    attempts = greatest(attempts - 1, 0), lease_id = NULL, lease_until = NULL, owner = NULL, progress = NULL
FROM mine WHERE c.id = mine.id
RETURNING c.id;

-- name: settle_lock
-- After an unknown COMMIT, first: which chunks does our lease still hold? Waits for the old session's end.
SELECT id FROM rpa.chunk
WHERE id = ANY(%(ids)s::bigint[]) AND lease_id = %(lease)s AND state = 'l' ORDER BY id FOR UPDATE;

-- name: settle_done
-- Then: which ones did our lease complete?
SELECT id FROM rpa.chunk_done WHERE period = ANY(%(periods)s::integer[]) AND id = ANY(%(ids)s::bigint[])
  AND lease_id = %(lease)s;

-- name: release_others
-- After a reconnect: leases of this very process that it does not know of. The claims are not counted.
UPDATE rpa.chunk
SET state = 'r', attempts = greatest(attempts - 1, 0), lease_id = NULL, lease_until = NULL, owner = NULL
WHERE flow = %(flow)s AND state = 'l' AND owner = %(owner)s AND lease_id IS DISTINCT FROM %(lease)s
RETURNING id;

-- name: known_keys
-- Which of these keys a flow has from other transactions: what this one enqueued has its time. Period by period, so
-- that each key is one look into an index. No lock.
SELECT g.key FROM (SELECT DISTINCT key FROM json_array_elements_text(%(keys)s::json) AS e (key)) AS g
CROSS JOIN LATERAL (
    SELECT FROM rpa.period p
    CROSS JOIN LATERAL (
        SELECT FROM rpa.record r WHERE r.period = p.id AND r.flow = (SELECT id FROM rpa.flow WHERE name = %(flow)s)
          AND r.key = g.key AND r.enqueued_at <> now() LIMIT 1
    ) AS here LIMIT 1
) AS known;
