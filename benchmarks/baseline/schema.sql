-- The tables of the work written by hand, which the engine is measured against.
CREATE SCHEMA baseline;

CREATE TABLE baseline.record (
    id          bigint      NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    period      integer     NOT NULL,
    flow        smallint    NOT NULL,
    key         text,
    payload     json        NOT NULL,
    PRIMARY KEY (period, id)
);

CREATE TABLE baseline.result (
    record_id bigint  NOT NULL,
    chunk_id  bigint  NOT NULL,
    period    integer NOT NULL,
    data      json    NOT NULL,
    PRIMARY KEY (period, record_id)
);

CREATE TABLE baseline.chunk (
    id          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    period      integer NOT NULL,
    lo          bigint  NOT NULL,
    hi          bigint  NOT NULL,
    n           integer NOT NULL,
    state       "char"  NOT NULL DEFAULT 'r',
    lease_id    uuid,
    lease_until timestamptz
) WITH (fillfactor = 60);
CREATE INDEX chunk_ready ON baseline.chunk (id) WHERE state = 'r';

CREATE TABLE baseline.chunk_done (
    id       bigint      NOT NULL,
    period   integer     NOT NULL,
    n        integer     NOT NULL,
    lease_id uuid        NOT NULL,
    done_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (period, id)
);
