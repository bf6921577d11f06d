-- Ends the life of a stream: removes its events, their tags and the stream's snapshots, and records the tombstone, if the head
-- still is the one that the tombstone was made for. Answers nothing if it is not.
CREATE FUNCTION {schema}.erase(
    p_locks bigint[], p_exclusive boolean[], p_stream text, p_version bigint, p_chain bytea,
    p_id uuid, p_type text, p_schema_version bigint, p_recorded_at bigint, p_payload bytea, p_tombstone bytea)
RETURNS TABLE (events bigint, snapshots bigint, "position" bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_last record;
    v_events bigint;
    v_snapshots bigint;
    v_position bigint;
    v_transaction xid8;
BEGIN
    PERFORM {schema}.lock_all(p_locks, p_exclusive);
    LOCK TABLE {schema}.events IN ROW EXCLUSIVE MODE;
    SELECT e.life, e.version, e.chain INTO v_last
    FROM {schema}.events e WHERE e.stream = p_stream ORDER BY e.life DESC, e.version DESC LIMIT 1;
    IF NOT FOUND OR v_last.version <> p_version OR v_last.chain <> p_chain THEN
        RETURN;
    END IF;
    v_transaction := pg_current_xact_id();
    v_position := nextval('{schema}.positions');
    -- First, so that whoever appends at this moment is waited for, or waits.
    INSERT INTO {schema}.events (position, stream, life, version, id, type, schema_version, recorded_at, origin, metadata,
                                 chain, payload)
    VALUES (v_position, p_stream, v_last.life, p_version + 1, p_id, p_type, p_schema_version, p_recorded_at, false, '',
            p_tombstone, p_payload);
    WITH removed AS (
        DELETE FROM {schema}.events e WHERE e.stream = p_stream AND e.life = v_last.life AND e.version <= p_version
        RETURNING e.position, e.tags
    ), untagged AS (
        DELETE FROM {schema}.event_tags t USING removed r
        WHERE r.tags IS NOT NULL AND t.tag = ANY (r.tags) AND t.position = r.position
    )
    SELECT count(*) INTO v_events FROM removed;
    WITH removed AS (
        DELETE FROM {schema}.snapshots s WHERE s.key = p_stream RETURNING s.ref
    ), gone AS (
        DELETE FROM {schema}.snapshot_payloads p USING removed r WHERE p.snapshot = r.ref
    )
    SELECT count(*) INTO v_snapshots FROM removed;
    RETURN QUERY SELECT v_events, v_snapshots, v_position;
END
$$;
