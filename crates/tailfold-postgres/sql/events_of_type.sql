-- Finds events by type, in the order of the log. Every query compares the pair: then no other index gives its order, and the
-- planner has nothing to guess.
CREATE INDEX IF NOT EXISTS events_of_type ON {schema}.events (type, position);
