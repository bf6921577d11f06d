-- Records a commit, all or nothing, or says why not. Every check comes before every insert; what others insert meanwhile meets
-- the constraint `events_version`, and the caller calls again.
--
-- Of a write: the stream, what is expected (0 a head, 1 an empty stream, 2 a version, 3 anything), the version and chain
-- expected, and the number of the commit's events up to its last one. Of an event: what is stored, its digest, and its tags with
-- U+001F between them. `p_unchanged` is a query for the first event that was added after $1 and matches; its values are in $2.
--
-- A call with the same events again is recognised: by where they would stand, or, where anything is expected, by the id of the
-- first one, which is looked for among the stream's events after the position `p_since`. It must be one that was there before
-- the first of the calls, and the same in all of them.
--
-- Answers a row a write (`recorded` or `repeated`), or one row: `conflict` with the stream's version (0: empty) and chain, or
-- `changed` with the position.
CREATE OR REPLACE FUNCTION {schema}.append(
    p_streams text[], p_expectations smallint[], p_versions bigint[], p_chains bytea[], p_ends integer[],
    p_ids uuid[], p_types text[], p_schema_versions bigint[], p_recorded_ats bigint[], p_origins boolean[],
    p_metadatas bytea[], p_digests bytea[], p_tags text[], p_payloads bytea[],
    p_since bigint, p_locks bigint[], p_exclusive boolean[],
    p_whole_log boolean, p_unchanged text, p_after bigint, p_values text[],
    p_fold text, p_serial text, p_key text, p_snapshot_version bigint, p_snapshot_chain bytea, p_envelope bytea,
    p_keep bigint, p_day bigint, p_slot_lock bigint,
    p_schema text, p_store uuid)
RETURNS TABLE (outcome text, write integer, first bigint, version bigint, chain bytea, "position" bigint,
               pruned bigint, newer_version bigint, newer_chain bytea)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_last record;
    v_lives integer[] := '{}';
    v_bases bigint[] := '{}';
    v_links bytea[] := '{}';
    v_expected bigint[] := p_versions;
    v_unmet integer;
    v_begin integer;
    v_write integer := 1;
    v_number integer := 0;
    v_digest bytea;
    v_link bytea;
    v_version bigint;
    v_position bigint;
    v_event_streams text[] := '{}';
    v_event_lives integer[] := '{}';
    v_event_versions bigint[] := '{}';
    v_event_chains bytea[] := '{}';
    v_positions bigint[] := '{}';
    v_transaction xid8;
    v_saved record;
    v_recorded record;
