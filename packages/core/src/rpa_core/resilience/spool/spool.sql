-- Statements are parted by empty lines; all of them run in one transaction.
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS entry (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    stream TEXT NOT NULL,
    keep INTEGER NOT NULL CHECK (keep IN (0, 1)),
    put_at REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    begun INTEGER NOT NULL DEFAULT 0 -- deliveries that never came back; files of earlier versions get it when opened
) STRICT;

CREATE INDEX IF NOT EXISTS entry_in_order ON entry (kind, stream, seq);

CREATE INDEX IF NOT EXISTS entry_by_age ON entry (kind, keep, seq);

-- Bodies stand apart: what counts a try or makes a dead letter writes a small row, on a full disk too.
CREATE TABLE IF NOT EXISTS body (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;

CREATE TABLE IF NOT EXISTS dead (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    stream TEXT NOT NULL,
    keep INTEGER NOT NULL CHECK (keep IN (0, 1)),
    put_at REAL NOT NULL,
    tries INTEGER NOT NULL,
    size INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    reason TEXT NOT NULL,
    died_at REAL NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS dead_droppable ON dead (kind, seq) WHERE NOT keep;

-- What a deliverer remembers beside its entries: ids that the other system gave, alerts that are open.
CREATE TABLE IF NOT EXISTS note (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- How much there is, so that no put has to count: kept by triggers, whoever writes.
CREATE TABLE IF NOT EXISTS used (
    kind TEXT PRIMARY KEY,
    entries INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    dead_size INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS entry_put AFTER INSERT ON entry BEGIN
    INSERT INTO used (kind, entries, size) VALUES (new.kind, 1, new.size)
    ON CONFLICT (kind) DO UPDATE SET entries = entries + 1, size = size + new.size;
END;

CREATE TRIGGER IF NOT EXISTS entry_gone AFTER DELETE ON entry BEGIN
    UPDATE used SET entries = entries - 1, size = size - old.size WHERE kind = old.kind;
END;

CREATE TRIGGER IF NOT EXISTS dead_put AFTER INSERT ON dead BEGIN
    INSERT INTO used (kind, dead, dead_size) VALUES (new.kind, 1, new.size)
    ON CONFLICT (kind) DO UPDATE SET dead = dead + 1, dead_size = dead_size + new.size;
END;

CREATE TRIGGER IF NOT EXISTS dead_gone AFTER DELETE ON dead BEGIN
    UPDATE used SET dead = dead - 1, dead_size = dead_size - old.size WHERE kind = old.kind;
END;
