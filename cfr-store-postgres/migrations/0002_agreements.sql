-- What the processes that share this database decided once, such as the fingerprint of the secret that keys are hashed with.

CREATE TABLE agreements (
  name   text PRIMARY KEY,
  value  bytea NOT NULL
);
