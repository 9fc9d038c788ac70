-- How records come in. Where a period is asked for, it is asked for before anything that depends on it.

-- name: enqueue
-- Few records, in one round trip. The keys come as json: a NULL in the text form of an array is the text NULL where
-- array_nulls is off.
SELECT accepted FROM rpa.enqueue(
    %(flow)s,
    ARRAY(SELECT k.key FROM json_array_elements_text(%(keys)s::json) WITH ORDINALITY AS k (key, n) ORDER BY k.n),
    %(payloads)s::text[], %(notify)s);

-- name: place
-- Where records go. Takes the period's shared lock.
SELECT flow, period, rpa.new_block(period)
FROM (SELECT rpa.flow_id(%(flow)s) AS flow, rpa.open_period() AS period OFFSET 0) AS place;

-- name: known
-- Which keys the flow has, by their position. json costs half the time of a text[] parameter. Period by period, so that
-- each key is one look into an index however the planner sees the table: one that has just grown has no statistics, and
-- a scan for each block would make a load quadratic.
SELECT g.n FROM json_array_elements_text(%(keys)s::json) WITH ORDINALITY AS g (key, n)
CROSS JOIN LATERAL (
    SELECT FROM rpa.period p
    CROSS JOIN LATERAL (
        SELECT FROM rpa.record r WHERE r.period = p.id AND r.flow = %(flow)s AND r.key = g.key LIMIT 1
    ) AS here LIMIT 1
) AS known;

-- name: chunk
-- The chunk of records that were copied, and the notification of waiting workers at the commit.
WITH made AS (
    INSERT INTO rpa.chunk (flow, period, lo, hi, n, bytes)
    VALUES (%(flow)s, %(period)s, %(lo)s, %(hi)s, %(n)s, %(bytes)s) RETURNING 1
)
SELECT CASE WHEN %(notify)s THEN pg_notify('rpa.' || %(name)s, '') END FROM made;

-- name: set_aside
-- Input that could not be read: records with a dead letter each, and no chunk. LIMIT keeps the planner on the index.
WITH place AS MATERIALIZED (
    SELECT flow, period, rpa.new_block(period) AS first
    FROM (SELECT rpa.flow_id(%(flow)s) AS flow, rpa.open_period() AS period OFFSET 0) AS open
), written AS (
    INSERT INTO rpa.record (id, period, flow, key, payload)
    SELECT place.first + g.ord - 1, place.period, place.flow, g.key, g.payload::json
    FROM place, unnest(
        ARRAY(SELECT k.key FROM json_array_elements_text(%(keys)s::json) WITH ORDINALITY AS k (key, n) ORDER BY k.n),
        %(payloads)s::text[]) WITH ORDINALITY AS g (key, payload, ord)
    WHERE g.key IS NULL
       OR (SELECT r.id FROM rpa.record r WHERE r.flow = place.flow AND r.key = g.key LIMIT 1) IS NULL
    ON CONFLICT (flow, key, period) WHERE key IS NOT NULL DO NOTHING
    RETURNING id, period, flow
), dead AS (
    INSERT INTO rpa.dead_letter (record_id, period, flow, kind, tries, reasons)
    SELECT w.id, w.period, w.flow, 'unreadable', 0,
           ARRAY(SELECT json_array_elements_text((%(reasons)s::text[])[w.id - place.first + 1]::json))
    FROM written w, place
    RETURNING 1
)
SELECT count(*) FROM dead;

-- name: loaded_before
-- Rows of earlier loads of a file of that name, of which lines up to the last given one, and none after it, are kept as
-- unreadable: key and digest, for the given lines. Their keys end in the digest of the file.
SELECT r.key, md5(r.payload::text)
FROM (
    SELECT right(u.key, 24) AS digest
    FROM rpa.dead_letter d JOIN rpa.record u ON u.period = d.period AND u.id = d.record_id
    WHERE d.flow = %(flow)s AND d.kind = 'unreadable' AND u.payload ->> 'source' = %(name)s
    GROUP BY 1 HAVING max((u.payload ->> 'line')::bigint) <= %(last)s LIMIT 5
) AS file
CROSS JOIN json_array_elements_text(%(lines)s::json) AS line (number)
CROSS JOIN rpa.period p
CROSS JOIN LATERAL (
    SELECT r.id, r.key, r.payload FROM rpa.record r
    WHERE r.period = p.id AND r.flow = %(flow)s AND r.key = %(name)s || ':' || line.number || ':' || file.digest LIMIT 1
) AS r
WHERE NOT EXISTS (SELECT FROM rpa.dead_letter d WHERE d.period = p.id AND d.record_id = r.id AND d.kind = 'unreadable');
