-- One row about the store itself.
CREATE TABLE {schema}.meta (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    format     integer NOT NULL,   -- of everything in this schema; raised by migrations
    store_id   uuid    NOT NULL,   -- renewed when a backup is restored
    created_at bigint  NOT NULL    -- microseconds since 1970, UTC
);