BEGIN
    PERFORM {schema}.lock_all(p_locks, p_exclusive);
    -- Before anything is looked at: whoever removes events holds everybody up here.
    IF p_whole_log THEN
        LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE;
    ELSE
        LOCK TABLE {schema}.events IN ROW EXCLUSIVE MODE;
    END IF;
    -- After all waiting: the schema may have got another name meanwhile.
    PERFORM {schema}.check_store(p_schema, p_store);

    FOR i IN 1 .. cardinality(p_streams) LOOP
        SELECT e.life, e.version, e.chain, e.type = 'tailfold.erased' AS ended INTO v_last
        FROM {schema}.events e WHERE e.stream = p_streams[i] ORDER BY e.life DESC, e.version DESC LIMIT 1;
        IF NOT FOUND THEN
            SELECT 1 AS life, 0::bigint AS version, {schema}.genesis(p_streams[i], '') AS chain INTO v_last;
        ELSIF v_last.ended THEN
            SELECT v_last.life + 1 AS life, 0::bigint AS version, {schema}.genesis(p_streams[i], v_last.chain) AS chain
            INTO v_last;
        END IF;
        IF p_expectations[i] = 3 THEN
            v_expected[i] := NULL;
            FOR v_recorded IN
                SELECT e.id, e.life, e.version, e.position FROM {schema}.events e
                WHERE e.stream = p_streams[i] ORDER BY e.life DESC, e.version DESC
            LOOP
                EXIT WHEN v_recorded.position <= p_since OR v_recorded.life < v_last.life;
                IF v_recorded.id = p_ids[CASE i WHEN 1 THEN 1 ELSE p_ends[i - 1] + 1 END] THEN
                    v_expected[i] := v_recorded.version - 1;
                    v_unmet := coalesce(v_unmet, i);
                    EXIT;
                END IF;
            END LOOP;
        END IF;
        v_lives[i] := v_last.life;
        v_bases[i] := v_last.version;
        v_links[i] := v_last.chain;
        IF v_unmet IS NULL AND NOT (CASE p_expectations[i]
            WHEN 0 THEN v_last.version = p_versions[i] AND v_last.chain = p_chains[i] AND v_last.version > 0
            WHEN 1 THEN v_last.version = 0
            WHEN 2 THEN v_last.version = p_versions[i]
            ELSE true
        END) THEN
            v_unmet := i;
        END IF;
    END LOOP;

    IF v_unmet IS NOT NULL THEN
        -- Do all of its events stand where it would have put them?
        FOR i IN 1 .. cardinality(p_streams) LOOP
            v_begin := CASE i WHEN 1 THEN 0 ELSE p_ends[i - 1] END;
            SELECT count(*) AS events, max(e.position) AS position, min(e.version) AS first, max(e.version) AS last
            INTO v_recorded
            FROM unnest(p_ids, p_types, p_schema_versions, p_recorded_ats, p_metadatas, p_payloads)
                WITH ORDINALITY AS c (id, type, schema_version, recorded_at, metadata, payload, number)
            JOIN {schema}.events e ON e.stream = p_streams[i] AND e.life = v_lives[i]
                AND e.version = v_expected[i] + c.number - v_begin
                AND e.id = c.id AND e.type = c.type AND e.schema_version = c.schema_version
                AND e.recorded_at = c.recorded_at AND e.metadata = c.metadata AND e.payload = c.payload
            WHERE c.number > v_begin AND c.number <= p_ends[i];
            IF v_recorded.events < p_ends[i] - v_begin THEN
                EXIT;
            END IF;
            -- The link tells the history before the first event, even where that was cut off.
            IF p_expectations[i] = 0 AND NOT EXISTS (
                SELECT FROM {schema}.events e
                WHERE e.stream = p_streams[i] AND e.life = v_lives[i] AND e.version = v_recorded.first
                    AND e.chain = substring(sha256(p_chains[i] || p_digests[v_begin + 1]) FROM 1 FOR 16)
            ) THEN
                EXIT;
            END IF;
            RETURN QUERY
                SELECT 'repeated', i, v_recorded.first, e.version, e.chain, v_recorded.position,
                       NULL::bigint, NULL::bigint, NULL::bytea
                FROM {schema}.events e
                WHERE e.stream = p_streams[i] AND e.life = v_lives[i] AND e.version = v_recorded.last;
            v_number := i;
        END LOOP;
        IF v_number < cardinality(p_streams) THEN
            -- Instead of whatever was found to be repeated.
            RETURN QUERY SELECT 'conflict', v_unmet, NULL::bigint, v_bases[v_unmet], v_links[v_unmet], NULL::bigint,
                                NULL::bigint, NULL::bigint, NULL::bytea;
        END IF;
        RETURN;
    END IF;

    IF p_unchanged IS NOT NULL THEN
        EXECUTE p_unchanged INTO v_position USING p_after, p_values;
        IF v_position IS NOT NULL THEN
            RETURN QUERY SELECT 'changed', NULL::integer, NULL::bigint, NULL::bigint, NULL::bytea, v_position,
                                NULL::bigint, NULL::bigint, NULL::bytea;
            RETURN;
        END IF;
    END IF;

    v_transaction := pg_current_xact_id();
    v_version := v_bases[1];
    v_link := v_links[1];
    FOREACH v_digest IN ARRAY p_digests LOOP
        v_number := v_number + 1;
        IF v_number > p_ends[v_write] THEN
            v_write := v_write + 1;
            v_version := v_bases[v_write];
            v_link := v_links[v_write];
        END IF;
        v_version := v_version + 1;
        v_link := substring(sha256(v_link || v_digest) FROM 1 FOR 16);
        v_event_streams[v_number] := p_streams[v_write];
        v_event_lives[v_number] := v_lives[v_write];
        v_event_versions[v_number] := v_version;
        v_event_chains[v_number] := v_link;
        v_positions[v_number] := nextval('{schema}.positions');
    END LOOP;

    -- In the order of the streams, so that two commits to the same ones never wait for each other.
    INSERT INTO {schema}.events (position, stream, life, version, id, type, schema_version, recorded_at, origin, metadata,
                                 chain, tags, payload)
    SELECT c.position, c.stream, c.life, c.version, c.id, c.type, c.schema_version, c.recorded_at, c.origin, c.metadata,
           c.chain, string_to_array(c.tags, E'\x1f'), c.payload
    FROM unnest(v_positions, v_event_streams, v_event_lives, v_event_versions, p_ids, p_types, p_schema_versions,
                p_recorded_ats, p_origins, p_metadatas, v_event_chains, p_tags, p_payloads)
        AS c (position, stream, life, version, id, type, schema_version, recorded_at, origin, metadata, chain, tags, payload)
    ORDER BY c.stream COLLATE "C", c.version;

    INSERT INTO {schema}.event_tags (tag, position)
    SELECT DISTINCT t.tag, c.position
    FROM unnest(v_positions, p_tags) AS c (position, tags), unnest(string_to_array(c.tags, E'\x1f')) AS t (tag);

    IF p_fold IS NOT NULL THEN
        SELECT s.pruned, s.newer_version, s.newer_chain INTO v_saved
        FROM {schema}.save_snapshot(p_slot_lock, p_fold, p_serial, p_key, p_snapshot_version, p_snapshot_chain, p_envelope,
                                    p_keep, p_day) AS s;
    ELSE
        SELECT NULL::bigint AS pruned, NULL::bigint AS newer_version, NULL::bytea AS newer_chain INTO v_saved;
    END IF;

    RETURN QUERY
        SELECT 'recorded', w.write::integer, v_bases[w.write] + 1, v_event_versions[w.last], v_event_chains[w.last],
               v_positions[w.last], v_saved.pruned, v_saved.newer_version, v_saved.newer_chain
        FROM unnest(p_ends) WITH ORDINALITY AS w (last, write) ORDER BY w.write;
END
$$;
