-- Format 2 of a tailfold store: events and snapshots in one SQLite file. The tables of snapshots are in `snapshots.sql`.
-- `PRAGMA application_id` is 0x7461696C ("tail"), `PRAGMA user_version` the format.
-- Read it with any SQLite tool; write to it only through tailfold.

-- One row about the store itself.
CREATE TABLE meta (
    one            INTEGER PRIMARY KEY CHECK (one = 1),
    store_id       BLOB    NOT NULL,   -- UUID; renewed when a backup is restored
    created_at     INTEGER NOT NULL,   -- microseconds since 1970, UTC
    positions_used INTEGER NOT NULL    -- no position up to this one is ever given out again
) STRICT;

-- One row for each life of a stream. Rows are never removed, so a ref always means the same life.
CREATE TABLE streams (
    ref     INTEGER PRIMARY KEY,
    stream  TEXT    NOT NULL,          -- category/id
    genesis BLOB    NOT NULL,          -- chain before the life's first event
    erased  INTEGER                    -- position of the tombstone; NULL while the stream lives
) STRICT;
CREATE UNIQUE INDEX streams_living ON streams (stream) WHERE erased IS NULL;
CREATE INDEX streams_ended ON streams (stream, erased) WHERE erased IS NOT NULL;
CREATE INDEX tombstones ON streams (erased) WHERE erased IS NOT NULL;

-- The log. The position is assigned by the writer, in the order of commits.
CREATE TABLE events (
    position       INTEGER PRIMARY KEY,
    stream         INTEGER NOT NULL,   -- streams.ref
    version        INTEGER NOT NULL,   -- 1, 2, 3 ... in each life
    id             BLOB    NOT NULL,   -- UUID
    type           TEXT    NOT NULL,
    schema_version INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL,   -- microseconds since 1970, UTC
    origin         INTEGER NOT NULL,   -- 1: a fold may start here from empty
    metadata       BLOB    NOT NULL,   -- JSON, or empty
    chain          BLOB    NOT NULL,   -- 16 bytes
    tags           TEXT,               -- JSON array; NULL if there are none
    payload        BLOB    NOT NULL,
    UNIQUE (stream, version)
) STRICT;

-- What there is to find: the types of event in the categories of streams. Rows are never removed.
CREATE TABLE kinds (
    ref      INTEGER PRIMARY KEY,
    category TEXT    NOT NULL,         -- of the stream
    type     TEXT    NOT NULL,         -- of the event; `tailfold.erased` for tombstones
    UNIQUE (category, type)
) STRICT;

-- Finds events by kind: one row an event. An index beside the log: `reindex` rebuilds it.
CREATE TABLE event_kinds (
    kind     INTEGER NOT NULL,         -- kinds.ref
    position INTEGER NOT NULL,
    PRIMARY KEY (kind, position)
) STRICT, WITHOUT ROWID;

-- Finds events by tag. An index beside the log: `reindex` rebuilds it from events.tags.
CREATE TABLE event_tags (
    tag      TEXT    NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (tag, position)
) STRICT, WITHOUT ROWID;

-- Tags that are not in event_tags yet, or not all of them: the index is kept behind the log, so that an append does not
-- touch a page of it for each tag. A search looks here first, then into event_tags.
CREATE TABLE tags_behind (
    position INTEGER PRIMARY KEY,
    tags     TEXT NOT NULL             -- as in events
) STRICT;

-- The log for people.
CREATE VIEW event_log AS
SELECT e.position,
       s.stream,
       e.version,
       e.type,
       e.schema_version,
       strftime('%Y-%m-%dT%H:%M:%fZ', e.recorded_at / 1000000.0, 'unixepoch') AS recorded_at,
       CAST(e.payload AS TEXT)  AS payload,
       CAST(e.metadata AS TEXT) AS metadata,
       e.tags,
       e.origin,
       lower(hex(e.id))         AS id,
       lower(hex(e.chain))      AS chain
FROM events e JOIN streams s ON s.ref = e.stream;
