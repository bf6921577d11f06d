-- Ends the life of a stream: removes its events, their tags and the stream's snapshots, and records the tombstone, if the head
-- still is the one that the tombstone was made for. Answers nothing if it is not.
--
-- An append that began before the events went could take one of their versions again. So the last step waits for the appends
-- that are under way and holds up new ones, which then see the tombstone; what takes long is done before.
CREATE OR REPLACE FUNCTION {schema}.erase(
    p_stream text, p_version bigint, p_chain bytea,
    p_id uuid, p_type text, p_schema_version bigint, p_recorded_at bigint, p_payload bytea, p_tombstone bytea,
    p_schema text, p_store uuid)
RETURNS TABLE (events bigint, snapshots bigint, "position" bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_life integer;
    v_events bigint;
    v_snapshots bigint;
    v_position bigint;
BEGIN
    PERFORM {schema}.check_isolation();
    SELECT e.life INTO v_life
    FROM {schema}.events e WHERE e.stream = p_stream ORDER BY e.life DESC, e.version DESC LIMIT 1;
    WITH removed AS (
        DELETE FROM {schema}.events e WHERE e.stream = p_stream AND e.life = v_life AND e.version < p_version
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

    LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE;
    PERFORM {schema}.check_store(p_schema, p_store);
    WITH removed AS (
        DELETE FROM {schema}.events e
        WHERE e.stream = p_stream AND e.life = v_life AND e.version = p_version AND e.chain = p_chain
            AND NOT EXISTS (
                SELECT FROM {schema}.events l WHERE l.stream = p_stream AND l.life = v_life AND l.version > p_version)
        RETURNING e.position, e.tags
    ), untagged AS (
        DELETE FROM {schema}.event_tags t USING removed r
        WHERE r.tags IS NOT NULL AND t.tag = ANY (r.tags) AND t.position = r.position
    )
    SELECT v_events + count(*), max(r.position) INTO v_events, v_position FROM removed r;
    IF v_position IS NULL THEN
        -- Undoes what was done; the caller looks for the head again.
        RAISE EXCEPTION 'the stream has another head' USING ERRCODE = 'serialization_failure';
    END IF;
    v_position := nextval('{schema}.positions');
    INSERT INTO {schema}.events (position, stream, life, version, id, type, schema_version, recorded_at, origin, metadata,
                                 chain, payload)
    VALUES (v_position, p_stream, v_life, p_version + 1, p_id, p_type, p_schema_version, p_recorded_at, false, '',
            p_tombstone, p_payload);
    RETURN QUERY SELECT v_events, v_snapshots, v_position;
END
$$;
