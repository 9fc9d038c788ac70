-- What became of every record, read back from rpa_db. A record is followed by its key through the three flows.
WITH loaded AS (
    SELECT r.key, r.enqueued_at, s.record_id AS done, d.kind
    FROM rpa.record r
    LEFT JOIN rpa.result s ON s.period = r.period AND s.record_id = r.id
    LEFT JOIN rpa.dead_letter d ON d.period = r.period AND d.record_id = r.id
    WHERE r.flow = (SELECT id FROM rpa.flow WHERE name = 'rpa1')
), later AS (
    SELECT f.name AS flow, r.key, count(*) AS copies, count(s.record_id) AS done, count(d.record_id) AS dead,
           max(c.done_at) AS done_at
    FROM rpa.record r
    JOIN rpa.flow f ON f.id = r.flow AND f.name IN ('rpa2', 'rpa3')
    LEFT JOIN rpa.result s ON s.period = r.period AND s.record_id = r.id
    LEFT JOIN rpa.chunk_done c ON c.period = s.period AND c.id = s.chunk_id
    LEFT JOIN rpa.dead_letter d ON d.period = r.period AND d.record_id = r.id
    GROUP BY 1, 2
), way AS (
    SELECT l.key, l.enqueued_at, l.done IS NOT NULL AS ingested, l.kind IS NOT NULL AS dead1,
           coalesce(two.copies, 0) AS copies2, coalesce(two.done, 0) AS done2, coalesce(two.dead, 0) AS dead2,
           coalesce(three.copies, 0) AS copies3, coalesce(three.done, 0) AS done3, coalesce(three.dead, 0) AS dead3,
           three.done_at
    FROM loaded l
    LEFT JOIN later two ON two.flow = 'rpa2' AND two.key = l.key
    LEFT JOIN later three ON three.flow = 'rpa3' AND three.key = l.key
)
SELECT count(*) AS records,
       count(*) FILTER (WHERE ingested::int + dead1::int = 1 AND copies2 <= 1 AND copies3 <= 1
                          AND dead1::int + dead2 + dead3 + done3 = 1) AS processed_once,
       count(*) FILTER (WHERE ingested::int + dead1::int > 1 OR copies2 > 1 OR copies3 > 1
                           OR done2 + dead2 > 1 OR dead1::int + dead2 + dead3 + done3 > 1) AS duplicated,
       count(*) FILTER (WHERE dead1::int + dead2 + dead3 + done3 = 0) AS lost,
       count(*) FILTER (WHERE dead1::int + dead2 + dead3 > 0) AS set_aside,
       count(*) FILTER (WHERE done3 = 1) AS delivered,
       percentile_cont(0.50) WITHIN GROUP (ORDER BY extract(epoch FROM done_at - enqueued_at) * 1000) AS p50_ms,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM done_at - enqueued_at) * 1000) AS p99_ms,
       max(done_at) AS finished_at
FROM way
