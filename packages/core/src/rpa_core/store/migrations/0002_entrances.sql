-- 0002 entrances: what comes in is bounded by bytes, and nothing of it is lost without a word.
-- Additive: workers and clients of 0001 run beside it. Locks: ACCESS EXCLUSIVE on rpa.chunk for the moment that adding
-- a column without a default takes.

-- == Chunks know their size ==

-- Bytes of JSON text in the chunk's payloads; NULL where the writer did not count them: a client of 0001, or records
-- that were put back. A worker measures those before it reads them.
ALTER TABLE rpa.chunk ADD COLUMN bytes bigint CHECK (bytes >= 0);

-- == Flows, periods and enqueueing ==

-- The id of a flow, made on first use. A name that no flow can have is refused before anything is written, and ids are
-- counted from the table, not drawn from the sequence: neither a refusal nor a rollback uses one up. Locks: one row of
-- rpa.flow and an advisory lock on its id, once for each new name.
CREATE OR REPLACE FUNCTION rpa.flow_id(flow_name text) RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
    found_id smallint;
    free_id  integer;
BEGIN
    SELECT id INTO found_id FROM rpa.flow WHERE name = flow_name;
    WHILE found_id IS NULL LOOP
        IF flow_name IS NULL OR flow_name !~ '^[a-z][a-z0-9_.-]{0,40}$' THEN
            RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'flow_name_check', MESSAGE = format(
                'flow name %L: use lower-case letters, digits, _, . and -, 41 characters at most', flow_name);
        END IF;
        SELECT coalesce(max(id), 0) + 1 INTO free_id FROM rpa.flow;
        WHILE NOT pg_try_advisory_xact_lock(7499874, free_id) LOOP
            free_id := free_id + 1;     -- another transaction is about to use it
        END LOOP;
        IF free_id > 32767 THEN
            RAISE EXCEPTION USING ERRCODE = 'RPA01', MESSAGE = 'no more flows fit into this database: it had 32767';
        END IF;
        INSERT INTO rpa.flow (id, name) OVERRIDING SYSTEM VALUE VALUES (free_id, flow_name) ON CONFLICT DO NOTHING;
        SELECT id INTO found_id FROM rpa.flow WHERE name = flow_name;
    END LOOP;
    RETURN found_id;
END $$;

-- No record of this period has a lower id, and none of an earlier one has a higher. NULL: not known.
ALTER TABLE rpa.period ADD COLUMN first_id bigint;

-- The open period, locked, for a transaction that sees the past: 40001 if a rotation has closed it since the snapshot.
-- SECURITY DEFINER: locking a row needs the right to update it, which who enqueues does not have.
CREATE FUNCTION rpa.open_period_of_snapshot() RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT id FROM rpa.period WHERE closed_at IS NULL FOR SHARE;
END;

-- The period that takes new records. Its shared lock, held until the caller's transaction ends, makes a rotation
-- wait: so two transactions never write the same key into two periods unseen by each other.
CREATE OR REPLACE FUNCTION rpa.open_period() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE open_id integer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7499873, 1);
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        RETURN rpa.open_period_of_snapshot();
    END IF;
    SELECT id INTO STRICT open_id FROM rpa.period WHERE closed_at IS NULL;
    RETURN open_id;
END $$;

