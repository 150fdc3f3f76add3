-- How people join and sign in. Nothing here is a secret that works by itself: sessions and tokens are kept as SHA-256 of
-- 256 random bits, passwords as PHC strings, what must be read again is sealed by the server.

ALTER TABLE tenants ADD COLUMN settings TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(settings));
ALTER TABLE users ADD COLUMN email_verified_at INTEGER;
ALTER TABLE users ADD COLUMN locale TEXT;
CREATE INDEX users_in_state ON users (status, id);

CREATE TABLE credentials (
  user_id  BLOB PRIMARY KEY NOT NULL REFERENCES users,
  epoch    INTEGER NOT NULL,
  version  INTEGER NOT NULL CHECK (version > 0),
  entry    TEXT NOT NULL CHECK (json_valid(entry))
) STRICT, WITHOUT ROWID;

CREATE TABLE identities (
  issuer   TEXT NOT NULL,
  subject  TEXT NOT NULL,
  user_id  BLOB NOT NULL REFERENCES users,
  PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX identities_of_user ON identities (user_id);

CREATE TABLE sessions (
  id          BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  hash        BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  user_id     BLOB NOT NULL REFERENCES users,
  epoch       INTEGER NOT NULL,
  expires_at  INTEGER NOT NULL,
  entry       TEXT NOT NULL CHECK (json_valid(entry))
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_user ON sessions (user_id, id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE one_time_tokens (
  id            BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  hash          BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  kind          TEXT NOT NULL,
  tenant_id     BLOB REFERENCES tenants,
  user_id       BLOB REFERENCES users,
  email_normal  TEXT,
  epoch         INTEGER NOT NULL,
  expires_at    INTEGER NOT NULL,
  entry         TEXT NOT NULL CHECK (json_valid(entry))
) STRICT, WITHOUT ROWID;
CREATE INDEX one_time_tokens_of_tenant ON one_time_tokens (kind, tenant_id, id);
CREATE INDEX one_time_tokens_of_user ON one_time_tokens (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX one_time_tokens_by_end ON one_time_tokens (expires_at);

CREATE TABLE mails (
  id      BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  due_at  INTEGER NOT NULL,
  tries   INTEGER NOT NULL,
  entry   TEXT NOT NULL CHECK (json_valid(entry))
) STRICT, WITHOUT ROWID;
CREATE INDEX mails_due ON mails (due_at);
