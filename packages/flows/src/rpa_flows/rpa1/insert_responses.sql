-- Stores the responses whose key is new and answers the others: the keys in use, and the response each holds.
-- %(responses)s is a JSON array of [key, response]; keys in it are distinct.
-- Locks: row locks on new keys only, taken in key order, so that two batches cannot wait for each other in a circle.
WITH incoming AS (
    SELECT each ->> 0 AS key, each -> 1 AS response
    FROM jsonb_array_elements(%(responses)s::jsonb) AS each
), stored AS (
    INSERT INTO public.responses (survey, key, response)
    SELECT %(survey)s, key, response FROM incoming ORDER BY key COLLATE "C"
    ON CONFLICT (survey, key) DO NOTHING
    RETURNING key
)
SELECT incoming.key FROM incoming WHERE NOT EXISTS (SELECT FROM stored WHERE stored.key = incoming.key)
