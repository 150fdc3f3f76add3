-- Keys that seal secrets, each wrapped by a master key that is not here.
CREATE TABLE data_keys (
  id         uuid PRIMARY KEY,
  tenant_id  uuid NOT NULL,                              -- nil for the platform
  master     text NOT NULL,                              -- the id of the master key
  wrapped    text NOT NULL,
  current    boolean NOT NULL,
  made_at    bigint NOT NULL
);

CREATE UNIQUE INDEX data_keys_current ON data_keys (tenant_id) WHERE current;

-- Accounts at providers. What is secret of one is sealed by a data key.
CREATE TABLE provider_accounts (
  id         uuid PRIMARY KEY,
  tenant_id  uuid NOT NULL,                              -- nil for the platform
  name       text NOT NULL,
  version    bigint NOT NULL,
  entry      json NOT NULL,
  secret     text NOT NULL                               -- empty where there is none
);

CREATE UNIQUE INDEX provider_accounts_name ON provider_accounts (tenant_id, name);

-- Whoever runs the service wraps keys anew and forgets them, and changes and removes accounts, beside all that it may do
-- already.
ALTER FUNCTION grant_application_role(name) RENAME TO grant_application_role_without_secrets;
CREATE FUNCTION grant_application_role(application name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM grant_application_role_without_secrets(application);
  EXECUTE format('GRANT UPDATE, DELETE ON data_keys, provider_accounts TO %I', application);
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
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON data_keys, provider_accounts TO %s', application);
  END LOOP;
END $$;
