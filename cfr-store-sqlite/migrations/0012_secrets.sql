-- Keys that seal secrets, each wrapped by a master key that is not here.
CREATE TABLE data_keys (
  id         BLOB PRIMARY KEY,
  tenant_id  BLOB NOT NULL,                              -- empty for the platform
  master     TEXT NOT NULL,                              -- the id of the master key
  wrapped    TEXT NOT NULL,
  current    INTEGER NOT NULL CHECK (current IN (0, 1)),
  made_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX data_keys_current ON data_keys (tenant_id) WHERE current = 1;

-- Accounts at providers. What is secret of one is sealed by a data key.
CREATE TABLE provider_accounts (
  id         BLOB PRIMARY KEY,
  tenant_id  BLOB NOT NULL,                              -- empty for the platform
  name       TEXT NOT NULL,
  version    INTEGER NOT NULL,
  entry      TEXT NOT NULL CHECK (json_valid(entry)),
  secret     TEXT NOT NULL                               -- empty where there is none
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX provider_accounts_name ON provider_accounts (tenant_id, name);
