-- Whose each passkey is, so that no two people have the same one. All else about a passkey is in the credentials of its owner,
-- which keep this table by themselves.
CREATE TABLE passkeys (
  id       text PRIMARY KEY,                             -- the authenticator's, base64url
  user_id  uuid NOT NULL REFERENCES users
);
CREATE INDEX passkeys_of_user ON passkeys (user_id);

CREATE FUNCTION keep_passkeys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM passkeys WHERE user_id = NEW.user_id;
  INSERT INTO passkeys (id, user_id)
    SELECT passkey->>'id', NEW.user_id FROM json_array_elements(NEW.entry->'passkeys') passkey;
  RETURN NULL;
END $$;
CREATE TRIGGER passkeys_of_new_credentials AFTER INSERT ON credentials
  FOR EACH ROW WHEN (json_array_length(NEW.entry->'passkeys') > 0) EXECUTE FUNCTION keep_passkeys();
CREATE TRIGGER passkeys_of_credentials AFTER UPDATE OF entry ON credentials FOR EACH ROW
  WHEN ((NEW.entry->'passkeys')::text IS DISTINCT FROM (OLD.entry->'passkeys')::text) EXECUTE FUNCTION keep_passkeys();

-- Whoever runs the service removes passkeys, beside all that it may do already.
ALTER FUNCTION grant_application_role(name) RENAME TO grant_application_role_before_passkeys;
CREATE FUNCTION grant_application_role(application name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM grant_application_role_before_passkeys(application);
  EXECUTE format('GRANT DELETE ON passkeys TO %I', application);
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
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON passkeys TO %s', application);
  END LOOP;
END $$;
