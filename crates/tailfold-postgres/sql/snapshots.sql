-- Snapshots: small rows here, envelopes beside them. Noting a use changes nothing that is indexed and finds room on its page,
-- so that it writes one small row and no index.
CREATE TABLE {schema}.snapshots (
    ref     bigint GENERATED ALWAYS AS IDENTITY,
    fold    text   COLLATE "C" NOT NULL,
    serial  text   COLLATE "C" NOT NULL,
    key     text   COLLATE "C" NOT NULL,           -- name of the stream, or a projection's key
    version bigint NOT NULL,
    chain   bytea  NOT NULL,                       -- 16 bytes
    used    bigint NOT NULL,                       -- days since 1970, UTC
    bytes   bigint NOT NULL,                       -- of the envelope
    PRIMARY KEY (fold, serial, key, version)
) WITH (fillfactor = 50);
CREATE INDEX snapshots_of_key ON {schema}.snapshots (key);
