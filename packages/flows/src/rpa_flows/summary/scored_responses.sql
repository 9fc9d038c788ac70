-- The validated answers and the scores of one survey: what went into rpa2, and what came out.
-- As text, so that json is decoded once, by the reader. Locks: reads only.
SELECT record.payload::text, result.data::text
FROM rpa.result AS result
JOIN rpa.record AS record ON record.period = result.period AND record.id = result.record_id
WHERE record.flow = (SELECT id FROM rpa.flow WHERE name = 'rpa2')
  AND result.data ->> 'survey' = %(survey)s
