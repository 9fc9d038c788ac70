-- What became of each record of the workload's flow: one row a record, by its key.
WITH flow AS (SELECT id FROM rpa.flow WHERE name = %(flow)s),
result AS (
    SELECT s.period, s.record_id, count(*) AS n, max(s.data->>'by') AS writer, max(d.owner) AS owner,
           max(d.done_at) AS done_at
    FROM rpa.result s LEFT JOIN rpa.chunk_done d ON d.period = s.period AND d.id = s.chunk_id
    GROUP BY 1, 2
),
effect AS (SELECT record_id, count(*) AS n FROM testkit.effect GROUP BY 1),
dead AS (SELECT period, record_id, count(*) AS n, max(at) AS done_at FROM rpa.dead_letter GROUP BY 1, 2),
open AS (
    SELECT r.period, r.id AS record_id, count(*) AS n
    FROM rpa.chunk c JOIN rpa.record r ON r.period = c.period AND r.flow = c.flow
     AND CASE WHEN c.ids IS NULL THEN r.id BETWEEN c.lo AND c.hi ELSE r.id = ANY (c.ids) END
    GROUP BY 1, 2
)
SELECT r.key, coalesce(result.n, 0), CASE WHEN %(effects)s THEN coalesce(effect.n, 0) ELSE -1 END, coalesce(dead.n, 0),
       coalesce(open.n, 0), result.writer, result.owner, extract(epoch FROM r.enqueued_at)::float8,
       extract(epoch FROM coalesce(result.done_at, dead.done_at))::float8
FROM rpa.record r
LEFT JOIN result ON result.period = r.period AND result.record_id = r.id
LEFT JOIN effect ON effect.record_id = r.id
LEFT JOIN dead ON dead.period = r.period AND dead.record_id = r.id
LEFT JOIN open ON open.period = r.period AND open.record_id = r.id
WHERE r.flow = (SELECT id FROM flow)
