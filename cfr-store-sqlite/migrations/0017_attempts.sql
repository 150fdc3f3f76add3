-- How often something was tried of late, counted by every server together. A subject is the hash of what is tried and from where.
CREATE TABLE attempts (
  subject  BLOB PRIMARY KEY CHECK (length(subject) = 32),
  count    INTEGER NOT NULL CHECK (count >= 0),
  ends_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
