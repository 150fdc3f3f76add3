-- Who changed what: one event for each change, sealed with the hash of the one before it.
CREATE TABLE audit_events (
  seq         bigint PRIMARY KEY CHECK (seq > 0),
  at          bigint NOT NULL,
  actor_kind  text NOT NULL,
  actor       text,
  address     text,
  agent       text,
  request     text,
  tenant_id   uuid,
  action      text NOT NULL,
  target      text NOT NULL,
  changes     text NOT NULL,
  hash        bytea NOT NULL CHECK (length(hash) = 32)
);
CREATE INDEX audit_events_of_tenant ON audit_events (tenant_id, seq);
CREATE INDEX audit_events_of_actor ON audit_events (actor, seq);
CREATE INDEX audit_events_of_target ON audit_events (target, seq);

CREATE TRIGGER audit_events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('audit_events');

-- Roles that may write today write the log, too.
DO $$
DECLARE
  application  text;
BEGIN
  FOR application IN
    SELECT g.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) g
    WHERE c.oid = to_regclass('leases') AND g.privilege_type = 'DELETE' AND g.grantee NOT IN (0, c.relowner)
  LOOP
    EXECUTE format('GRANT SELECT, INSERT ON audit_events TO %s', application);
  END LOOP;
END $$;
