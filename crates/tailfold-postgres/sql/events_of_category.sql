-- Finds events by their stream's category, in the order of the log; compared as `events_of_type` is.
CREATE INDEX IF NOT EXISTS events_of_category ON {schema}.events (split_part(stream, '/', 1), position);
