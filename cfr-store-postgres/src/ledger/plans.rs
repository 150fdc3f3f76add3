//! What the statements of the ledger read when tables have grown since the planner looked at them: what they name, or each
//! table once, but never a table once for every row of a batch.

use cfr_billing::store::{OpenedHold, SettledHold};
use cfr_core::chat::{Operation, Tags, Usage, UsageSource};
use cfr_core::id::{HoldId, TenantId};
use cfr_core::ledger::{CallerIds, ReleaseReason, UsageRecord};
use cfr_testbed::Postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use uuid::Uuid;

use super::*;
use crate::row::query;
use crate::{PostgresOptions, StoreClock};

const TTL: Duration = Duration::from_secs(30);
/// Accounts at first, as of an operator who tries the service.
const FEW: i64 = 3;
/// Accounts after many users were made at once.
const MANY: i64 = 30_000;
/// Rights that are given back at once.
const RETURNED: i64 = 500;
/// A statement is planned anew for its arguments so often before its plan is kept.
const PLANNED_ANEW: u32 = 6;
/// The transactions of the pool after which every plan was made anew.
const ALL_PLANS_RENEWED: u32 = 61 + PLANNED_ANEW;
/// Tables that have a row per user or per request.
const GROWING: [&str; 4] = ["accounts", "budgets", "leases", "holds"];

#[tokio::test]
async fn what_is_given_back_is_found_without_reading_the_leases_of_the_node_for_each() {
    let books = Books::new().await;
    books.grow(0, MANY).await;
    books.assert_returns_read_no_more_than_the_table().await;
}

#[tokio::test]
async fn that_is_so_after_an_upgrade() {
    let mut books = Books::new().await;
    let before = "DELETE FROM cfr_migrations WHERE version = 9; DROP INDEX leases_of_node; \
         CREATE INDEX leases_of_node ON leases (node, epoch)";
    books.execute(before).await;
    books.grow(0, MANY).await;
    books.store = open(&books.url).await;
    books.by = books.store.register("node", Boot(2), Timestamp::UNIX_EPOCH).await.expect("a life");
    books.execute("UPDATE leases SET epoch = 2").await;
    books.assert_returns_read_no_more_than_the_table().await;
}

#[tokio::test]
async fn plans_that_were_made_for_small_tables_do_not_stay_when_they_grow() {
    let books = Books::new().await;
    books.grow(0, FEW).await;
    books.execute("ANALYZE").await;
    for _ in 0..PLANNED_ANEW {
        books.work().await;
    }
    books.grow(FEW, MANY).await;
    books.store.writer().await.expect("it writes").planned_at = None;
    for _ in 0..ALL_PLANS_RENEWED {
        books.work().await;
    }
    let mut writer = books.store.writer().await.expect("it writes");
    let mut tx = writer.begin(books.store.clock(), Timestamp::UNIX_EPOCH).await.expect("a transaction");
    assert_plans_fit(tx.connection()).await;
    assert_plans_fit(&mut books.store.reader().await.expect("a connection")).await;
}

/// Books of which most is made behind the store's back, many rows at a time.
struct Books {
    url: String,
    store: PostgresStore,
    by: Incarnation,
}

async fn open(url: &str) -> PostgresStore {
    let options = PostgresOptions { clock: StoreClock::Caller, connections_max: 1, ..PostgresOptions::default() };
    PostgresStore::open(url, options).await.expect("the store opens")
}

impl Books {
    async fn new() -> Self {
        let url = Postgres::shared().await.database().await;
        let store = open(&url).await;
        let by = store.register("node", Boot(1), Timestamp::UNIX_EPOCH).await.expect("a life");
        let books = Self { url, store, by };
        let tenant = Uuid::nil();
        let sql = format!(
            "INSERT INTO tenants VALUES ('{tenant}', 'acme', 'Acme', NULL, 'customer', 'active', NULL, 'UTC', 'EUR', 1, 0, 0)"
        );
        books.execute(&sql).await;
        for table in GROWING {
            books.execute(&format!("ALTER TABLE {table} SET (autovacuum_enabled = false)")).await;
        }
        books
    }

