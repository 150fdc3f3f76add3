-- How people join and sign in. Nothing here is a secret that works by itself: sessions and tokens are kept as SHA-256 of
-- 256 random bits, passwords as PHC strings, what must be read again is sealed by the server.

ALTER TABLE tenants ADD COLUMN settings jsonb NOT NULL DEFAULT '{}';
ALTER TABLE users ADD COLUMN email_verified_at bigint;
ALTER TABLE users ADD COLUMN locale text;
CREATE INDEX users_in_state ON users (status, id);

CREATE TABLE credentials (
  user_id  uuid PRIMARY KEY REFERENCES users,
  epoch    bigint NOT NULL,
  version  bigint NOT NULL CHECK (version > 0),
  entry    json NOT NULL
);

CREATE TABLE identities (
  issuer   text NOT NULL,
  subject  text NOT NULL,
  user_id  uuid NOT NULL REFERENCES users,
  PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_of_user ON identities (user_id);

CREATE TABLE sessions (
  id          uuid PRIMARY KEY,
  hash        bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
  user_id     uuid NOT NULL REFERENCES users,
  epoch       bigint NOT NULL,
  expires_at  bigint NOT NULL,
  entry       json NOT NULL
);
CREATE INDEX sessions_of_user ON sessions (user_id, id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE one_time_tokens (
  id            uuid PRIMARY KEY,
  hash          bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
  kind          text NOT NULL,
  tenant_id     uuid REFERENCES tenants,
  user_id       uuid REFERENCES users,
  email_normal  text,
  epoch         bigint NOT NULL,
  expires_at    bigint NOT NULL,
  entry         json NOT NULL
);
CREATE INDEX one_time_tokens_of_tenant ON one_time_tokens (kind, tenant_id, id);
CREATE INDEX one_time_tokens_of_user ON one_time_tokens (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX one_time_tokens_by_end ON one_time_tokens (expires_at);

CREATE TABLE mails (
  id      uuid PRIMARY KEY,
  due_at  bigint NOT NULL,
  tries   bigint NOT NULL,
  entry   json NOT NULL
);
CREATE INDEX mails_due ON mails (due_at);

-- Whoever runs the service lets people sign in and out. How somebody proves who they are is written again and again, but
-- never forgotten here.
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
    'usage_daily, notices, request_files, request_batches, credentials, sessions, mails TO %I', application);
  EXECUTE format('GRANT DELETE ON nodes, leases, holds, notices, request_files, identities, sessions, '
    'one_time_tokens, mails TO %I', application);
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
    EXECUTE format('GRANT SELECT, INSERT ON credentials, identities, sessions, one_time_tokens, mails TO %s', application);
    EXECUTE format('GRANT UPDATE ON credentials, sessions, mails TO %s', application);
    EXECUTE format('GRANT DELETE ON identities, sessions, one_time_tokens, mails TO %s', application);
  END LOOP;
END $$;
