-- What people and monitors ask, and what they do about dead letters. No question takes a lock.

-- name: depths
-- Records per flow and state. Each count stops at :most chunks, so that looking never becomes the load.
SELECT f.name, f.paused, s.state, s.n, s.oldest_s, d.dead
FROM rpa.flow f
CROSS JOIN LATERAL (SELECT count(*) AS dead FROM (
    SELECT FROM rpa.dead_letter d WHERE d.flow = f.id AND d.discarded IS NULL LIMIT %(most)s) x) d
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

-- name: used_flows
-- Flows that have a record or had one within the retention, or are paused. A name without either is what a refused
-- load or a mistyped name left. LIMIT in a scalar query: one look by index for each; only for a flow of which none of
-- these is found, finished chunks are read, one for each thousand records.
SELECT f.name FROM rpa.flow f
WHERE f.paused OR (SELECT 1 FROM rpa.chunk c WHERE c.flow = f.id LIMIT 1) IS NOT NULL
   OR (SELECT 1 FROM rpa.dead_letter d WHERE d.flow = f.id LIMIT 1) IS NOT NULL
   OR (SELECT 1 FROM rpa.record r WHERE r.flow = f.id AND r.key IS NOT NULL LIMIT 1) IS NOT NULL
   OR (SELECT 1 FROM rpa.chunk_done e WHERE e.flow = f.id LIMIT 1) IS NOT NULL;

-- name: done_counts
-- How many results each flow has, for a status page: exact, a scan, not for monitoring.
SELECT f.name, count(*) FROM rpa.result s
JOIN rpa.record r ON r.period = s.period AND r.id = s.record_id
JOIN rpa.flow f ON f.id = r.flow GROUP BY f.name;

-- name: discarded_counts
-- How many records of each flow were discarded and are still kept: a scan, not for monitoring.
SELECT f.name, count(*) FROM rpa.dead_letter d JOIN rpa.flow f ON f.id = d.flow
WHERE d.discarded IS NOT NULL GROUP BY f.name;

-- name: find_keys
-- Records by their keys.
SELECT r.id, r.period, f.id, r.key, r.enqueued_at FROM rpa.flow f JOIN rpa.record r ON r.flow = f.id
WHERE f.name = %(flow)s AND r.key = ANY(%(keys)s::text[]) ORDER BY r.id;

-- name: find_ids
-- Records by their ids, one look into each period's index.
SELECT r.id, r.period, f.id, r.key, r.enqueued_at FROM rpa.flow f
CROSS JOIN rpa.period p
CROSS JOIN LATERAL (SELECT * FROM rpa.record r WHERE r.period = p.id AND r.id = ANY(%(ids)s::bigint[])) r
WHERE f.name = %(flow)s AND r.flow = f.id ORDER BY r.id;

-- name: place
-- Where one record is, by one snapshot: its result, its dead letter, or else the unfinished chunk that has it, by its
-- list or by its range. All three missing is a contradiction in the ledger, and never a moment in between.
SELECT s.data, e.done_at, d.kind, d.tries, d.reasons, d.at, d.discarded,
       CASE WHEN s.record_id IS NULL AND d.record_id IS NULL THEN (
           SELECT ARRAY[c.state::text, c.attempts::text] FROM rpa.chunk c
           WHERE c.flow = %(flow_id)s AND c.period = %(period)s AND %(id)s BETWEEN c.lo AND c.hi
             AND (c.ids IS NULL OR %(id)s = ANY(c.ids)) LIMIT 1) END AS chunk
FROM (SELECT %(period)s::integer AS period, %(id)s::bigint AS id) g
LEFT JOIN rpa.result s ON s.period = g.period AND s.record_id = g.id
LEFT JOIN rpa.chunk_done e ON e.period = s.period AND e.id = s.chunk_id
LEFT JOIN rpa.dead_letter d ON d.period = g.period AND d.record_id = g.id;

-- name: payload
SELECT payload FROM rpa.record WHERE period = %(period)s AND id = %(id)s;

-- name: acts_of_record
-- What people did with one record: corrections, and the act that discarded it.
SELECT a.at, a.act, a.by, a.reason, c.kind, c.reasons, c.payload, c.new_key FROM rpa.correction c
JOIN rpa.dead_letter_act a ON a.id = c.act WHERE c.period = %(period)s AND c.record_id = %(id)s
UNION ALL
SELECT a.at, a.act, a.by, a.reason, d.kind, NULL, NULL, NULL FROM rpa.dead_letter d
JOIN rpa.dead_letter_act a ON a.id = d.discarded
WHERE d.period = %(period)s AND d.record_id = %(id)s AND a.act = 'discard'
ORDER BY 1;

