-- What the ledger says against itself; every row is a violation. Aggregated, so that it stays linear in the records.
SELECT format('chunk %s lists %s records and there are %s', c.id, c.n, held.n) FROM rpa.chunk c
CROSS JOIN LATERAL (SELECT count(*) AS n FROM rpa.record r WHERE r.period = c.period
    AND CASE WHEN c.ids IS NULL THEN r.id BETWEEN c.lo AND c.hi ELSE r.id = ANY (c.ids) END) held
WHERE held.n <> c.n
UNION ALL
SELECT format('chunk %s counts %s results and has %s', d.id, d.n_ok, coalesce(held.n, 0)) FROM rpa.chunk_done d
LEFT JOIN (SELECT period, chunk_id, count(*) AS n FROM rpa.result GROUP BY 1, 2) held
    ON held.period = d.period AND held.chunk_id = d.id
WHERE coalesce(held.n, 0) <> d.n_ok
UNION ALL
SELECT format('%s results name chunk %s, which never ended', count(*), s.chunk_id) FROM rpa.result s
LEFT JOIN rpa.chunk_done d ON d.period = s.period AND d.id = s.chunk_id WHERE d.id IS NULL GROUP BY s.chunk_id
UNION ALL
SELECT format('chunk %s ended and is still there', d.id) FROM rpa.chunk_done d JOIN rpa.chunk c ON c.id = d.id
UNION ALL
SELECT format('chunk %s ended %s times', id, count(*)) FROM rpa.chunk_done GROUP BY id HAVING count(*) > 1
UNION ALL
SELECT format('chunk %s moved %s records and its children list %s', d.id, d.n_moved, coalesce(held.n, 0))
FROM rpa.chunk_done d
LEFT JOIN (SELECT parent, sum(n) AS n FROM (
    SELECT parent, n FROM rpa.chunk UNION ALL SELECT parent, n FROM rpa.chunk_done) x GROUP BY 1) held
    ON held.parent = d.id
WHERE coalesce(held.n, 0) <> d.n_moved
UNION ALL
SELECT format('an effect names record %s, which does not exist', e.record_id) FROM testkit.effect e
LEFT JOIN rpa.record r ON r.id = e.record_id WHERE r.id IS NULL
UNION ALL
SELECT format('record %s of flow %s is in %s places', r.id, f.name, places.n) FROM rpa.record r
JOIN rpa.flow f ON f.id = r.flow AND f.name <> current_setting('testkit.flow')
CROSS JOIN LATERAL (SELECT
    (SELECT count(*) FROM rpa.result s WHERE s.period = r.period AND s.record_id = r.id)
  + (SELECT count(*) FROM rpa.dead_letter d WHERE d.period = r.period AND d.record_id = r.id)
  + (SELECT count(*) FROM rpa.chunk c WHERE c.period = r.period AND c.flow = r.flow
     AND CASE WHEN c.ids IS NULL THEN r.id BETWEEN c.lo AND c.hi ELSE r.id = ANY (c.ids) END) AS n) places
WHERE places.n <> 1
