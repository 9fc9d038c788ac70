CREATE TABLE IF NOT EXISTS entry (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    stream TEXT NOT NULL,
    body BLOB NOT NULL,
    checksum BLOB NOT NULL,
    keep INTEGER NOT NULL,
    put_at REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS entry_in_order ON entry (kind, stream, seq);
CREATE TABLE IF NOT EXISTS dead (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    stream TEXT NOT NULL,
    body BLOB NOT NULL,
    keep INTEGER NOT NULL,
    put_at REAL NOT NULL,
    tries INTEGER NOT NULL,
    reason TEXT NOT NULL,
    died_at REAL NOT NULL
) STRICT;
-- What a deliverer remembers beside its entries: ids that the other system gave, alerts that are open.
CREATE TABLE IF NOT EXISTS note (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
