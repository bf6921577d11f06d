-- These took callers at their word about which store they mean.
DROP FUNCTION IF EXISTS {schema}.append(
    text[], smallint[], bigint[], bytea[], integer[], uuid[], text[], bigint[], bigint[], boolean[], bytea[], bytea[], text[], bytea[],
    bigint, bigint[], boolean[], boolean, text, bigint, text[], text, text, text, bigint, bytea, bytea, bigint, bigint, bigint);
DROP FUNCTION IF EXISTS {schema}.erase(text, bigint, bytea, uuid, text, bigint, bigint, bytea, bytea);
DROP FUNCTION IF EXISTS {schema}.truncate(text, bigint);
