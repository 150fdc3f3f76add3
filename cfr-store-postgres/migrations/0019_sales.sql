-- Who is on which terms, amounts that wait for a second person, and who asked to be told more.

CREATE TABLE subscriptions (
  id         uuid PRIMARY KEY,
  owner_id   uuid NOT NULL,                                -- the tenant or the user
  tenant_id  uuid NOT NULL REFERENCES tenants,
  status     text NOT NULL,
  started    boolean NOT NULL,                             -- whether its terms ever held
  due_at     bigint,                                       -- when time alone changes its state
  entry      json NOT NULL
);
CREATE UNIQUE INDEX subscriptions_live ON subscriptions (owner_id) WHERE status <> 'canceled';
CREATE INDEX subscriptions_of_owner ON subscriptions (owner_id, id);
CREATE INDEX subscriptions_of_tenant ON subscriptions (tenant_id, id);
CREATE INDEX subscriptions_by_status ON subscriptions (status, id);
CREATE INDEX subscriptions_due ON subscriptions (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE proposals (
  id               uuid PRIMARY KEY,
  tenant_id        uuid REFERENCES tenants,                -- null for budgets of products and of the platform
  status           text NOT NULL,
  idempotency_key  text NOT NULL UNIQUE,
  grant_id         uuid UNIQUE REFERENCES grants,          -- what was booked
  entry            json NOT NULL
);
CREATE INDEX proposals_of_tenant ON proposals (tenant_id, id);
CREATE INDEX proposals_by_status ON proposals (status, id);

CREATE TABLE leads (
  id            uuid PRIMARY KEY,
  status        text NOT NULL,
  email_normal  text NOT NULL,
  updated_at    bigint NOT NULL,
  entry         json NOT NULL
);
CREATE INDEX leads_by_status ON leads (status, id);
CREATE INDEX leads_by_address ON leads (email_normal, id);
CREATE INDEX leads_by_age ON leads (updated_at);

-- Whoever runs the service changes them, and forgets leads.
ALTER FUNCTION grant_application_role(name) RENAME TO grant_application_role_before_sales;
CREATE FUNCTION grant_application_role(application name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM grant_application_role_before_sales(application);
  EXECUTE format('GRANT UPDATE ON subscriptions, proposals, leads TO %I', application);
  EXECUTE format('GRANT DELETE ON leads TO %I', application);
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
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON subscriptions, proposals, leads TO %s', application);
    EXECUTE format('GRANT DELETE ON leads TO %s', application);
  END LOOP;
END $$;
