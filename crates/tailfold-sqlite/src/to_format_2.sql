-- From format 1 to format 2: the index of kinds, which is filled afterwards.

-- Renamed for one reason: a process that has the file open since before knows the old name alone, so that its next append
-- fails instead of leaving its events out of the index.
ALTER TABLE meta RENAME COLUMN position_floor TO positions_used;

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
