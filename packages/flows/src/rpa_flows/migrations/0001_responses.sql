-- 0001 responses: every valid response, once.
-- Locks: creates a table only; safe beside anything.

CREATE TABLE public.responses (
    survey      text        NOT NULL,       -- the codebook's name
    key         text        NOT NULL,       -- unique in its survey
    response    jsonb       NOT NULL CHECK (jsonb_typeof(response) = 'object'),   -- typed answers by field, null where missing
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (survey, key)
);
COMMENT ON TABLE public.responses IS
    'Validated survey responses. Written once per survey and key and never changed by rpa; a response that says '
    'something else under a key in use is set aside.';