    async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url).await.expect("a connection");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
        connection.close().await.expect("closed");
    }

    /// Accounts with a lease and a hold each; an account and its budget have the same number.
    async fn grow(&self, from: i64, to: i64) {
        let (first, epoch) = (from + 1, self.by.epoch);
        let uuid = "lpad(to_hex(i), 32, '0')::uuid";
        self.execute(&format!(
            "INSERT INTO budgets SELECT {uuid}, 'user', {uuid}, NULL, 'EUR', 1000, 'hard', 'never', '\"never\"', 'UTC', \
             true, 1, 0 FROM generate_series({first}, {to}) i; \
             INSERT INTO accounts (id, budget_id, seq, starts_at, granted, leased) \
             SELECT i, {uuid}, 1, 0, 1000000, 1000 FROM generate_series({first}, {to}) i; \
             INSERT INTO leases SELECT i, 'node', {epoch}, 1000, 0, 0 FROM generate_series({first}, {to}) i; \
             INSERT INTO holds (id, node, epoch, accounts, amount, tenant_id, model, at) \
             SELECT {uuid}, 'node', {epoch}, ARRAY[i], 1, {uuid}, 'fast', 0 FROM generate_series({first}, {to}) i"
        ))
        .await;
    }

    /// One transaction of each kind that prepares its statements.
    async fn work(&self) {
        let (by, now) = (&self.by, Timestamp::UNIX_EPOCH);
        let asks: Vec<LeaseAsk> =
            (1..=FEW).map(|number| LeaseAsk { budget: budget(number), min: 2, want: 2 }).collect();
        let granted = self.store.acquire(by, &asks, TTL, now).await.expect("there is room");
        let accounts: Vec<AccountId> = granted.iter().map(|grant| grant.account).collect();
        let (charged, released) = (HoldId::generate(now), HoldId::generate(now));
        let begin = [open_hold(by, charged, &accounts), open_hold(by, released, &accounts)];
        self.store.commit(by, &begin, now).await.expect("it is journaled");
        let raise = Op::Extend { hold: charged, amount: 2 };
        self.store.commit(by, &[raise], now).await.expect("it is journaled");
        let end =
            [settlement(by, charged, &accounts), Op::Release { hold: released, reason: ReleaseReason::Abandoned }];
        self.store.commit(by, &end, now).await.expect("it is booked");
        let rights: Vec<_> = accounts.iter().map(|&account| (account, 1)).collect();
        self.store.give_back(by, &rights).await.expect("it is given back");
    }

    /// Each of the three statements that look for the leases may read all of them once.
    async fn assert_returns_read_no_more_than_the_table(&self) {
        let returns: Vec<Return> = (MANY - RETURNED + 1..=MANY)
            .map(|account| Return { by: self.by.clone(), account: AccountId(account), amount: 10 })
            .collect();
        let mut tx = self.store.begin(Timestamp::UNIX_EPOCH).await.expect("a transaction");
        let before = rows_read(tx.connection()).await;
        lease::give_back(&mut tx, &returns).await.expect("it is given back");
        let read = rows_read(tx.connection()).await - before;
        assert!((RETURNED..=3 * MANY).contains(&read), "{read} leases were read to return rights on {RETURNED}");
        tx.end(Ok(())).await.expect("it commits");
    }
}

fn budget(number: i64) -> BudgetId {
    BudgetId::from_u128(number.unsigned_abs().into())
}

const fn caller() -> CallerIds {
    CallerIds { tenant: TenantId::from_u128(0), user: None, key: None, product_version: None }
}

fn open_hold(by: &Incarnation, id: HoldId, accounts: &[AccountId]) -> Op {
    let (epoch, accounts, at) = (by.epoch, accounts.iter().copied().collect(), Timestamp::UNIX_EPOCH);
    Op::Open(Box::new(OpenedHold { id, epoch, accounts, amount: 1, caller: caller(), model: "fast".into(), at }))
}

fn settlement(by: &Incarnation, id: HoldId, accounts: &[AccountId]) -> Op {
    let record = UsageRecord {
        id,
        at: Timestamp::UNIX_EPOCH,
        caller: caller(),
        operation: Operation::ChatCompletions,
        model_requested: "fast".into(),
        provider: "openai".into(),
        model_served: "gpt-4o".into(),
        usage: Usage::text(10, 20),
        source: UsageSource::Provider,
        cost_nanos: 1,
        price_nanos: 1,
        charged_nanos: 1,
        overrun_nanos: 0,
        price_version: 7,
        fx_e6: 1_160_000,
        margin_bps: 2_000,
        status: 200,
        finish: "stop".into(),
        streamed: false,
        latency_ms: 1_200,
        first_byte_ms: None,
        attempts: Vec::new(),
        upstream_id: None,
        tags: Tags::default(),
        output_tokens_max_applied: None,
    };
    let accounts = accounts.iter().copied().collect();
    Op::Settle(Box::new(SettledHold { id, epoch: by.epoch, accounts, charged: 1, record: Box::new(record) }))
}

/// Leases that this transaction has read, by an index or without.
async fn rows_read(connection: &mut PgConnection) -> i64 {
    let sql = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'leases'";
    query(sql).fetch_one(connection).await.expect("a count").get(0)
}

/// Looks at the plans of what a connection has prepared, as they are kept.
async fn assert_plans_fit(connection: &mut PgConnection) {
    raw(connection, "SET plan_cache_mode = force_generic_plan").await;
    let prepared = "SELECT format('EXPLAIN (COSTS OFF) EXECUTE %I(%s)', name, \
         array_to_string(array_fill('NULL'::text, ARRAY[cardinality(parameter_types)]), ',')) \
         FROM pg_prepared_statements WHERE name <> ''";
    let prepared = raw(connection, prepared).await;
    assert!(!prepared.is_empty(), "the statements of the hot path are prepared");
    for statement in &prepared {
        let steps = raw(connection, statement).await;
        let scans = |step: &str| GROWING.iter().any(|table| step.contains(&format!("Seq Scan on {table} ")));
        let wrong = steps.iter().any(|step| step.contains("Join Filter") || scans(step));
        assert!(!wrong, "{statement}: {steps:#?}");
    }
}

async fn raw(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await.expect(sql);
    rows.iter().map(|row| row.get(0)).collect()
}
