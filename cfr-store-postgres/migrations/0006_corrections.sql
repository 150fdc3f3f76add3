-- What an operator set right, each a batch of its own. Nothing that was booked before is changed by it.
CREATE TABLE ledger_corrections (
  chain       bigint NOT NULL,
  batch       bigint NOT NULL,
  account_id  bigint NOT NULL,
  sum         text NOT NULL CHECK (sum IN ('granted', 'settled', 'leased', 'overrun')),
  was         bigint NOT NULL,
  became      bigint NOT NULL,
  reason      text NOT NULL,
  actor       text NOT NULL,
  PRIMARY KEY (chain, batch)
);

CREATE TRIGGER ledger_corrections_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_corrections FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('ledger_corrections');

-- Lets a running server add up the entries of a few accounts without reading those of all others.
CREATE INDEX ledger_entries_of_account ON ledger_entries (account_id, kind) INCLUDE (amount, overrun);
