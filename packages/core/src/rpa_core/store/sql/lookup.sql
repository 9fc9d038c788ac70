-- What people and monitors ask. Nothing in here takes a lock.

-- name: depths
-- Records per flow and state. Each count stops at :most chunks, so that looking never becomes the load.
SELECT f.name, f.paused, s.state, s.n, s.oldest_s, d.dead
FROM rpa.flow f
CROSS JOIN LATERAL (SELECT count(*) AS dead FROM (
    SELECT FROM rpa.dead_letter d WHERE d.flow = f.id LIMIT %(most)s) x) d
LEFT JOIN LATERAL (
    SELECT 'r' AS state, sum(n) AS n, extract(epoch FROM now() - min(created_at))::float8 AS oldest_s
    FROM (SELECT n, created_at FROM rpa.chunk WHERE flow = f.id AND state = 'r' ORDER BY id + 0 LIMIT %(most)s) r
    UNION ALL
    SELECT 'w', sum(n), extract(epoch FROM now() - min(created_at))::float8
    FROM (SELECT n, created_at FROM rpa.chunk WHERE flow = f.id AND state = 'w' LIMIT %(most)s) w
    UNION ALL
    SELECT 'l', sum(n), extract(epoch FROM now() - min(created_at))::float8
    FROM (SELECT n, created_at FROM rpa.chunk WHERE flow = f.id AND state = 'l' ORDER BY id LIMIT %(most)s) l
) s ON s.n > 0
ORDER BY f.name;

-- name: done_counts
-- How many results each flow has, for a status page: exact, a scan, not for monitoring.
SELECT f.name, count(*) FROM rpa.result s
JOIN rpa.record r ON r.period = s.period AND r.id = s.record_id
JOIN rpa.flow f ON f.id = r.flow GROUP BY f.name;

-- name: record
-- One record by its key, with its outcome if it has one.
SELECT r.id, r.period, r.enqueued_at, s.data AS result, s.chunk_id, c.done_at,
       d.kind, d.tries, d.reasons, d.at AS set_aside_at
FROM rpa.flow f
JOIN rpa.record r ON r.flow = f.id AND r.key = %(key)s
LEFT JOIN rpa.result s ON s.period = r.period AND s.record_id = r.id
LEFT JOIN rpa.chunk_done c ON c.period = s.period AND c.id = s.chunk_id
LEFT JOIN rpa.dead_letter d ON d.period = r.period AND d.record_id = r.id
WHERE f.name = %(flow)s;

-- name: chunk_of
-- The unfinished chunk a record is in: by its list, or by its range.
SELECT c.state, c.attempts FROM rpa.chunk c JOIN rpa.flow f ON f.id = c.flow
WHERE f.name = %(flow)s AND %(id)s BETWEEN c.lo AND c.hi AND (c.ids IS NULL OR %(id)s = ANY(c.ids))
LIMIT 1;

-- name: dead_letters
-- Dead letters of a flow in the order of their ids, from :after on.
SELECT d.record_id, r.key, d.kind, d.tries, d.reasons, d.at, r.payload
FROM rpa.dead_letter d
JOIN rpa.flow f ON f.id = d.flow
JOIN rpa.record r ON r.period = d.period AND r.id = d.record_id
WHERE f.name = %(flow)s AND d.record_id > %(after)s
  AND (%(kinds)s::text[] IS NULL OR d.kind = ANY(%(kinds)s::text[]))
ORDER BY d.record_id LIMIT %(most)s;

-- name: put_back
-- Take up to 1,000 dead letters that are older than the call out and queue their records again, with a clean slate:
-- one that fails again meanwhile is not taken twice. Input that could not be read stays: trying it again cannot
-- help. Locks: the dead letters taken; a second caller skips them.
WITH chosen AS MATERIALIZED (
    SELECT d.period, d.record_id, d.flow FROM rpa.dead_letter d JOIN rpa.flow f ON f.id = d.flow
    WHERE f.name = %(flow)s AND d.kind <> 'unreadable' AND d.at < %(called_at)s
      AND (%(kinds)s::text[] IS NULL OR d.kind = ANY(%(kinds)s::text[]))
      AND (%(ids)s::bigint[] IS NULL OR d.record_id = ANY(%(ids)s::bigint[]))
    ORDER BY d.record_id LIMIT 1000 FOR UPDATE OF d SKIP LOCKED
), taken AS (
    DELETE FROM rpa.dead_letter d USING chosen c WHERE d.period = c.period AND d.record_id = c.record_id
    RETURNING d.period, d.record_id, d.flow
), queued AS (
    INSERT INTO rpa.chunk (flow, period, lo, hi, ids, tries, n)
    SELECT flow, period, min(record_id), max(record_id), array_agg(record_id ORDER BY record_id),
           array_fill(0::smallint, ARRAY[count(*)::integer]), count(*)
    FROM taken GROUP BY flow, period RETURNING n
)
SELECT coalesce(sum(n), 0)::integer, pg_notify('rpa.' || %(flow)s, '') FROM queued;

-- name: ids_of_keys
SELECT r.id FROM rpa.record r JOIN rpa.flow f ON f.id = r.flow
WHERE f.name = %(flow)s AND r.key = ANY(%(keys)s::text[]);

-- name: requeue
-- Make records that wait for their next try since before the call ready now, 1,000 chunks at a time.
WITH waiting AS MATERIALIZED (
    SELECT c.id FROM rpa.chunk c JOIN rpa.flow f ON f.id = c.flow
    WHERE f.name = %(flow)s AND c.state = 'w' AND c.created_at < %(called_at)s LIMIT 1000 FOR UPDATE OF c SKIP LOCKED
), moved AS (
    UPDATE rpa.chunk c SET state = 'r', not_before = NULL FROM waiting w WHERE c.id = w.id RETURNING c.n
)
SELECT coalesce(sum(n), 0)::integer, pg_notify('rpa.' || %(flow)s, '') FROM moved;
