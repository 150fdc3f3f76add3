-- What keys are bound to, their second secret while a new one replaces it, and the answers that repeated requests get again.

ALTER TABLE api_keys
  ADD COLUMN rules        jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN old_mac      bytea CHECK (length(old_mac) = 32),
  ADD COLUMN grace_until  bigint,
  ADD COLUMN used_at      bigint,
  ADD COLUMN created_by   text,
  ADD COLUMN version      bigint NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX keys_by_old_mac ON api_keys (old_mac) WHERE old_mac IS NOT NULL;

CREATE TABLE request_claims (
  subject     text NOT NULL,                              -- who asks
  key         text NOT NULL,                              -- what they call the request
  digest      bytea NOT NULL CHECK (length(digest) = 32), -- what they ask for
  request     text NOT NULL,                              -- the request that does it
  started_at  bigint NOT NULL,
  expires_at  bigint NOT NULL,
  answer      json,                                       -- none while it runs
  PRIMARY KEY (subject, key)
);
CREATE INDEX request_claims_by_end ON request_claims (expires_at);

-- Whoever runs the service claims requests and forgets them.
ALTER FUNCTION grant_application_role(name) RENAME TO grant_application_role_before_keys;
CREATE FUNCTION grant_application_role(application name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM grant_application_role_before_keys(application);
  EXECUTE format('GRANT UPDATE, DELETE ON request_claims TO %I', application);
END $$;
REVOKE EXECUTE ON FUNCTION grant_application_role FROM PUBLIC;

-- Also those roles that may do so now, so that none has to be named again for this.
DO $$
DECLARE
  application  text;
BEGIN
  FOR application IN
    SELECT g.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) g
    WHERE c.oid = to_regclass('leases') AND g.privilege_type = 'DELETE' AND g.grantee NOT IN (0, c.relowner)
  LOOP
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON request_claims TO %s', application);
  END LOOP;
END $$;
