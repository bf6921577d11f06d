-- Whoever has built the indexes before, beside appends, has to be done: one that is not valid would be believed to be there.
DO $$
DECLARE
    v_index text;
BEGIN
    SELECT i.indexrelid::regclass INTO v_index
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = '{schema}.events'::regclass AND c.relname IN ('events_of_type', 'events_of_category') AND NOT i.indisvalid;
    IF FOUND THEN
        RAISE EXCEPTION 'the index % is not valid: let its build end, or drop it', v_index
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END
$$;
