-- Keeps a snapshot, unless `p_keep` newer ones are there, and prunes its slot. Saves to one slot come one after the other.
-- Answers how many were pruned, or the head of the newest one that stays instead.
CREATE OR REPLACE FUNCTION {schema}.save_snapshot(
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
    -- In one statement: others may remove the newest one at any time.
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
