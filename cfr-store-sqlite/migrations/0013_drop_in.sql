-- What other programs were told: amounts held for calls that they make, and their names for what is here.

CREATE TABLE outside_holds (
  id       BLOB PRIMARY KEY CHECK (length(id) = 16),
  ends_at  INTEGER NOT NULL,
  entry    TEXT NOT NULL CHECK (json_valid(entry))
) STRICT;

CREATE INDEX outside_holds_ended ON outside_holds (ends_at);

CREATE TABLE outside_names (
  kind   TEXT NOT NULL CHECK (kind IN ('tenant', 'product', 'user', 'key')),
  name   TEXT NOT NULL,
  id     BLOB NOT NULL CHECK (length(id) = 16),
  entry  TEXT NOT NULL CHECK (json_valid(entry)),
  PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX outside_names_of ON outside_names (kind, id, name);
