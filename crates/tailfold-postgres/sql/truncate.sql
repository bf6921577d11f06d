-- Removes the events of a stream before an origin, their tags, and the snapshots below it. Answers `origin` true and what went;
-- or `origin` false, NULL if there is no such event. As `erase` does, it waits for appends that are under way at last.
CREATE OR REPLACE FUNCTION {schema}.truncate(p_stream text, p_before bigint, p_schema text, p_store uuid)
RETURNS TABLE (origin boolean, events bigint, snapshots bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_life integer;
    v_origin boolean;
    v_events bigint;
    v_snapshots bigint;
BEGIN
    PERFORM {schema}.check_isolation();
    SELECT e.life INTO v_life
    FROM {schema}.events e WHERE e.stream = p_stream ORDER BY e.life DESC, e.version DESC LIMIT 1;
    SELECT e.origin INTO v_origin
    FROM {schema}.events e
    WHERE e.stream = p_stream AND e.life = v_life AND e.version = p_before AND e.type <> 'tailfold.erased'
    FOR KEY SHARE;
    IF v_origin IS NOT TRUE THEN
        RETURN QUERY SELECT v_origin, 0::bigint, 0::bigint;
        RETURN;
    END IF;
    WITH removed AS (
        DELETE FROM {schema}.events e WHERE e.stream = p_stream AND e.life = v_life AND e.version < p_before
        RETURNING e.position, e.tags
    ), untagged AS (
        DELETE FROM {schema}.event_tags t USING removed r
        WHERE r.tags IS NOT NULL AND t.tag = ANY (r.tags) AND t.position = r.position
    )
    SELECT count(*) INTO v_events FROM removed;
    WITH removed AS (
        DELETE FROM {schema}.snapshots s WHERE s.key = p_stream AND s.version < p_before RETURNING s.ref
    ), gone AS (
        DELETE FROM {schema}.snapshot_payloads p USING removed r WHERE p.snapshot = r.ref
    )
    SELECT count(*) INTO v_snapshots FROM removed;
    LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE;
    PERFORM {schema}.check_store(p_schema, p_store);
    RETURN QUERY SELECT true, v_events, v_snapshots;
END
$$;
