-- Programs that people sign in to with their account here, the keys that sign for them, and what they hold of whom. No
-- code and no token is kept.

CREATE TABLE oidc_clients (
  id         uuid PRIMARY KEY,
  tenant_id  uuid NOT NULL REFERENCES tenants,
  secret     bytea NOT NULL CHECK (length(secret) = 32),  -- SHA-256
  version    bigint NOT NULL CHECK (version > 0),
  entry      json NOT NULL
);
CREATE INDEX oidc_clients_of_tenant ON oidc_clients (tenant_id, id);

CREATE TABLE signing_keys (
  seq    bigint PRIMARY KEY CHECK (seq > 0),
  entry  json NOT NULL
);

CREATE TABLE client_sessions (
  id          uuid PRIMARY KEY,
  client_id   uuid NOT NULL REFERENCES oidc_clients,
  user_id     uuid NOT NULL REFERENCES users,
  session_id  uuid NOT NULL,
  ended       boolean NOT NULL,
  over_at     bigint NOT NULL,                           -- when it ended, or will at the latest
  due_at      bigint,                                    -- the newest word on it; `entry` may have an older one
  tries       bigint NOT NULL,                           -- the same
  version     bigint NOT NULL CHECK (version > 0),
  entry       json NOT NULL
);
CREATE INDEX client_sessions_of_client ON client_sessions (client_id) WHERE NOT ended;
CREATE INDEX client_sessions_of_user ON client_sessions (user_id) WHERE NOT ended;
CREATE INDEX client_sessions_of_session ON client_sessions (session_id) WHERE NOT ended;
CREATE INDEX client_sessions_due ON client_sessions (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX client_sessions_by_end ON client_sessions (over_at) WHERE due_at IS NULL;

-- Whoever runs the service changes clients, and brings sessions to their end and forgets them. Keys stay as they are.
ALTER FUNCTION grant_application_role(name) RENAME TO grant_application_role_before_oidc;
CREATE FUNCTION grant_application_role(application name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM grant_application_role_before_oidc(application);
  EXECUTE format('GRANT UPDATE ON oidc_clients, client_sessions TO %I', application);
  EXECUTE format('GRANT DELETE ON client_sessions TO %I', application);
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
    EXECUTE format('GRANT SELECT, INSERT ON oidc_clients, signing_keys, client_sessions TO %s', application);
    EXECUTE format('GRANT UPDATE ON oidc_clients, client_sessions TO %s', application);
    EXECUTE format('GRANT DELETE ON client_sessions TO %s', application);
  END LOOP;
END $$;
