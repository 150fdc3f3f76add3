-- How often something was tried of late, counted by every server together. A subject is the hash of what is tried and from where.
CREATE TABLE attempts (
  subject  bytea PRIMARY KEY CHECK (length(subject) = 32),
  count    bigint NOT NULL CHECK (count >= 0),
  ends_at  bigint NOT NULL
);

-- Whoever runs the service counts on and forgets, and seals the keys that sign anew, beside all that it may do already.
ALTER FUNCTION grant_application_role(name) RENAME TO grant_application_role_before_attempts;
CREATE FUNCTION grant_application_role(application name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM grant_application_role_before_attempts(application);
  EXECUTE format('GRANT UPDATE, DELETE ON attempts TO %I', application);
  EXECUTE format('GRANT UPDATE (entry) ON signing_keys TO %I', application);
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
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON attempts TO %s', application);
    EXECUTE format('GRANT UPDATE (entry) ON signing_keys TO %s', application);
  END LOOP;
END $$;
