-- What reports add up beside tokens and money. What was booked before has no times: `timed` counts what has.
ALTER TABLE usage_daily
  ADD COLUMN failed bigint NOT NULL DEFAULT 0,
  ADD COLUMN timed bigint NOT NULL DEFAULT 0,
  ADD COLUMN latency_ms bigint NOT NULL DEFAULT 0,
  ADD COLUMN first_bytes bigint NOT NULL DEFAULT 0,
  ADD COLUMN first_byte_ms bigint NOT NULL DEFAULT 0;

-- The same sums without users and keys: what reports about whole tenants read.
CREATE TABLE usage_totals (
  day            bigint NOT NULL,                    -- days since 1970, UTC
  tenant_id      uuid NOT NULL,
  model_served   text NOT NULL,
  requests       bigint NOT NULL,
  failed         bigint NOT NULL,
  timed          bigint NOT NULL,
  latency_ms     bigint NOT NULL,
  first_bytes    bigint NOT NULL,
  first_byte_ms  bigint NOT NULL,
  tokens_in      bigint NOT NULL,
  tokens_out     bigint NOT NULL,
  cost           bigint NOT NULL,
  charged        bigint NOT NULL,
  PRIMARY KEY (day, tenant_id, model_served)
) WITH (fillfactor = 50);
CREATE INDEX usage_totals_of_tenant ON usage_totals (tenant_id, day);

INSERT INTO usage_totals SELECT day, tenant_id, model_served, sum(requests)::bigint, 0, 0, 0, 0, 0,
    least(sum(tokens_in), 9223372036854775807)::bigint, least(sum(tokens_out), 9223372036854775807)::bigint,
    least(sum(cost), 9223372036854775807)::bigint, least(sum(charged), 9223372036854775807)::bigint
  FROM usage_daily GROUP BY day, tenant_id, model_served;

-- Whoever books, books these too.
DO $$
DECLARE
  application  text;
BEGIN
  FOR application IN
    SELECT g.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) g
    WHERE c.oid = to_regclass('leases') AND g.privilege_type = 'DELETE' AND g.grantee NOT IN (0, c.relowner)
  LOOP
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON usage_totals TO %s', application);
  END LOOP;
END $$;
