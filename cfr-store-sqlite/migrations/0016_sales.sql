-- Who is on which terms, amounts that wait for a second person, and who asked to be told more.

CREATE TABLE subscriptions (
  id         BLOB PRIMARY KEY CHECK (length(id) = 16),
  owner_id   BLOB NOT NULL CHECK (length(owner_id) = 16),  -- the tenant or the user
  tenant_id  BLOB NOT NULL REFERENCES tenants (id),
  status     TEXT NOT NULL,
  started    INTEGER NOT NULL CHECK (started IN (0, 1)),   -- whether its terms ever held
  due_at     INTEGER,                                      -- when time alone changes its state
  entry      TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX subscriptions_live ON subscriptions (owner_id) WHERE status <> 'canceled';
CREATE INDEX subscriptions_of_owner ON subscriptions (owner_id, id);
CREATE INDEX subscriptions_of_tenant ON subscriptions (tenant_id, id);
CREATE INDEX subscriptions_by_status ON subscriptions (status, id);
CREATE INDEX subscriptions_due ON subscriptions (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE proposals (
  id               BLOB PRIMARY KEY CHECK (length(id) = 16),
  tenant_id        BLOB REFERENCES tenants (id),           -- null for budgets of products and of the platform
  status           TEXT NOT NULL,
  idempotency_key  TEXT NOT NULL UNIQUE,
  grant_id         BLOB UNIQUE REFERENCES grants (id),     -- what was booked
  entry            TEXT NOT NULL
) STRICT;
CREATE INDEX proposals_of_tenant ON proposals (tenant_id, id);
CREATE INDEX proposals_by_status ON proposals (status, id);

CREATE TABLE leads (
  id            BLOB PRIMARY KEY CHECK (length(id) = 16),
  status        TEXT NOT NULL,
  email_normal  TEXT NOT NULL,
  updated_at    INTEGER NOT NULL,
  entry         TEXT NOT NULL
) STRICT;
CREATE INDEX leads_by_status ON leads (status, id);
CREATE INDEX leads_by_address ON leads (email_normal, id);
CREATE INDEX leads_by_age ON leads (updated_at);