-- Where each sequence stands and what its table holds already. `highest` at or above `next` means that the sequence
-- will hand out ids that are taken: logical replication and data-only copies carry no sequences.
-- SECURITY DEFINER: a role that may use a sequence may not read it.
CREATE FUNCTION rpa.sequence_positions() RETURNS TABLE (name text, next bigint, highest bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT 'rpa.record_block', CASE WHEN s.is_called THEN s.last_value + 1000 ELSE s.last_value END,
           (SELECT max(top.id) FROM rpa.period p
            CROSS JOIN LATERAL (SELECT max(r.id) AS id FROM rpa.record r WHERE r.period = p.id) AS top)
    FROM rpa.record_block s;
    RETURN QUERY
    SELECT 'rpa.chunk_id_seq', CASE WHEN s.is_called THEN s.last_value + 1 ELSE s.last_value END,
           greatest((SELECT max(id) FROM rpa.chunk),
                    (SELECT max(top.id) FROM rpa.period p CROSS JOIN LATERAL (
                         SELECT max(d.id) AS id FROM rpa.chunk_done d WHERE d.period = p.id) AS top))
    FROM rpa.chunk_id_seq s;
END $$;

-- Set sequences that are behind their tables forward, and give unfinished chunks whose id a finished one has another.
-- Answers the sequences concerned, and the ids they hand out next. Locks: waits for running enqueues, and keeps new ones
-- waiting meanwhile (the caller sets lock_timeout).
CREATE FUNCTION rpa.advance_sequences() RETURNS TABLE (name text, next bigint) LANGUAGE plpgsql AS $$
DECLARE
    behind boolean;
    top    bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7499873, 1);
    SELECT s.name, s.highest >= s.next, s.highest INTO name, behind, top
    FROM rpa.sequence_positions() s WHERE s.name = 'rpa.record_block';
    IF behind THEN
        next := setval('rpa.record_block', (top - 1) / 1000 * 1000 + 1) + 1000;
        RETURN NEXT;
    END IF;
    SELECT s.name, s.highest >= s.next, s.highest INTO name, behind, top
    FROM rpa.sequence_positions() s WHERE s.name = 'rpa.chunk_id_seq';
    IF behind THEN
        PERFORM setval('rpa.chunk_id_seq', top);
    END IF;
    UPDATE rpa.chunk c SET id = DEFAULT
    WHERE EXISTS (SELECT FROM rpa.chunk_done d WHERE d.period = c.period AND d.id = c.id);
    IF behind OR FOUND THEN
        SELECT s.next INTO next FROM rpa.sequence_positions() s WHERE s.name = 'rpa.chunk_id_seq';
        RETURN NEXT;
    END IF;
END $$;

