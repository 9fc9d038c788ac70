-- 0001 ledger: flows, periods, records, chunks, results, dead letters.
-- Locks: creates objects only; safe beside anything.

CREATE SCHEMA IF NOT EXISTS rpa;

CREATE TABLE rpa.flow (
    id         smallint    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9_.-]{0,40}$'),
    paused     boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A period is the unit of retention: one is open, the others only drain.
CREATE TABLE rpa.period (
    id        integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
CREATE UNIQUE INDEX period_one_open ON rpa.period ((true)) WHERE closed_at IS NULL;

-- Ids come in blocks of 1,000, so that a transaction gets a contiguous range without a lock.
CREATE SEQUENCE rpa.record_block AS bigint INCREMENT BY 1000;

CREATE TABLE rpa.record (
    id          bigint      NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    period      integer     NOT NULL,
    flow        smallint    NOT NULL,
    key         text,
    payload     json        NOT NULL,      -- json, not jsonb: kept to the letter, and cheaper to write and read
    PRIMARY KEY (period, id)
) PARTITION BY LIST (period);
CREATE UNIQUE INDEX record_key ON rpa.record (flow, key, period) WHERE key IS NOT NULL;

CREATE TABLE rpa.result (
    record_id bigint  NOT NULL,
    chunk_id  bigint  NOT NULL,
    period    integer NOT NULL,
    data      json    NOT NULL,
    PRIMARY KEY (period, record_id)
) PARTITION BY LIST (period);

CREATE TABLE rpa.dead_letter (
    record_id bigint      NOT NULL,
    period    integer     NOT NULL,
    flow      smallint    NOT NULL,
    kind      text        NOT NULL CHECK (kind IN ('rejected', 'exhausted', 'crash', 'unstorable', 'unreadable')),
    tries     smallint    NOT NULL,
    reasons   text[]      NOT NULL CHECK (cardinality(reasons) > 0),
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (period, record_id)
) PARTITION BY LIST (period);
CREATE INDEX dead_letter_flow ON rpa.dead_letter (flow, record_id);

CREATE TABLE rpa.chunk (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow        smallint    NOT NULL,
    period      integer     NOT NULL,
    lo          bigint      NOT NULL,       -- the records are those of the period with lo <= id <= hi ...
    hi          bigint      NOT NULL,
    ids         bigint[],                   -- ... or, after a retry or a put-back, exactly these
    tries       smallint[],                 -- how often each of `ids` was tried before
    n           integer     NOT NULL CHECK (n > 0),
    state       "char"      NOT NULL DEFAULT 'r' CHECK (state IN ('r', 'w', 'l')),
    epoch       bigint      NOT NULL DEFAULT 0,      -- +1 at every claim, never back
    lease_id    uuid,                                -- fresh for every claim: the fence
    attempts    smallint    NOT NULL DEFAULT 0,      -- claims that ended without a word; counted at the claim
    owner       text,
    lease_until timestamptz,                         -- unindexed on purpose: a renewal stays a HOT update
    not_before  timestamptz,
    progress    integer,                             -- position of the record in flight, when suspects run singly
    parent      bigint,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (CASE WHEN ids IS NULL THEN tries IS NULL AND n <= hi - lo + 1
                ELSE cardinality(ids) = n AND cardinality(tries) = n END),
    CHECK ((state = 'l') = (lease_id IS NOT NULL)),
    CHECK ((state = 'l') = (lease_until IS NOT NULL)),
    CHECK ((state = 'w') <= (not_before IS NOT NULL))
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);
-- `id + 0`: an order that the primary key cannot give. With `id` alone the planner, who takes ready chunks to be
-- spread evenly, may walk the primary key instead, over every waiting chunk and every other flow's.
CREATE INDEX chunk_ready   ON rpa.chunk (flow, (id + 0))   WHERE state = 'r';
CREATE INDEX chunk_waiting ON rpa.chunk (flow, not_before) WHERE state = 'w';
CREATE INDEX chunk_leased  ON rpa.chunk (flow, id)         WHERE state = 'l';

CREATE TABLE rpa.chunk_done (
    id          bigint      NOT NULL,
    period      integer     NOT NULL,
    flow        smallint    NOT NULL,
    n           integer     NOT NULL,
    n_ok        integer     NOT NULL,       -- got a result
    n_moved     integer     NOT NULL,       -- went on in another chunk: retry, remainder, split
    n_dead      integer     NOT NULL,       -- set aside
    epoch       bigint      NOT NULL,
    lease_id    uuid        NOT NULL,
    attempts    smallint    NOT NULL,
    owner       text        NOT NULL,
    parent      bigint,
    created_at  timestamptz NOT NULL,
    done_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (period, id),
    CHECK (n_ok >= 0 AND n_moved >= 0 AND n_dead >= 0 AND n_ok + n_moved + n_dead = n)
) PARTITION BY LIST (period);

-- Requests that came with an Idempotency-Key; small, deleted in batches by age.
CREATE TABLE rpa.request (
    flow       smallint    NOT NULL,
    key        text        NOT NULL,
    digest     bytea       NOT NULL,
    accepted   integer,
    duplicates integer,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (flow, key)
);
CREATE INDEX request_at ON rpa.request (at);

-- The id of a flow, made on first use. Locks: one row of rpa.flow, once per new name.
CREATE FUNCTION rpa.flow_id(flow_name text) RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE found_id smallint;
BEGIN
    SELECT id INTO found_id FROM rpa.flow WHERE name = flow_name;
    IF found_id IS NULL THEN
        INSERT INTO rpa.flow (name) VALUES (flow_name) ON CONFLICT (name) DO NOTHING;
        SELECT id INTO STRICT found_id FROM rpa.flow WHERE name = flow_name;
    END IF;
    RETURN found_id;
END $$;

-- The period that takes new records. Its shared lock, held until the caller's transaction ends, makes a rotation
-- wait: so two transactions never write the same key into two periods unseen by each other.
CREATE FUNCTION rpa.open_period() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE open_id integer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7499873, 1);
    SELECT id INTO STRICT open_id FROM rpa.period WHERE closed_at IS NULL;
    RETURN open_id;
