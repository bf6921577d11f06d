-- The log for people. Payloads that are no UTF-8 stay bytes in `events`.
CREATE VIEW {schema}.event_log AS
SELECT position,
       stream,
       life,
       version,
       type,
       schema_version,
       to_timestamp(recorded_at / 1000000.0) AS recorded_at,
       encode(payload, 'escape')             AS payload,
       encode(metadata, 'escape')            AS metadata,
       tags,
       origin,
       id,
       encode(chain, 'hex')                  AS chain
FROM {schema}.events;
