-- Programs that people sign in to with their account here, the keys that sign for them, and what they hold of whom. No
-- code and no token is kept.

CREATE TABLE oidc_clients (
  id         BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  tenant_id  BLOB NOT NULL REFERENCES tenants,
  secret     BLOB NOT NULL CHECK (length(secret) = 32),  -- SHA-256
  version    INTEGER NOT NULL CHECK (version > 0),
  entry      TEXT NOT NULL CHECK (json_valid(entry))
) STRICT, WITHOUT ROWID;
CREATE INDEX oidc_clients_of_tenant ON oidc_clients (tenant_id, id);

CREATE TABLE signing_keys (
  seq    INTEGER PRIMARY KEY CHECK (seq > 0),
  entry  TEXT NOT NULL CHECK (json_valid(entry))
) STRICT;

CREATE TABLE client_sessions (
  id          BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  client_id   BLOB NOT NULL REFERENCES oidc_clients,
  user_id     BLOB NOT NULL REFERENCES users,
  session_id  BLOB NOT NULL,
  ended       INTEGER NOT NULL CHECK (ended IN (0, 1)),
  over_at     INTEGER NOT NULL,                          -- when it ended, or will at the latest
  due_at      INTEGER,                                   -- the newest word on it; `entry` may have an older one
  tries       INTEGER NOT NULL,                          -- the same
  version     INTEGER NOT NULL CHECK (version > 0),
  entry       TEXT NOT NULL CHECK (json_valid(entry))
) STRICT, WITHOUT ROWID;
CREATE INDEX client_sessions_of_client ON client_sessions (client_id) WHERE ended = 0;
CREATE INDEX client_sessions_of_user ON client_sessions (user_id) WHERE ended = 0;
CREATE INDEX client_sessions_of_session ON client_sessions (session_id) WHERE ended = 0;
CREATE INDEX client_sessions_due ON client_sessions (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX client_sessions_by_end ON client_sessions (over_at) WHERE due_at IS NULL;
