-- Whose each passkey is, so that no two people have the same one. All else about a passkey is in the credentials of its owner,
-- which keep this table by themselves.
CREATE TABLE passkeys (
  id       TEXT PRIMARY KEY NOT NULL,                    -- the authenticator's, base64url
  user_id  BLOB NOT NULL REFERENCES users
) STRICT, WITHOUT ROWID;
CREATE INDEX passkeys_of_user ON passkeys (user_id);

CREATE TRIGGER passkeys_of_new_credentials AFTER INSERT ON credentials BEGIN
  INSERT INTO passkeys (id, user_id) SELECT value->>'id', NEW.user_id FROM json_each(NEW.entry, '$.passkeys');
END;

CREATE TRIGGER passkeys_of_credentials AFTER UPDATE OF entry ON credentials
WHEN NEW.entry->'passkeys' IS NOT OLD.entry->'passkeys' BEGIN
  DELETE FROM passkeys WHERE user_id = OLD.user_id;
  INSERT INTO passkeys (id, user_id) SELECT value->>'id', NEW.user_id FROM json_each(NEW.entry, '$.passkeys');
END;