-- name: acts
-- The latest acts, of one flow or of all.
SELECT a.id, f.name, a.act, a.n, a.kinds::text, a.reason, a.by, a.at FROM rpa.dead_letter_act a
JOIN rpa.flow f ON f.id = a.flow WHERE %(flow)s::text IS NULL OR f.name = %(flow)s ORDER BY a.id DESC LIMIT %(most)s;

-- name: dead_letters
-- Dead letters of a flow in the order of their ids, from :after on: those that want attention.
SELECT d.record_id, r.key, d.kind, d.tries, d.reasons, d.at, r.payload
FROM rpa.dead_letter d
JOIN rpa.flow f ON f.id = d.flow
JOIN rpa.record r ON r.period = d.period AND r.id = d.record_id
WHERE f.name = %(flow)s AND d.record_id > %(after)s AND d.discarded IS NULL
  AND (%(kinds)s::text[] IS NULL OR d.kind = ANY(%(kinds)s::text[]))
ORDER BY d.record_id LIMIT %(most)s;

-- name: discarded_letters
-- The same of those that were discarded and whose period is still kept.
SELECT d.record_id, r.key, d.kind, d.tries, d.reasons, d.at, r.payload
FROM rpa.dead_letter d
JOIN rpa.flow f ON f.id = d.flow
JOIN rpa.record r ON r.period = d.period AND r.id = d.record_id
WHERE f.name = %(flow)s AND d.record_id > %(after)s AND d.discarded IS NOT NULL
  AND (%(kinds)s::text[] IS NULL OR d.kind = ANY(%(kinds)s::text[]))
ORDER BY d.record_id LIMIT %(most)s;

