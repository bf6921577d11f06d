-- Which read models these are. Who has opened them notices where others have the schema's name by now.
ALTER TABLE {schema}.read_models_meta ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid();
