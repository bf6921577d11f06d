-- Events that could not be handled. The events themselves are in the log.
CREATE TABLE {schema}.parked_events (
    subscription text    COLLATE "C" NOT NULL,
    position     bigint  NOT NULL,
    stream       text    COLLATE "C" NOT NULL,
    version      bigint  NOT NULL,
    type         text    COLLATE "C" NOT NULL,
    error        text    NOT NULL,
    attempts     bigint  NOT NULL,                        -- 0 where it cannot be decoded
    parked_at    bigint  NOT NULL,                        -- microseconds since 1970, UTC
    PRIMARY KEY (subscription, position)
);
