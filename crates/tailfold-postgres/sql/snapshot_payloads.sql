-- Envelopes. They are compressed already where that helps.
CREATE TABLE {schema}.snapshot_payloads (
    snapshot bigint PRIMARY KEY,                   -- snapshots.ref
    envelope bytea  NOT NULL
);
ALTER TABLE {schema}.snapshot_payloads ALTER envelope SET STORAGE EXTERNAL;
