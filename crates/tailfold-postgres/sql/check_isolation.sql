-- Refuses transactions that would not see what others have committed while they waited for a lock.
CREATE OR REPLACE FUNCTION {schema}.check_isolation() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'transactions of this connection are %: they must be read committed',
            current_setting('transaction_isolation') USING ERRCODE = 'feature_not_supported';
    END IF;
END
$$;
