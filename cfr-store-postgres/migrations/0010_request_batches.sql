-- Files and batches that callers have at providers. What is in a file stays there; only ids are kept here.

CREATE TABLE request_files (
  id         uuid PRIMARY KEY,
  tenant_id  uuid NOT NULL,
  user_id    uuid,                                       -- none for service keys
  purpose    text NOT NULL,
  entry      json NOT NULL
);

CREATE INDEX request_files_of_owner ON request_files (tenant_id, user_id, id);

CREATE TABLE request_batches (
  id         uuid PRIMARY KEY,
  tenant_id  uuid NOT NULL,
  user_id    uuid,
  state      text NOT NULL CHECK (state IN ('begun', 'reserved', 'running', 'settled', 'void')),
  due_at     bigint NOT NULL,                            -- the newest word on it; `entry` may have an older one
  entry      json NOT NULL
);

CREATE INDEX request_batches_of_owner ON request_batches (tenant_id, user_id, id);
CREATE INDEX request_batches_due ON request_batches (due_at) WHERE state NOT IN ('settled', 'void');

-- Whoever runs the service brings batches further and forgets files.
CREATE OR REPLACE FUNCTION grant_application_role(application name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  here  name := current_schema();
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', here, application);
  EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', here, application);
  EXECUTE format('GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA %I TO %I', here, application);
  EXECUTE format('REVOKE INSERT ON cfr_migrations FROM %I', application);
  EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO %I', here, application);
  EXECUTE format('GRANT UPDATE ON tenants, products, users, api_keys, budgets, accounts, nodes, leases, holds, '
    'usage_daily, notices, request_files, request_batches TO %I', application);
  EXECUTE format('GRANT DELETE ON nodes, leases, holds, notices, request_files TO %I', application);
  EXECUTE format('GRANT EXECUTE ON FUNCTION make_months TO %I', application);
END $$;

-- Also those roles that may do so now, so that none has to be named again for this.
DO $$
DECLARE
  application  text;
BEGIN
  FOR application IN
    SELECT g.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) g
    WHERE c.oid = to_regclass('leases') AND g.privilege_type = 'DELETE' AND g.grantee NOT IN (0, c.relowner)
  LOOP
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON request_files, request_batches TO %s', application);
    EXECUTE format('GRANT DELETE ON request_files TO %s', application);
  END LOOP;
END $$;
