-- Whether somebody has asked to try it again.
ALTER TABLE {schema}.parked_events ADD COLUMN retry_requested boolean NOT NULL DEFAULT false;
