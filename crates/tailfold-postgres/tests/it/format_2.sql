-- A store as format 2 made it.
CREATE TABLE {schema}.meta (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    format     integer NOT NULL,
    store_id   uuid    NOT NULL,
    created_at bigint  NOT NULL
);
CREATE SEQUENCE {schema}.positions AS bigint MINVALUE 1 NO CYCLE;
CREATE TABLE {schema}.events (
    position       bigint  PRIMARY KEY,
    stream         text    COLLATE "C" NOT NULL,
    life           integer NOT NULL,
    version        bigint  NOT NULL,
    id             uuid    NOT NULL,
    type           text    COLLATE "C" NOT NULL,
    schema_version bigint  NOT NULL,
    recorded_at    bigint  NOT NULL,
    origin         boolean NOT NULL,
    metadata       bytea   NOT NULL,
    chain          bytea   NOT NULL,
    tags           text[],
    payload        bytea   NOT NULL,
    CONSTRAINT events_version UNIQUE (stream, life, version)
);
CREATE INDEX tombstones ON {schema}.events (position) WHERE type = 'tailfold.erased';
CREATE TABLE {schema}.event_tags (
    tag      text   COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag, position)
);
CREATE TABLE {schema}.snapshots (
    ref     bigint GENERATED ALWAYS AS IDENTITY,
    fold    text   COLLATE "C" NOT NULL,
    serial  text   COLLATE "C" NOT NULL,
    key     text   COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    chain   bytea  NOT NULL,
    used    bigint NOT NULL,
    bytes   bigint NOT NULL,
    PRIMARY KEY (fold, serial, key, version)
) WITH (fillfactor = 50);
CREATE INDEX snapshots_of_key ON {schema}.snapshots (key);
CREATE TABLE {schema}.snapshot_payloads (
    snapshot bigint PRIMARY KEY,
    envelope bytea  NOT NULL
);
ALTER TABLE {schema}.snapshot_payloads ALTER envelope SET STORAGE EXTERNAL;
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
CREATE FUNCTION {schema}.genesis(p_stream text, p_tombstone bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT substring(sha256(string_agg(
        set_byte(set_byte('\x00000000'::bytea, 0, length(part) & 255), 1, (length(part) >> 8) & 255) || part, ''::bytea
        ORDER BY place)) FROM 1 FOR 16)
    FROM (VALUES (1, convert_to(p_stream, 'UTF8')), (2, p_tombstone)) AS parts (place, part)
$$;
CREATE FUNCTION {schema}.check_isolation() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'transactions of this connection are %: they must be read committed',
            current_setting('transaction_isolation') USING ERRCODE = 'feature_not_supported';
    END IF;
END
$$;
CREATE FUNCTION {schema}.lock_all(p_locks bigint[], p_exclusive boolean[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.check_isolation();
    FOR i IN 1 .. cardinality(p_locks) LOOP
        IF p_exclusive[i] THEN
            PERFORM pg_advisory_xact_lock(p_locks[i]);
        ELSE
            PERFORM pg_advisory_xact_lock_shared(p_locks[i]);
        END IF;
    END LOOP;
END
$$;
CREATE FUNCTION {schema}.save_snapshot(
    p_slot_lock bigint, p_fold text, p_serial text, p_key text, p_version bigint, p_chain bytea, p_envelope bytea,
    p_keep bigint, p_day bigint)
RETURNS TABLE (pruned bigint, newer_version bigint, newer_chain bytea)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_found record;
    v_ref bigint;
    v_pruned bigint := 0;
BEGIN
    PERFORM {schema}.lock_all(ARRAY[p_slot_lock], '{t}');
    SELECT n.newer, s.version, s.chain INTO v_found
    FROM (SELECT count(*) AS newer FROM (
              SELECT FROM {schema}.snapshots s
              WHERE s.fold = p_fold AND s.serial = p_serial AND s.key = p_key AND s.version > p_version
              LIMIT p_keep) AS limited) AS n
    LEFT JOIN (SELECT s.version, s.chain FROM {schema}.snapshots s
               WHERE s.fold = p_fold AND s.serial = p_serial AND s.key = p_key
               ORDER BY s.version DESC LIMIT 1) AS s ON true;
    IF v_found.newer >= p_keep THEN
        RETURN QUERY SELECT NULL::bigint, v_found.version, v_found.chain;
        RETURN;
    END IF;
    INSERT INTO {schema}.snapshots AS s (fold, serial, key, version, chain, used, bytes)
    VALUES (p_fold, p_serial, p_key, p_version, p_chain, p_day, length(p_envelope))
    ON CONFLICT (fold, serial, key, version) DO UPDATE
    SET chain = excluded.chain, used = excluded.used, bytes = excluded.bytes
    RETURNING s.ref INTO v_ref;
    INSERT INTO {schema}.snapshot_payloads (snapshot, envelope) VALUES (v_ref, p_envelope)
    ON CONFLICT (snapshot) DO UPDATE SET envelope = excluded.envelope;
    IF p_keep < 9223372036854775807 THEN
        WITH pruned AS (
            DELETE FROM {schema}.snapshots s
            WHERE s.fold = p_fold AND s.serial = p_serial AND s.key = p_key AND s.version < (
                SELECT min(kept.version) FROM (
                    SELECT k.version FROM {schema}.snapshots k
                    WHERE k.fold = p_fold AND k.serial = p_serial AND k.key = p_key ORDER BY k.version DESC LIMIT p_keep
                ) AS kept)
            RETURNING s.ref
        ), gone AS (
            DELETE FROM {schema}.snapshot_payloads p USING pruned WHERE p.snapshot = pruned.ref
        )
        SELECT count(*) INTO v_pruned FROM pruned;
    END IF;
    RETURN QUERY SELECT v_pruned, NULL::bigint, NULL::bytea;
END
$$;
CREATE FUNCTION {schema}.append(
    p_streams text[], p_expectations smallint[], p_versions bigint[], p_chains bytea[], p_ends integer[],
    p_ids uuid[], p_types text[], p_schema_versions bigint[], p_recorded_ats bigint[], p_origins boolean[],
    p_metadatas bytea[], p_digests bytea[], p_tags text[], p_payloads bytea[],
    p_since bigint, p_locks bigint[], p_exclusive boolean[],
    p_whole_log boolean, p_unchanged text, p_after bigint, p_values text[],
    p_fold text, p_serial text, p_key text, p_snapshot_version bigint, p_snapshot_chain bytea, p_envelope bytea,
    p_keep bigint, p_day bigint, p_slot_lock bigint)
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
    IF p_whole_log THEN
        LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE;
    ELSE
        LOCK TABLE {schema}.events IN ROW EXCLUSIVE MODE;
    END IF;

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
CREATE FUNCTION {schema}.erase(
    p_stream text, p_version bigint, p_chain bytea,
    p_id uuid, p_type text, p_schema_version bigint, p_recorded_at bigint, p_payload bytea, p_tombstone bytea)
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
CREATE FUNCTION {schema}.truncate(p_stream text, p_before bigint)
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
    RETURN QUERY SELECT true, v_events, v_snapshots;
END
$$;
CREATE INDEX IF NOT EXISTS events_of_type ON {schema}.events (type, position);
CREATE INDEX IF NOT EXISTS events_of_category ON {schema}.events (split_part(stream, '/', 1), position);
INSERT INTO {schema}.meta (format, store_id, created_at) VALUES (2, gen_random_uuid(), 0);
