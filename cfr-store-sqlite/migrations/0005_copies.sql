-- Where the books were copied from. Until a copy has ended they are not complete, and nobody opens them.

CREATE TABLE copies (
  id          INTEGER PRIMARY KEY,
  source      TEXT NOT NULL,
  heads       TEXT NOT NULL CHECK (json_valid(heads)),   -- the ends of the source's hash chains
  started_at  INTEGER NOT NULL,
  ended_at    INTEGER,
  sections    TEXT CHECK (json_valid(sections))          -- what was found equal on both sides
) STRICT;
