-- What keys are bound to, their second secret while a new one replaces it, and the answers that repeated requests get again.

ALTER TABLE api_keys ADD COLUMN rules TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(rules));
ALTER TABLE api_keys ADD COLUMN old_mac BLOB CHECK (length(old_mac) = 32);
ALTER TABLE api_keys ADD COLUMN grace_until INTEGER;
ALTER TABLE api_keys ADD COLUMN used_at INTEGER;
ALTER TABLE api_keys ADD COLUMN created_by TEXT;
ALTER TABLE api_keys ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX keys_by_old_mac ON api_keys (old_mac) WHERE old_mac IS NOT NULL;

CREATE TABLE request_claims (
  subject     TEXT NOT NULL,                             -- who asks
  key         TEXT NOT NULL,                             -- what they call the request
  digest      BLOB NOT NULL CHECK (length(digest) = 32), -- what they ask for
  request     TEXT NOT NULL,                             -- the request that does it
  started_at  INTEGER NOT NULL,
  expires_at  INTEGER NOT NULL,
  answer      TEXT CHECK (json_valid(answer)),           -- none while it runs
  PRIMARY KEY (subject, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX request_claims_by_end ON request_claims (expires_at);
