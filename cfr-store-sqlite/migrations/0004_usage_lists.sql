-- An index that every settlement changes costs one page of the log for each tenant and each user in a batch. Lists are
-- filled for many records at a time instead; `usage_listed` says up to which one.

DROP INDEX usage_by_time;
DROP INDEX usage_of_tenant;
DROP INDEX usage_of_user;

CREATE TABLE usage_lists (
  list  BLOB NOT NULL,       -- a tenant, a user, or empty: everybody
  at    INTEGER NOT NULL,
  id    BLOB NOT NULL,
  row   INTEGER NOT NULL,
  PRIMARY KEY (list, at, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_listed (
  row  INTEGER NOT NULL
) STRICT;
INSERT INTO usage_listed (row) VALUES (0);
