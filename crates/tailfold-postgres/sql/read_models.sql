-- What read models keep beside their own tables, with a format of its own: there need be no store in this schema.
CREATE TABLE {schema}.read_models_meta (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    format     integer NOT NULL    -- raised by migrations
);
