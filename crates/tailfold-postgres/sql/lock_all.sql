-- Takes locks to the end of the transaction, in the order given: everybody sorts them.
CREATE OR REPLACE FUNCTION {schema}.lock_all(p_locks bigint[], p_exclusive boolean[]) RETURNS void
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
