-- What other programs were told: amounts held for calls that they make, and their names for what is here.

CREATE TABLE outside_holds (
  id       uuid PRIMARY KEY,
  ends_at  bigint NOT NULL,
  entry    json NOT NULL
);

CREATE INDEX outside_holds_ended ON outside_holds (ends_at);

CREATE TABLE outside_names (
  kind   text COLLATE "C" NOT NULL CHECK (kind IN ('tenant', 'product', 'user', 'key')),
  name   text COLLATE "C" NOT NULL,
  id     uuid NOT NULL,
  entry  json NOT NULL,
  PRIMARY KEY (kind, name)
);

CREATE INDEX outside_names_of ON outside_names (kind, id, name);

-- Whoever runs the service ends holds, and keeps other notes with a name; what a name stands for does not change.
ALTER FUNCTION grant_application_role(name) RENAME TO grant_application_role_before_drop_in;
CREATE FUNCTION grant_application_role(application name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM grant_application_role_before_drop_in(application);
  EXECUTE format('GRANT UPDATE (entry) ON outside_names TO %I', application);
  EXECUTE format('GRANT DELETE ON outside_holds TO %I', application);
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
    EXECUTE format('GRANT SELECT, INSERT ON outside_holds, outside_names TO %s', application);
    EXECUTE format('GRANT UPDATE (entry) ON outside_names TO %s', application);
    EXECUTE format('GRANT DELETE ON outside_holds TO %s', application);
  END LOOP;
END $$;
