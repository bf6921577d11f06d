-- Snapshots: small rows here, envelopes beside them, so that noting a use rewrites no payload.
CREATE TABLE snapshots (
    ref     INTEGER PRIMARY KEY,
    fold    TEXT    NOT NULL,
    serial  TEXT    NOT NULL,
    key     TEXT    NOT NULL,          -- name of the stream, or a projection's key
    version INTEGER NOT NULL,
    chain   BLOB    NOT NULL,
    used    INTEGER NOT NULL,          -- days since 1970, UTC
    bytes   INTEGER NOT NULL,
    UNIQUE (fold, serial, key, version)
) STRICT;
CREATE INDEX snapshots_of_key ON snapshots (key);

CREATE TABLE snapshot_payloads (
    snapshot INTEGER PRIMARY KEY,      -- snapshots.ref
    envelope BLOB    NOT NULL
) STRICT;
CREATE TRIGGER snapshot_payload_goes_along AFTER DELETE ON snapshots BEGIN
    DELETE FROM snapshot_payloads WHERE snapshot = old.ref;
END;
