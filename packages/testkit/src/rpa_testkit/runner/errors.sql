-- How records that failed have ended: one row for each pair of what was asked for and what came of it. `asked` is the
-- probe's wish (`do` in the payload), empty where there was none; `came` is `result`, `open` or a dead letter's kind.
WITH ended AS (
    SELECT CASE WHEN json_typeof(r.payload) = 'object' THEN coalesce(r.payload->>'do', '') ELSE '' END AS asked,
           coalesce(d.kind, CASE WHEN s.record_id IS NULL THEN 'open' ELSE 'result' END) AS came,
           d.record_id IS NOT NULL AND coalesce(array_to_string(d.reasons, ''), '') = '' AS mute,
           r.key
    FROM rpa.record r
    LEFT JOIN rpa.dead_letter d ON d.period = r.period AND d.record_id = r.id
    LEFT JOIN rpa.result s ON s.period = r.period AND s.record_id = r.id
    WHERE r.flow = (SELECT id FROM rpa.flow WHERE name = %(flow)s)
)
SELECT asked, came, count(*), count(*) FILTER (WHERE mute), (array_agg(key ORDER BY key))[:5] FROM ended GROUP BY 1, 2
