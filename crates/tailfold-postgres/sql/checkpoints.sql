-- Where each subscription stands, and who works on it. Without a store, nothing has been handled yet.
CREATE TABLE {schema}.checkpoints (
    name           text        COLLATE "C" PRIMARY KEY,   -- of the subscription, with its share
    owner          uuid,                                  -- who has the lease; NULL if it was given back
    leased_until   timestamptz NOT NULL,                  -- by this server's clock
    updated_at     timestamptz NOT NULL,                  -- when it last moved
    store          uuid,                                  -- whose positions these are
    position       bigint,                                -- everything up to here was handled or parked
    last_position  bigint,                                -- the last event that was, if there is one
    last_stream    text        COLLATE "C",
    last_version   bigint,
    last_chain     bytea                                  -- 16 bytes
);
