-- Refuses a caller who means another store than the one that this function works on. Functions bear their
-- schema's name in their text, and callers remember it: after a rename, either may lead to a store that has
-- taken the name since.
CREATE OR REPLACE FUNCTION {schema}.check_store(p_schema text, p_store uuid) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF p_schema <> '{schema}' OR NOT EXISTS (SELECT FROM {schema}.meta WHERE store_id = p_store) THEN
        RAISE EXCEPTION 'the schema % does not hold store % any more: connect again', p_schema, p_store
            USING ERRCODE = 'invalid_schema_name';
    END IF;
END
$$;
