-- Positions of the log. A transaction has its id and its lock on `events` before it draws one: readers rely on that order to
-- know which positions are decided. Never with a cache: positions would go back.
CREATE SEQUENCE {schema}.positions AS bigint MINVALUE 1 NO CYCLE;
