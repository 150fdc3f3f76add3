-- Months of usage_records and ledger_entries, and the rights of a role that may book but not rewrite.
--
-- To take an old month away, say May 2026: ALTER TABLE usage_records DETACH PARTITION usage_records_2026_05 CONCURRENTLY,
-- the same for ledger_entries, then dump and drop the two tables. An audit names what is missing from then on.

-- Makes a month and moves into it what fell into the default partition. False when there is such a month already.
CREATE FUNCTION make_month(parent text, first_day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  month     text := parent || to_char(first_day, '_YYYY_MM');
  fallback  text := parent || '_default';
  starts    bigint := extract(epoch FROM first_day::timestamp)::bigint * 1000000;
  ends      bigint := extract(epoch FROM first_day::timestamp + interval '1 month')::bigint * 1000000;
  fallen    boolean;
BEGIN
  IF to_regclass(month) IS NOT NULL THEN
    RETURN false;
  END IF;
  -- Attaching looks through the default partition for rows of the month; nobody may add one meanwhile.
  EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', fallback);
  EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE at >= $1 AND at < $2)', fallback) INTO fallen USING starts, ends;
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', month, parent);
  IF fallen THEN
    -- Rows are append-only: they are copied, and the table that they fell into is replaced as a whole.
    EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, fallback);
    EXECUTE format('ALTER TABLE %I RENAME TO %I', fallback, parent || '_fallen');
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', fallback, parent);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I DEFAULT', parent, fallback);
    PERFORM keep_from_truncate(parent, fallback);
  END IF;
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', parent, month, starts, ends);
  PERFORM keep_from_truncate(parent, month);
  IF fallen THEN
    EXECUTE format('INSERT INTO %I SELECT * FROM %I', parent, parent || '_fallen');
    EXECUTE format('DROP TABLE %I', parent || '_fallen');
  END IF;
  RETURN true;
END $$;

-- Attaching brings the triggers for rows; the one for whole tables is not inherited.
CREATE FUNCTION keep_from_truncate(parent text, partition text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change(%L)',
    parent || '_keep', partition, parent);
END $$;

-- Makes the month of a day and some after it, and returns how many were new. It runs with the rights of the schema's
-- owner, so that a role without them keeps its partitions too; it can do nothing else.
CREATE FUNCTION make_months(of_day date, further integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  made integer := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtextextended('months of ' || current_schema(), 0)) THEN
    RETURN 0; -- another process makes them now
  END IF;
  FOR ahead IN 0..least(further, 12) LOOP
    made := made
      + make_month('usage_records', (date_trunc('month', of_day) + ahead * interval '1 month')::date)::integer
      + make_month('ledger_entries', (date_trunc('month', of_day) + ahead * interval '1 month')::date)::integer;
  END LOOP;
  RETURN made;
END $$;

DO $$ BEGIN
  EXECUTE format('ALTER FUNCTION make_months SET search_path = %I, pg_temp', current_schema());
END $$;

-- Lets a role run the service: SELECT grant_application_role('cfr_app'). It books, but cannot change or delete what was
-- booked, nor alter a table. Run it again after every upgrade. The owner of the schema runs migrations.
CREATE FUNCTION grant_application_role(application name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  here  name := current_schema();
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', here, application);
  EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', here, application);
  EXECUTE format('GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA %I TO %I', here, application);
  EXECUTE format('REVOKE INSERT ON cfr_migrations FROM %I', application);
  EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA %I TO %I', here, application);
  EXECUTE format('GRANT UPDATE ON tenants, products, users, api_keys, budgets, accounts, nodes, leases, holds, '
    'usage_daily, notices TO %I', application);
  EXECUTE format('GRANT DELETE ON leases, holds, notices TO %I', application);
  EXECUTE format('GRANT EXECUTE ON FUNCTION make_months TO %I', application);
END $$;

REVOKE EXECUTE ON FUNCTION make_month, keep_from_truncate, make_months, grant_application_role FROM PUBLIC;
