-- Where somebody acted from is sealed by a salted hash, so that it can be forgotten with the person.
ALTER TABLE audit_events ADD COLUMN origin BLOB CHECK (length(origin) = 32);
ALTER TABLE audit_events ADD COLUMN salt BLOB CHECK (length(salt) = 16);

DROP TRIGGER audit_events_stay;
CREATE TRIGGER audit_events_stay BEFORE UPDATE OF seq, at, actor_kind, actor, request, tenant_id, action, target, changes, origin, hash
  ON audit_events BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_events_forget BEFORE UPDATE OF address, agent, salt ON audit_events
  WHEN NEW.address IS NOT NULL OR NEW.agent IS NOT NULL OR NEW.salt IS NOT NULL
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
