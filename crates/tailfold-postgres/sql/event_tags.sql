-- Finds events by tag. An index beside the log: it can be built anew from events.tags.
CREATE TABLE {schema}.event_tags (
    tag      text   COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag, position)
);
