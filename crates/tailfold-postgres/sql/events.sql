-- The log. An erased stream's next events are another life of it; the last row of a life that ended is its tombstone.
CREATE TABLE {schema}.events (
    position       bigint  PRIMARY KEY,
    stream         text    COLLATE "C" NOT NULL,   -- category/id
    life           integer NOT NULL,               -- 1, 2, 3 ...
    version        bigint  NOT NULL,               -- 1, 2, 3 ... in each life
    id             uuid    NOT NULL,
    type           text    COLLATE "C" NOT NULL,
    schema_version bigint  NOT NULL,
    recorded_at    bigint  NOT NULL,               -- microseconds since 1970, UTC
    origin         boolean NOT NULL,               -- a fold may start here from empty
    metadata       bytea   NOT NULL,               -- JSON, or empty
    chain          bytea   NOT NULL,               -- 16 bytes
    tags           text[],                         -- NULL if there are none
    payload        bytea   NOT NULL,
    CONSTRAINT events_version UNIQUE (stream, life, version)
);
CREATE INDEX tombstones ON {schema}.events (position) WHERE type = 'tailfold.erased';
