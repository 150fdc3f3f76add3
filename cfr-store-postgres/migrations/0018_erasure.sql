-- Where somebody acted from is sealed by a salted hash, so that it can be forgotten with the person.
ALTER TABLE audit_events
  ADD COLUMN origin bytea CHECK (length(origin) = 32),
  ADD COLUMN salt bytea CHECK (length(salt) = 16);

DROP TRIGGER audit_events_stay ON audit_events;
CREATE TRIGGER audit_events_keep BEFORE DELETE OR TRUNCATE ON audit_events
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('audit_events');
CREATE TRIGGER audit_events_stay
  BEFORE UPDATE OF seq, at, actor_kind, actor, request, tenant_id, action, target, changes, origin, hash ON audit_events
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('audit_events');
CREATE TRIGGER audit_events_forget BEFORE UPDATE OF address, agent, salt ON audit_events FOR EACH ROW
  WHEN (NEW.address IS NOT NULL OR NEW.agent IS NOT NULL OR NEW.salt IS NOT NULL)
  EXECUTE FUNCTION refuse_change('audit_events');

-- What the role that runs the service may do, in one place again.
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
    'usage_daily, usage_totals, notices, request_files, request_batches, request_claims, credentials, sessions, mails, '
    'oidc_clients, client_sessions, data_keys, provider_accounts TO %I', application);
  EXECUTE format('GRANT UPDATE (entry) ON outside_names TO %I', application);
  EXECUTE format('GRANT UPDATE (address, agent, salt) ON audit_events TO %I', application);
  EXECUTE format('GRANT DELETE ON nodes, leases, holds, notices, request_files, request_claims, credentials, identities, '
    'sessions, one_time_tokens, mails, client_sessions, data_keys, provider_accounts, outside_holds, outside_names '
    'TO %I', application);
  EXECUTE format('GRANT EXECUTE ON FUNCTION make_months TO %I', application);
END $$;
DROP FUNCTION grant_application_role_before_drop_in(name);
DROP FUNCTION grant_application_role_without_secrets(name);
DROP FUNCTION grant_application_role_before_oidc(name);
DROP FUNCTION grant_application_role_before_keys(name);

-- Whoever runs the service may forget people.
DO $$
DECLARE
  application  text;
BEGIN
  FOR application IN
    SELECT g.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) g
    WHERE c.oid = to_regclass('leases') AND g.privilege_type = 'DELETE' AND g.grantee NOT IN (0, c.relowner)
  LOOP
    EXECUTE format('GRANT UPDATE (address, agent, salt) ON audit_events TO %s', application);
    EXECUTE format('GRANT DELETE ON credentials, outside_names TO %s', application);
  END LOOP;
END $$;
