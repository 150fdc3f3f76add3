-- What an operator set right, each a batch of its own. Nothing that was booked before is changed by it.
CREATE TABLE ledger_corrections (
  batch       INTEGER PRIMARY KEY,
  account_id  INTEGER NOT NULL,
  sum         TEXT NOT NULL CHECK (sum IN ('granted', 'settled', 'leased', 'overrun')),
  was         INTEGER NOT NULL,
  became      INTEGER NOT NULL,
  reason      TEXT NOT NULL,
  actor       TEXT NOT NULL
) STRICT;

CREATE TRIGGER ledger_corrections_stay BEFORE UPDATE ON ledger_corrections BEGIN SELECT RAISE(ABORT, 'ledger corrections are append-only'); END;
CREATE TRIGGER ledger_corrections_keep BEFORE DELETE ON ledger_corrections BEGIN SELECT RAISE(ABORT, 'ledger corrections are append-only'); END;

-- Lets a running server add up the entries of a few accounts without reading those of all others.
CREATE INDEX ledger_entries_of_account ON ledger_entries (account_id, kind, amount, overrun);
