-- Who changed what: one event for each change, sealed with the hash of the one before it.
CREATE TABLE audit_events (
  seq         INTEGER PRIMARY KEY CHECK (seq > 0),
  at          INTEGER NOT NULL,
  actor_kind  TEXT NOT NULL,
  actor       TEXT,
  address     TEXT,
  agent       TEXT,
  request     TEXT,
  tenant_id   BLOB,
  action      TEXT NOT NULL,
  target      TEXT NOT NULL,
  changes     TEXT NOT NULL CHECK (json_valid(changes)),
  hash        BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE INDEX audit_events_of_tenant ON audit_events (tenant_id, seq);
CREATE INDEX audit_events_of_actor ON audit_events (actor, seq);
CREATE INDEX audit_events_of_target ON audit_events (target, seq);

CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_events_keep BEFORE DELETE ON audit_events BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
