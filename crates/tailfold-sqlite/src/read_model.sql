-- Beside a read model's own tables: where each subscription stands, and what it has put aside.
CREATE TABLE IF NOT EXISTS tailfold_checkpoints (
    name        TEXT    PRIMARY KEY,   -- of the subscription, with its share
    checkpoint  TEXT,                  -- JSON; NULL until something was handled
    owner       BLOB    NOT NULL,      -- UUID of the worker that has the lease
    lease_until INTEGER NOT NULL,      -- microseconds since 1970, UTC
    updated_at  INTEGER NOT NULL       -- the same
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS tailfold_parked_events (
    name       TEXT    NOT NULL,
    position   INTEGER NOT NULL,
    stream     TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    type       TEXT    NOT NULL,
    error      TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    parked_at  INTEGER NOT NULL,
    retry_requested INTEGER NOT NULL DEFAULT 0,   -- 1: somebody has asked to try it again
    PRIMARY KEY (name, position)
) STRICT, WITHOUT ROWID;