END $$;

-- Close the open period and open the next, with its partitions. Locks: waits for running enqueues (the caller
-- sets lock_timeout); attaching takes SHARE UPDATE EXCLUSIVE on the parents, which stops no reader or writer.
CREATE FUNCTION rpa.rotate_period() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    next_id integer;
    parent  text;
    child   text;
BEGIN
    PERFORM pg_advisory_xact_lock(7499873, 1);
    UPDATE rpa.period SET closed_at = clock_timestamp() WHERE closed_at IS NULL;
    INSERT INTO rpa.period (opened_at) VALUES (clock_timestamp()) RETURNING id INTO next_id;
    FOREACH parent IN ARRAY ARRAY['record', 'result', 'dead_letter', 'chunk_done'] LOOP
        child := format('%s_p%s', parent, next_id);
        EXECUTE format('CREATE TABLE rpa.%I (LIKE rpa.%I INCLUDING ALL, CHECK (period = %s))', child, parent, next_id);
        EXECUTE format('ALTER TABLE rpa.%I ATTACH PARTITION rpa.%I FOR VALUES IN (%s)', parent, child, next_id);
    END LOOP;
    RETURN next_id;
END $$;

-- Enqueue by plain SQL, from any language, in any transaction: up to 1,000 records, an idempotent key each (or
-- NULL). Answers how many were new. Every statement in here sees what committed before it.
CREATE FUNCTION rpa.enqueue(flow_name text, keys text[], payloads text[], notify boolean DEFAULT true)
RETURNS TABLE (accepted integer, duplicates integer) LANGUAGE plpgsql AS $$
DECLARE
    into_flow   smallint := rpa.flow_id(flow_name);
    into_period integer  := rpa.open_period();
    block       bigint;
    total       integer  := coalesce(cardinality(payloads), 0);
    first_id    bigint;
    last_id     bigint;
BEGIN
    IF total > 1000 OR total <> coalesce(cardinality(keys), 0) THEN
        RAISE EXCEPTION 'rpa.enqueue takes up to 1000 payloads and as many keys, got % and %', total, cardinality(keys);
    END IF;
    IF total = 0 THEN
        RETURN QUERY SELECT 0, 0;
        RETURN;
    END IF;
    block := nextval('rpa.record_block');
    WITH given AS (
        SELECT key, payload, ord FROM unnest(keys, payloads) WITH ORDINALITY AS g (key, payload, ord)
    ), wanted AS (
        SELECT key, payload, ord FROM given g
        WHERE key IS NULL OR NOT EXISTS (SELECT FROM rpa.record r WHERE r.flow = into_flow AND r.key = g.key)
    ), written AS (
        INSERT INTO rpa.record (id, period, flow, key, payload)
        SELECT block + ord - 1, into_period, into_flow, key, payload::json FROM wanted ORDER BY ord
        ON CONFLICT DO NOTHING
        RETURNING id
    )
    SELECT count(*), min(id), max(id) INTO accepted, first_id, last_id FROM written;
    duplicates := total - accepted;
    IF accepted > 0 THEN
        INSERT INTO rpa.chunk (flow, period, lo, hi, n) VALUES (into_flow, into_period, first_id, last_id, accepted);
        IF notify THEN
            PERFORM pg_notify('rpa.' || flow_name, '');
        END IF;
    END IF;
    RETURN NEXT;
END $$;

SELECT rpa.rotate_period();
