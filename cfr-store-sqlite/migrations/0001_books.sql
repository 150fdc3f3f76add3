-- The books in one file. Ids are 16 bytes (UUIDv7, big endian: byte order is creation order), times are microseconds
-- since 1970 in UTC, money is nano-units of the row's currency. Words are those of the management API.

PRAGMA application_id = 1667658289; -- "cfr1": how we recognise our own file

-- --- Who ------------------------------------------------------------------------------------------------------------

CREATE TABLE tenants (
  id          BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  slug        TEXT NOT NULL UNIQUE,
  name        TEXT NOT NULL,
  domain      TEXT UNIQUE,
  kind        TEXT NOT NULL,
  status      TEXT NOT NULL,
  users_max   INTEGER,
  zone        TEXT NOT NULL,
  currency    TEXT NOT NULL CHECK (length(currency) = 3),
  version     INTEGER NOT NULL DEFAULT 1,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE products (
  id      BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  code    TEXT NOT NULL UNIQUE,
  active  INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE product_versions (
  id          BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  product_id  BLOB NOT NULL REFERENCES products,
  version     INTEGER NOT NULL CHECK (version > 0),
  terms       TEXT NOT NULL CHECK (json_valid(terms)),
  created_at  INTEGER NOT NULL,
  UNIQUE (product_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
  id                  BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  tenant_id           BLOB NOT NULL REFERENCES tenants,
  email               TEXT NOT NULL,
  email_normal        TEXT NOT NULL UNIQUE,
  name                TEXT NOT NULL,
  role                TEXT NOT NULL,
  status              TEXT NOT NULL,
  product_version_id  BLOB REFERENCES product_versions,
  version             INTEGER NOT NULL DEFAULT 1,
  created_at          INTEGER NOT NULL,
  updated_at          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX users_of_tenant ON users (tenant_id, id);
CREATE INDEX users_of_product_version ON users (product_version_id);

CREATE TABLE api_keys (
  id          BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  tenant_id   BLOB REFERENCES tenants,
  user_id     BLOB REFERENCES users,
  name        TEXT NOT NULL,
  kind        TEXT NOT NULL,
  mac         BLOB NOT NULL UNIQUE CHECK (length(mac) = 32),
  prefix      TEXT NOT NULL,
  last4       TEXT NOT NULL,
  models      TEXT NOT NULL CHECK (json_valid(models)),
  status      TEXT NOT NULL,
  expires_at  INTEGER,
  created_at  INTEGER NOT NULL,
  revoked_at  INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_of_tenant ON api_keys (tenant_id, id);
CREATE INDEX keys_of_user ON api_keys (user_id, id);

-- --- Limits ---------------------------------------------------------------------------------------------------------

CREATE TABLE budgets (
  id           BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  scope        TEXT NOT NULL,
  scope_id     BLOB NOT NULL CHECK (length(scope_id) = 16),
  tenant_id    BLOB REFERENCES tenants,
  currency     TEXT NOT NULL CHECK (length(currency) = 3),
  included     INTEGER NOT NULL CHECK (included >= 0),
  policy       TEXT NOT NULL,
  period_kind  TEXT NOT NULL,
  period       TEXT NOT NULL CHECK (json_valid(period)),
  zone         TEXT NOT NULL,
  active       INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
  version      INTEGER NOT NULL DEFAULT 1,
  created_at   INTEGER NOT NULL,
  UNIQUE (scope, scope_id, currency, period_kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX budgets_of_tenant ON budgets (tenant_id, id);

-- One period of one budget. The only rows of the books that change, together with the leases on them.
CREATE TABLE accounts (
  id          INTEGER PRIMARY KEY,
  budget_id   BLOB NOT NULL REFERENCES budgets,
  seq         INTEGER NOT NULL CHECK (seq > 0),
  starts_at   INTEGER NOT NULL,
  ends_at     INTEGER CHECK (ends_at > starts_at),
  granted     INTEGER NOT NULL DEFAULT 0,
  settled     INTEGER NOT NULL DEFAULT 0 CHECK (settled >= 0),
  leased      INTEGER NOT NULL DEFAULT 0 CHECK (leased >= 0),
  overrun     INTEGER NOT NULL DEFAULT 0 CHECK (overrun >= 0),
  -- How far use may be beyond the limit: of soft and unlimited budgets, and of hard ones that were lowered below use.
  overcommit  INTEGER NOT NULL DEFAULT 0 CHECK (overcommit >= 0),
  CHECK (settled + leased <= granted + overcommit),
  UNIQUE (budget_id, seq)
) STRICT;

CREATE TABLE grants (
  id               BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  budget_id        BLOB NOT NULL REFERENCES budgets,
  account_id       INTEGER NOT NULL REFERENCES accounts,
  kind             TEXT NOT NULL,
  amount           INTEGER NOT NULL,
  idempotency_key  TEXT NOT NULL UNIQUE,
  reason           TEXT NOT NULL,
  actor            TEXT NOT NULL,
  at               INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_of_budget ON grants (budget_id, id);
CREATE INDEX grants_of_account ON grants (account_id);

-- --- Spending -------------------------------------------------------------------------------------------------------

CREATE TABLE nodes (
  name           TEXT PRIMARY KEY NOT NULL,
  epoch          INTEGER NOT NULL CHECK (epoch > 0),
  registered_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One process owns the file, so a lease does not expire: it ends when its node registers again.
CREATE TABLE leases (
  account_id  INTEGER NOT NULL REFERENCES accounts,
  node        TEXT NOT NULL,
  epoch       INTEGER NOT NULL,
  granted     INTEGER NOT NULL,
  consumed    INTEGER NOT NULL DEFAULT 0 CHECK (consumed >= 0 AND consumed <= granted),
  PRIMARY KEY (account_id, node, epoch)
) STRICT, WITHOUT ROWID;

-- The journal of holds: who to charge after a crash. A settled hold is deleted, its usage record stands for it.
CREATE TABLE holds (
  id                  BLOB PRIMARY KEY NOT NULL,
  node                TEXT NOT NULL,
  epoch               INTEGER NOT NULL,
  accounts            BLOB NOT NULL,              -- eight bytes each, big endian
  amount              INTEGER NOT NULL CHECK (amount >= 0),
  state               INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)), -- open, suspended, released
  tenant_id           BLOB NOT NULL,
  user_id             BLOB,
  key_id              BLOB,
  product_version_id  BLOB,
  model               TEXT NOT NULL,
  at                  INTEGER NOT NULL,
  delivered           INTEGER,                    -- what the last checkpoint would charge
  evidence            TEXT                        -- and its usage record
) STRICT, WITHOUT ROWID;
CREATE INDEX holds_suspended ON holds (state) WHERE state = 1;

CREATE TABLE usage_records (
  row           INTEGER PRIMARY KEY,              -- in the order of booking
  id            BLOB NOT NULL UNIQUE,             -- one request, one hold, one charge
  at            INTEGER NOT NULL,
  tenant_id     BLOB NOT NULL,
  user_id       BLOB,
  key_id        BLOB,
  model_served  TEXT NOT NULL,
  cost          INTEGER NOT NULL,
  charged       INTEGER NOT NULL CHECK (charged >= 0),
  overrun       INTEGER NOT NULL CHECK (overrun >= 0),
  accounts      BLOB NOT NULL,                    -- what was charged, eight bytes each, big endian
  details       TEXT NOT NULL                     -- what no query asks for, as JSON: usage, rates, timing, attempts
) STRICT;
CREATE INDEX usage_by_time ON usage_records (at, id);
CREATE INDEX usage_of_tenant ON usage_records (tenant_id, at, id);
CREATE INDEX usage_of_user ON usage_records (user_id, at, id);

-- One row per booking transaction. `hash` covers the row, its entries, its usage records and the hash before it.
CREATE TABLE ledger_batches (
  id         INTEGER PRIMARY KEY,
  node       TEXT NOT NULL,
  epoch      INTEGER NOT NULL,
  at         INTEGER NOT NULL,
  first_row  INTEGER NOT NULL,
  rows       INTEGER NOT NULL,
  hash       BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TABLE ledger_entries (
  batch       INTEGER NOT NULL,
  account_id  INTEGER NOT NULL,
  kind        TEXT NOT NULL CHECK (kind IN ('grant', 'settle')),
  amount      INTEGER NOT NULL,
  overrun     INTEGER NOT NULL,
  PRIMARY KEY (batch, account_id, kind)
) STRICT, WITHOUT ROWID;

-- Sums per day, kept by the same transaction as the records. An empty blob stands for nobody.
CREATE TABLE usage_daily (
  day           INTEGER NOT NULL,                   -- days since 1970, UTC
  tenant_id     BLOB NOT NULL,
  user_id       BLOB NOT NULL,
  key_id        BLOB NOT NULL,
  model_served  TEXT NOT NULL,
  requests      INTEGER NOT NULL,
  tokens_in     INTEGER NOT NULL,
  tokens_out    INTEGER NOT NULL,
  cost          INTEGER NOT NULL,
  charged       INTEGER NOT NULL,
  PRIMARY KEY (day, tenant_id, user_id, key_id, model_served)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_daily_of_tenant ON usage_daily (tenant_id, day);

CREATE TABLE price_versions (
  seq       INTEGER PRIMARY KEY,
  hash      BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  source    TEXT NOT NULL,
  body      BLOB NOT NULL,
  saved_at  INTEGER NOT NULL
) STRICT;

-- --- What nobody changes --------------------------------------------------------------------------------------------

CREATE TRIGGER usage_records_stay BEFORE UPDATE ON usage_records BEGIN SELECT RAISE(ABORT, 'usage records are append-only'); END;
CREATE TRIGGER usage_records_keep BEFORE DELETE ON usage_records BEGIN SELECT RAISE(ABORT, 'usage records are append-only'); END;
CREATE TRIGGER ledger_entries_stay BEFORE UPDATE ON ledger_entries BEGIN SELECT RAISE(ABORT, 'ledger entries are append-only'); END;
CREATE TRIGGER ledger_entries_keep BEFORE DELETE ON ledger_entries BEGIN SELECT RAISE(ABORT, 'ledger entries are append-only'); END;
CREATE TRIGGER ledger_batches_stay BEFORE UPDATE ON ledger_batches BEGIN SELECT RAISE(ABORT, 'ledger batches are append-only'); END;
CREATE TRIGGER ledger_batches_keep BEFORE DELETE ON ledger_batches BEGIN SELECT RAISE(ABORT, 'ledger batches are append-only'); END;
CREATE TRIGGER grants_stay BEFORE UPDATE ON grants BEGIN SELECT RAISE(ABORT, 'grants are append-only'); END;
CREATE TRIGGER grants_keep BEFORE DELETE ON grants BEGIN SELECT RAISE(ABORT, 'grants are append-only'); END;
CREATE TRIGGER product_versions_stay BEFORE UPDATE ON product_versions BEGIN SELECT RAISE(ABORT, 'product versions are immutable'); END;
CREATE TRIGGER product_versions_keep BEFORE DELETE ON product_versions BEGIN SELECT RAISE(ABORT, 'product versions are immutable'); END;
