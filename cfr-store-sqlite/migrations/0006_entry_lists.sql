-- An index by account costs one page of the log for each account in a batch, whatever the size of the batch. As with usage
-- records, a list is filled for many entries at a time instead; `listed` says up to which record and which batch.

DROP INDEX ledger_entries_of_account;

CREATE TABLE entry_lists (
  account_id  INTEGER NOT NULL,
  batch       INTEGER NOT NULL,
  kind        TEXT NOT NULL,
  PRIMARY KEY (account_id, batch, kind)
) STRICT, WITHOUT ROWID;

ALTER TABLE usage_listed RENAME TO listed;
ALTER TABLE listed ADD COLUMN batch INTEGER NOT NULL DEFAULT 0;

INSERT INTO entry_lists (account_id, batch, kind) SELECT account_id, batch, kind FROM ledger_entries ORDER BY 1, 2, 3;
UPDATE listed SET batch = coalesce((SELECT max(id) FROM ledger_batches), 0);
