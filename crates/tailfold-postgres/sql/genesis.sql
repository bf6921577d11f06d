-- The chain before the first event of a life: the first 16 bytes of SHA-256 over the stream's name and, after a life that was
-- erased, the chain of its tombstone, each with its length (four bytes, little-endian).
-- Without a backslash, which some sessions take for the beginning of another character.
CREATE OR REPLACE FUNCTION {schema}.genesis(p_stream text, p_tombstone bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT substring(sha256(string_agg(
        set_byte(set_byte(decode('00000000', 'hex'), 0, length(part) & 255), 1, (length(part) >> 8) & 255) || part, ''::bytea
        ORDER BY place)) FROM 1 FOR 16)
    FROM (VALUES (1, convert_to(p_stream, 'UTF8')), (2, p_tombstone)) AS parts (place, part)
$$;
