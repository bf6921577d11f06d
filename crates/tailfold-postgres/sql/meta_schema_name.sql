-- What the schema was called when its functions were made, which bear that name in their text. Where it
-- differs from the schema's name, the schema was renamed or restored elsewhere, and they are to be made anew.
ALTER TABLE {schema}.meta ADD COLUMN schema_name text NOT NULL DEFAULT '';
