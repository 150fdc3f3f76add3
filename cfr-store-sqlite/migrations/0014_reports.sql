-- What reports add up beside tokens and money. What was booked before has no times: `timed` counts what has.
ALTER TABLE usage_daily ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN timed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN latency_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN first_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN first_byte_ms INTEGER NOT NULL DEFAULT 0;

-- The same sums without users and keys: what reports about whole tenants read.
CREATE TABLE usage_totals (
  day            INTEGER NOT NULL,                  -- days since 1970, UTC
  tenant_id      BLOB NOT NULL,
  model_served   TEXT NOT NULL,
  requests       INTEGER NOT NULL,
  failed         INTEGER NOT NULL,
  timed          INTEGER NOT NULL,
  latency_ms     INTEGER NOT NULL,
  first_bytes    INTEGER NOT NULL,
  first_byte_ms  INTEGER NOT NULL,
  tokens_in      INTEGER NOT NULL,
  tokens_out     INTEGER NOT NULL,
  cost           INTEGER NOT NULL,
  charged        INTEGER NOT NULL,
  PRIMARY KEY (day, tenant_id, model_served)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_totals_of_tenant ON usage_totals (tenant_id, day);

INSERT INTO usage_totals SELECT day, tenant_id, model_served, sum(requests), 0, 0, 0, 0, 0,
    iif(total(tokens_in) < 9e18, sum(min(tokens_in, 9000000000000)), 9223372036854775807),
    iif(total(tokens_out) < 9e18, sum(min(tokens_out, 9000000000000)), 9223372036854775807),
    iif(total(cost) < 9e18, sum(min(cost, 9000000000000)), 9223372036854775807),
    iif(total(charged) < 9e18, sum(min(charged, 9000000000000)), 9223372036854775807)
  FROM usage_daily GROUP BY day, tenant_id, model_served;