-- name: put_back
-- Take up to 1,000 dead letters that are older than the call out and queue their records again, with a clean slate:
-- one that fails again meanwhile is not taken twice. Input that could not be read stays: trying it again cannot
-- help. Locks: the dead letters taken; a second caller skips them.
WITH chosen AS MATERIALIZED (
    SELECT d.period, d.record_id, d.flow FROM rpa.dead_letter d JOIN rpa.flow f ON f.id = d.flow
    WHERE f.name = %(flow)s AND d.kind <> 'unreadable' AND d.at < %(called_at)s
      AND (d.discarded IS NOT NULL) = %(discarded)s
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

-- name: queue_lost
-- Queue records again that nothing lists, of those given. The caller holds the flow's row.
WITH lost AS MATERIALIZED (
    SELECT r.period, r.id, r.flow FROM rpa.flow f
    CROSS JOIN rpa.period p
    CROSS JOIN LATERAL (SELECT * FROM rpa.record r WHERE r.period = p.id AND r.id = ANY(%(ids)s::bigint[])) r
    WHERE f.name = %(flow)s AND r.flow = f.id
      AND NOT EXISTS (SELECT FROM rpa.result s WHERE s.period = r.period AND s.record_id = r.id)
      AND NOT EXISTS (SELECT FROM rpa.dead_letter d WHERE d.period = r.period AND d.record_id = r.id)
      AND NOT EXISTS (SELECT FROM rpa.chunk c WHERE c.flow = r.flow AND c.period = r.period
                      AND r.id BETWEEN c.lo AND c.hi AND (c.ids IS NULL OR r.id = ANY(c.ids)))
), queued AS (
    INSERT INTO rpa.chunk (flow, period, lo, hi, ids, tries, n)
    SELECT flow, period, min(id), max(id), array_agg(id ORDER BY id), array_fill(0::smallint, ARRAY[count(*)::integer]),
           count(*)
    FROM lost GROUP BY flow, period RETURNING ids
)
SELECT id, pg_notify('rpa.' || %(flow)s, '') FROM queued CROSS JOIN LATERAL unnest(ids) AS id;

-- name: begin_act
INSERT INTO rpa.dead_letter_act (flow, act, reason, by)
SELECT id, %(act)s, %(reason)s, %(by)s || ' as ' || session_user FROM rpa.flow WHERE name = %(flow)s RETURNING id;

-- name: end_act
UPDATE rpa.dead_letter_act SET n = %(n)s, kinds = %(kinds)s::jsonb WHERE id = %(act)s;

-- name: discard
-- Let go of dead letters that wait for attention. Locks: the rows; one that is put back at the same time is not taken.
WITH gone AS (
    UPDATE rpa.dead_letter d SET discarded = %(act)s FROM rpa.flow f
    WHERE f.name = %(flow)s AND d.flow = f.id AND d.discarded IS NULL
      AND (%(kinds)s::text[] IS NULL OR d.kind = ANY(%(kinds)s::text[]))
      AND (%(ids)s::bigint[] IS NULL OR d.record_id = ANY(%(ids)s::bigint[]))
      AND (%(older_s)s::float8 IS NULL OR d.at < clock_timestamp() - make_interval(secs => %(older_s)s::float8))
    RETURNING d.kind
)
SELECT kind, count(*) FROM gone GROUP BY kind;

-- name: count_discardable
-- What `discard` would take.
SELECT count(*) FROM rpa.dead_letter d JOIN rpa.flow f ON f.id = d.flow
WHERE f.name = %(flow)s AND d.discarded IS NULL
  AND (%(kinds)s::text[] IS NULL OR d.kind = ANY(%(kinds)s::text[]))
  AND (%(ids)s::bigint[] IS NULL OR d.record_id = ANY(%(ids)s::bigint[]))
  AND (%(older_s)s::float8 IS NULL OR d.at < clock_timestamp() - make_interval(secs => %(older_s)s::float8));

-- name: take_letters
-- The dead letters that a correction is for, with what they were. Locks: these rows.
SELECT d.record_id, d.period, d.kind, r.payload::text, r.key FROM rpa.dead_letter d
JOIN rpa.flow f ON f.id = d.flow
JOIN rpa.record r ON r.period = d.period AND r.id = d.record_id
WHERE f.name = %(flow)s AND d.discarded IS NULL AND d.record_id = ANY(%(ids)s::bigint[])
ORDER BY d.record_id FOR UPDATE OF d;

-- name: correct
-- Replace the payloads of dead letters that the caller has locked, keep what they were, and queue them.
WITH given AS MATERIALIZED (
    SELECT g.* FROM unnest(%(ids)s::bigint[], %(periods)s::integer[], %(payloads)s::text[]) AS g (id, period, payload)
), kept AS (
    INSERT INTO rpa.correction (act, period, record_id, kind, tries, reasons, set_aside, payload)
    SELECT %(act)s, d.period, d.record_id, d.kind, d.tries, d.reasons, d.at, r.payload FROM given g
    JOIN rpa.dead_letter d ON d.period = g.period AND d.record_id = g.id
    JOIN rpa.record r ON r.period = g.period AND r.id = g.id
), changed AS (
    UPDATE rpa.record r SET payload = g.payload::json FROM given g WHERE r.period = g.period AND r.id = g.id
    RETURNING r.id, r.period, r.flow
), taken AS (
    DELETE FROM rpa.dead_letter d USING changed c WHERE d.period = c.period AND d.record_id = c.id
    RETURNING d.period, d.record_id, d.flow
), queued AS (
    INSERT INTO rpa.chunk (flow, period, lo, hi, ids, tries, n)
    SELECT flow, period, min(record_id), max(record_id), array_agg(record_id ORDER BY record_id),
           array_fill(0::smallint, ARRAY[count(*)::integer]), count(*)
    FROM taken GROUP BY flow, period RETURNING n
)
SELECT coalesce(sum(n), 0)::integer, pg_notify('rpa.' || %(flow)s, '') FROM queued;

-- name: replace
-- Note that other records, enqueued in this transaction under keys of their own, stand for dead letters.
WITH given AS MATERIALIZED (
    SELECT g.* FROM unnest(%(ids)s::bigint[], %(periods)s::integer[], %(new_keys)s::text[]) AS g (id, period, new_key)
), gone AS (
    UPDATE rpa.dead_letter d SET discarded = %(act)s FROM given g WHERE d.period = g.period AND d.record_id = g.id
    RETURNING d.period, d.record_id, d.kind, d.tries, d.reasons, d.at
)
INSERT INTO rpa.correction (act, period, record_id, kind, tries, reasons, set_aside, payload, new_key)
SELECT %(act)s, o.period, o.record_id, o.kind, o.tries, o.reasons, o.at, r.payload, g.new_key FROM gone o
JOIN given g ON g.period = o.period AND g.id = o.record_id
JOIN rpa.record r ON r.period = o.period AND r.id = o.record_id;

-- name: requeue
-- Make records that wait for their next try since before the call ready now, 1,000 chunks at a time.
WITH waiting AS MATERIALIZED (
    SELECT c.id FROM rpa.chunk c JOIN rpa.flow f ON f.id = c.flow
    WHERE f.name = %(flow)s AND c.state = 'w' AND c.created_at < %(called_at)s LIMIT 1000 FOR UPDATE OF c SKIP LOCKED
), moved AS (
    UPDATE rpa.chunk c SET state = 'r', not_before = NULL FROM waiting w WHERE c.id = w.id RETURNING c.n
)
SELECT coalesce(sum(n), 0)::integer, pg_notify('rpa.' || %(flow)s, '') FROM moved;
