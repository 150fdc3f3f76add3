-- Files and batches that callers have at providers. What is in a file stays there; only ids are kept here.

CREATE TABLE request_files (
  id         BLOB PRIMARY KEY,
  tenant_id  BLOB NOT NULL,
  user_id    BLOB NOT NULL,                              -- empty for service keys
  purpose    TEXT NOT NULL,
  entry      TEXT NOT NULL CHECK (json_valid(entry))
) STRICT, WITHOUT ROWID;

CREATE INDEX request_files_of_owner ON request_files (tenant_id, user_id, id);

CREATE TABLE request_batches (
  id         BLOB PRIMARY KEY,
  tenant_id  BLOB NOT NULL,
  user_id    BLOB NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('begun', 'reserved', 'running', 'settled', 'void')),
  due_at     INTEGER NOT NULL,                           -- the newest word on it; `entry` may have an older one
  entry      TEXT NOT NULL CHECK (json_valid(entry))
) STRICT, WITHOUT ROWID;

CREATE INDEX request_batches_of_owner ON request_batches (tenant_id, user_id, id);
CREATE INDEX request_batches_due ON request_batches (due_at) WHERE state NOT IN ('settled', 'void');
