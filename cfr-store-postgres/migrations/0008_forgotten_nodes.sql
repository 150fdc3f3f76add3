-- A node that lives once, such as a command, leaves no row behind: whoever runs the service may remove it.
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
    'usage_daily, notices TO %I', application);
  EXECUTE format('GRANT DELETE ON nodes, leases, holds, notices TO %I', application);
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
    EXECUTE format('GRANT DELETE ON nodes TO %s', application);
  END LOOP;
END $$;