-- The first of 1,000 ids that only the caller's transaction has, for records of this period (which the caller has from
-- rpa.open_period). An error where the sequence is behind the periods before it: two records would share an id. Where
-- it is behind this period's records, the primary key is violated.
CREATE FUNCTION rpa.new_block(into_period integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    block bigint := nextval('rpa.record_block');
BEGIN
    IF block < (SELECT first_id FROM rpa.period WHERE id = into_period) THEN
        RAISE EXCEPTION USING ERRCODE = 'RPA01', MESSAGE = 'the sequence rpa.record_block is behind its table (logical'
            ' replication and data-only copies carry no sequences); nothing was enqueued; run'
            ' `rpa db repair-sequences`, or SELECT * FROM rpa.advance_sequences()';
    END IF;
    RETURN block;
END $$;

-- Close the open period and open the next, with its partitions; sequences that are behind are set forward first. Ids
-- of periods are counted from the table, as those of flows. Locks: waits for running enqueues (the caller sets lock_timeout); attaching takes
-- SHARE UPDATE EXCLUSIVE on the parents, which stops no reader or writer.
CREATE OR REPLACE FUNCTION rpa.rotate_period() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    next_id integer;
    parent  text;
    child   text;
BEGIN
    PERFORM pg_advisory_xact_lock(7499873, 1);
    IF EXISTS (SELECT FROM rpa.sequence_positions() s WHERE s.highest >= s.next) THEN
        PERFORM rpa.advance_sequences();
    END IF;
    UPDATE rpa.period SET closed_at = clock_timestamp() WHERE closed_at IS NULL;
    INSERT INTO rpa.period (id, opened_at, first_id) OVERRIDING SYSTEM VALUE
    SELECT coalesce(max(id), 0) + 1, clock_timestamp(),
           (SELECT s.next FROM rpa.sequence_positions() s WHERE s.name = 'rpa.record_block')
    FROM rpa.period RETURNING id INTO next_id;
    FOREACH parent IN ARRAY ARRAY['record', 'result', 'dead_letter', 'chunk_done'] LOOP
        child := format('%s_p%s', parent, next_id);
        EXECUTE format('CREATE TABLE rpa.%I (LIKE rpa.%I INCLUDING ALL, CHECK (period = %s))', child, parent, next_id);
        EXECUTE format('ALTER TABLE rpa.%I ATTACH PARTITION rpa.%I FOR VALUES IN (%s)', parent, child, next_id);
    END LOOP;
    RETURN next_id;
END $$;

-- Enqueue by plain SQL, from any language, in any transaction: up to 1,000 records, an idempotent key each (or
-- NULL). Answers how many were new. Every statement in here sees what committed before it. A chunk holds up to 4 MiB
-- of payload; a larger record is a chunk of its own. Payloads are measured as they were given: who enqueues need not be
-- allowed to read any.
CREATE OR REPLACE FUNCTION rpa.enqueue(flow_name text, keys text[], payloads text[], notify boolean DEFAULT true)
RETURNS TABLE (accepted integer, duplicates integer) LANGUAGE plpgsql AS $$
DECLARE
    total       integer := coalesce(cardinality(payloads), 0);
    into_flow   smallint;
    into_period integer;
    block       bigint;
    first_id    bigint;
    last_id     bigint;
    size        bigint;
    n_records   integer := 0;
    n_bytes     bigint := 0;
    one         record;
BEGIN
    IF total > 1000 OR total <> coalesce(cardinality(keys), 0) THEN
        RAISE EXCEPTION 'rpa.enqueue takes up to 1000 payloads and as many keys, got % and %', total, cardinality(keys);
    END IF;
    IF total = 0 THEN
        RETURN QUERY SELECT 0, 0;
        RETURN;
    END IF;
    payloads := payloads[:];    -- counted from 1, however the caller counted
    into_flow := rpa.flow_id(flow_name);
    into_period := rpa.open_period();
    block := rpa.new_block(into_period);
    WITH given AS (
        SELECT key, payload, ord FROM unnest(keys, payloads) WITH ORDINALITY AS g (key, payload, ord)
    ), wanted AS (
        SELECT key, payload, ord FROM given g
        WHERE key IS NULL OR NOT EXISTS (SELECT FROM rpa.record r WHERE r.flow = into_flow AND r.key = g.key)
    ), written AS (
        INSERT INTO rpa.record (id, period, flow, key, payload)
        SELECT block + ord - 1, into_period, into_flow, key, payload::json FROM wanted ORDER BY ord
        -- record_..._pkey is violated: the sequence rpa.record_block is behind its table; run `rpa db repair-sequences`
        ON CONFLICT (flow, key, period) WHERE key IS NOT NULL DO NOTHING
        RETURNING id, octet_length(payloads[(id - block + 1)::integer]) AS bytes
    )
    SELECT count(*), min(id), max(id), sum(bytes) INTO accepted, first_id, last_id, size FROM written;
    duplicates := total - accepted;
    IF accepted > 0 THEN
        IF size > 4194304 AND accepted > 1 THEN
            FOR one IN
                SELECT r.id, octet_length(payloads[(r.id - block + 1)::integer]) AS bytes FROM rpa.record r
                WHERE r.period = into_period AND r.id BETWEEN first_id AND last_id ORDER BY r.id
            LOOP
                IF n_records > 0 AND n_bytes + one.bytes > 4194304 THEN
                    INSERT INTO rpa.chunk (flow, period, lo, hi, n, bytes)
                    VALUES (into_flow, into_period, first_id, one.id - 1, n_records, n_bytes);
                    first_id := one.id;
                    n_records := 0;
                    n_bytes := 0;
                END IF;
                n_records := n_records + 1;
                n_bytes := n_bytes + one.bytes;
            END LOOP;
        ELSE
            n_records := accepted;
            n_bytes := size;
        END IF;
        INSERT INTO rpa.chunk (flow, period, lo, hi, n, bytes)
        VALUES (into_flow, into_period, first_id, last_id, n_records, n_bytes);
        IF notify THEN
            PERFORM pg_notify('rpa.' || flow_name, '');
        END IF;
    END IF;
    RETURN NEXT;
END $$;

UPDATE rpa.period SET first_id = coalesce((
    SELECT max(top.id) + 1 FROM rpa.period closed
    CROSS JOIN LATERAL (SELECT max(r.id) AS id FROM rpa.record r WHERE r.period = closed.id) AS top
    WHERE closed.closed_at IS NOT NULL), 1)
WHERE closed_at IS NULL;

-- == Dead letters, rights and retention ==

-- Workers of 0001 may run on this schema while they are replaced.
-- compatible from: 0001

-- What people did with dead letters, one row for each call that changed something. `discard`: they were let go of.
-- `correct`: their payload was replaced and they were queued again.
CREATE TABLE rpa.dead_letter_act (
    id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow   smallint    NOT NULL,
    act    text        NOT NULL CHECK (act IN ('discard', 'correct')),
    n      integer     NOT NULL DEFAULT 0,
    kinds  jsonb       NOT NULL DEFAULT '{}',       -- how many of each kind
    reason text,
    by     text        NOT NULL,
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX dead_letter_act_at ON rpa.dead_letter_act (at);

-- NULL: the dead letter wants attention, and keeps its period. Else the act that discarded it: the row stays as the
-- record's one outcome, and leaves with its period.
ALTER TABLE rpa.dead_letter ADD COLUMN discarded bigint;
-- Locks: SHARE on dead letters while it is built, about one second for a million of them.
CREATE INDEX dead_letter_open ON rpa.dead_letter (flow, record_id) WHERE discarded IS NULL;

-- What a corrected record was before: its payload and why it had been set aside.
CREATE TABLE rpa.correction (
    act       bigint      NOT NULL,
    period    integer     NOT NULL,
    record_id bigint      NOT NULL,
    kind      text        NOT NULL,
    tries     smallint    NOT NULL,
    reasons   text[]      NOT NULL,
    set_aside timestamptz NOT NULL,
    payload   json        NOT NULL,
    new_key   text,                     -- the correction is another record, under this key
    PRIMARY KEY (period, record_id, act)
);

-- Retention for roles that own nothing here: the two functions act as the owner of the tables, and only on what is
-- due. A caller who is not the owner, or a member of it, cannot make a period shorter than a day, nor drop one that
-- closed less than a day ago. Both answer NULL where another transaction is in the way for more than 0.3 s.
CREATE FUNCTION rpa.rotate_if_due(period_age interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '300ms' AS $$
BEGIN
    IF NOT pg_has_role(session_user, current_user, 'USAGE') THEN
        period_age := greatest(period_age, interval '1 day');
    END IF;
    IF NOT EXISTS (SELECT FROM rpa.period WHERE closed_at IS NULL AND opened_at < clock_timestamp() - period_age) THEN
        RETURN NULL;
    END IF;
    RETURN rpa.rotate_period();
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END $$;

-- Drop a period with all that it holds, if it closed long enough ago, and every record in it is done or discarded.
-- Answers whether it did. Locks: ACCESS EXCLUSIVE on the period's partitions, before the last check, for which every
-- statement must see what committed meanwhile: READ COMMITTED only.
CREATE FUNCTION rpa.drop_if_finished(dropped integer, closed_age interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '300ms' AS $$
DECLARE part text;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'rpa.drop_if_finished needs READ COMMITTED, not %', current_setting('transaction_isolation');
    END IF;
    IF NOT pg_has_role(session_user, current_user, 'USAGE') THEN
        closed_age := greatest(closed_age, interval '1 day');
    END IF;
    IF NOT EXISTS (SELECT FROM rpa.period WHERE id = dropped AND closed_at < clock_timestamp() - closed_age) THEN
        RETURN false;
    END IF;
    FOREACH part IN ARRAY ARRAY['dead_letter', 'chunk_done', 'result', 'record'] LOOP
        EXECUTE format('LOCK TABLE rpa.%I IN ACCESS EXCLUSIVE MODE', format('%s_p%s', part, dropped));
    END LOOP;
    IF EXISTS (SELECT FROM rpa.chunk WHERE period = dropped)
        OR EXISTS (SELECT FROM rpa.dead_letter WHERE period = dropped AND discarded IS NULL) THEN
        RETURN false;
    END IF;
    FOREACH part IN ARRAY ARRAY['dead_letter', 'chunk_done', 'result', 'record'] LOOP
        EXECUTE format('DROP TABLE rpa.%I', format('%s_p%s', part, dropped));
    END LOOP;
    DELETE FROM rpa.period WHERE id = dropped;
    DELETE FROM rpa.correction c WHERE NOT EXISTS (SELECT FROM rpa.period p WHERE p.id = c.period);
    DELETE FROM rpa.dead_letter_act WHERE at < clock_timestamp() - greatest(closed_age, interval '366 days');
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION rpa.rotate_if_due(interval), rpa.drop_if_finished(integer, interval) FROM PUBLIC;
