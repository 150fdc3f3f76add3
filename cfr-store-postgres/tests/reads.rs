//! What is read when tables have grown: what is asked for, and not the table. The server counts the rows and the entries of
//! indexes that each step reads, so that no plan and no text of a statement has to be known here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use cfr_billing::audit_log::AuditFilter;
use cfr_billing::budget::{Budget, BudgetFilter, GrantKind, ScopeId};
use cfr_billing::identity::{KeyMac, Tenant, UserFilter};
use cfr_billing::store::{
    BatchStore, Boot, CatalogStore, Incarnation, LeaseAsk, LedgerStore, NewGrant, Op, OrphanPolicy, PageRequest,
};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::{AccountId, KeyId, UserId};
use cfr_core::ledger::{ReleaseReason, Scope};
use cfr_store_postgres::PostgresStore;
use support::*;

/// Rows in every table that has one per user or per request.
const MANY: i64 = 20_000;
/// Requests that are under way.
const IN_FLIGHT: i64 = 200;
/// What a step may read, opening a store and looking tables of a few rows through included.
const READ_MAX: i64 = 400;
const PAGE: PageRequest = PageRequest { after: None, limit: 20 };

/// Books in a database whose tables were filled behind the store's back, and somebody who works on a few rows of them.
struct Books {
    home: Home,
    tenant: Tenant,
    budget: Budget,
    by: Incarnation,
}

impl Books {
    async fn new() -> Self {
        let home = Home::new().await;
        let store = home.open().await;
        let by = store.register("node", Boot(1), at(0)).await.unwrap();
        let tenant = tenant(&store).await;
        let budget = budget(&store, &tenant, 1_000_000).await;
        let account = acquire(&store, &by, &budget, 5).await.account;
        store.commit(&by, &[settle(&by, hold_id(1), account, 1, tenant.id)], at(0)).await.unwrap();
        store.close().await.unwrap();
        let books = Self { home, tenant, budget, by };
        books.fill().await;
        books
    }

    async fn execute(&self, sql: &str) -> String {
        raw(&self.home.url, sql).await.unwrap_or_else(|message| panic!("{sql}: {message}"))
    }

    /// Everything that the tenant's users did so far. A row and what it belongs to have the same number.
    async fn fill(&self) {
        let tenant = format!("'{}'", uuid(self.tenant.id.as_u128()));
        let (id, start) = ("lpad(to_hex(i), 32, '0')::uuid", at(0).as_microsecond());
        let values = [
            (
                "users (id, tenant_id, email, email_normal, name, role, status, created_at, updated_at)",
                format!("{id}, {tenant}, i || '@example.org', i || '@example.org', 'Ada', 'user', 'active', 0, 0"),
            ),
            (
                "api_keys (id, tenant_id, user_id, name, kind, mac, prefix, last4, models, status, created_at)",
                format!(
                    "{id}, {tenant}, {id}, 'key', 'live', decode(lpad(to_hex(i), 64, '0'), 'hex'), 'cfr', 'last', '[]', 'active', 0"
                ),
            ),
            (
                "budgets (id, scope, scope_id, tenant_id, currency, included, policy, period_kind, period, zone, created_at)",
                format!(
                    "{id}, 'user', {id}, {tenant}, 'EUR', 1000, 'hard', 'never', (SELECT period FROM budgets LIMIT 1), 'UTC', 0"
                ),
            ),
            ("accounts (id, budget_id, seq, starts_at, granted, leased)", format!("i, {id}, 1, 0, 1000000, 1000")),
            (
                "grants (id, budget_id, account_id, kind, amount, idempotency_key, reason, actor, at)",
                format!("{id}, {id}, i, 'included', 1000, 'grant-' || i, '', '', {start} + i"),
            ),
            (
                "leases (account_id, node, epoch, granted, expires_at)",
                format!("i, 'other', 1, 1000, {start} + 3600000000"),
            ),
            (
                "holds (id, node, epoch, accounts, amount, tenant_id, model, at)",
                format!("{id}, 'other', 1, ARRAY[i], 1, {tenant}, 'fast', {start}"),
            ),
            ("charge_keys (id, at)", format!("{id}, {start} + i")),
            (
                "usage_records (id, at, chain, row, tenant_id, user_id, key_id, model_served, cost, charged, overrun, accounts, details)",
                format!(
                    "{id}, {start} + i, 9, i, {tenant}, {id}, {id}, 'model-' || i, 1, 1, 0, ARRAY[i], (SELECT details FROM usage_records WHERE chain <> 9)"
                ),
            ),
            (
                "ledger_batches (chain, id, node, epoch, at, first_row, rows, hash)",
                format!("9, i, 'other', 1, {start} + i, i, 1, decode(repeat('00', 32), 'hex')"),
            ),
            (
                "ledger_entries (chain, batch, account_id, kind, amount, overrun, at)",
                format!("9, i, i, 'settle', 1, 0, {start} + i"),
            ),
            (
                "usage_daily (day, tenant_id, user_id, key_id, model_served, requests, tokens_in, tokens_out, cost, charged)",
                format!("i % 5000, {tenant}, {id}, {id}, 'fast', 1, 1, 1, 1, 1"),
            ),
        ];
        self.execute("INSERT INTO ledger_chains (id, started_at) VALUES (9, 0)").await;
        let boot = uuid(7);
        self.execute(&format!(
            "INSERT INTO nodes (name, epoch, boot, registered_at, seen_at, alive_until) \
             VALUES ('other', 1, '{boot}', {start}, {start}, {start} + 3600000000)"
        ))
        .await;
        for (table, row) in values {
            let rows = if table.starts_with("holds") { IN_FLIGHT } else { MANY };
            self.execute(&format!("INSERT INTO {table} SELECT {row} FROM generate_series(10, 9 + {rows}) i")).await;
        }
        self.execute("ANALYZE").await;
    }

    /// Does something with a store of its own, and looks at what was read for it.
    async fn reads_little<T>(&self, what: &str, act: impl AsyncFnOnce(&PostgresStore) -> T) -> T {
        let (done, much) = self.reads(act).await;
        assert!(much.is_empty(), "{what} reads of {much:?}");
        done
    }

    /// The tables of which much was read, too.
    async fn reads<T>(&self, act: impl AsyncFnOnce(&PostgresStore) -> T) -> (T, Vec<String>) {
        self.execute("SELECT pg_stat_reset()").await;
        let store = self.home.open().await;
        let done = act(&store).await;
        store.close().await.unwrap();
        let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        while self.execute(others).await != "0" {} // a connection counts what it read when it ends
        let sql = "SELECT relname || ': ' || sum(read) FROM ( \
               SELECT relname, seq_tup_read AS read FROM pg_stat_user_tables \
               UNION ALL SELECT relname, idx_tup_read FROM pg_stat_user_indexes) AS by_way \
             GROUP BY relname HAVING sum(read) > ";
        let much = self.execute(&format!("{sql}{READ_MAX} ORDER BY relname")).await;
        (done, much.lines().map(str::to_owned).collect())
    }
}

fn uuid(number: u128) -> String {
    format!("{number:032x}")
}

#[tokio::test]
async fn spending_reads_what_it_spends() {
    let books = Books::new().await;
    let (by, spent) = (&books.by, &books.budget);
    let ask = LeaseAsk { budget: spent.spec.id, min: 100, want: 100 };
    let acquire = async |store: &PostgresStore| store.acquire(by, &[ask], TTL, at(1)).await.unwrap();
    let account = books.reads_little("an acquisition", acquire).await[0].account;
    let acquire_all = async |store: &PostgresStore| store.acquire_all(by, &[&[ask], &[ask]], TTL, at(1)).await;
    let granted = books.reads_little("acquisitions of many", acquire_all).await;
    assert!(granted.iter().all(Result::is_ok), "{granted:?}");
    let ids: Vec<_> = (1..=20).map(|number| hold_id((1 << 100) + number)).collect();
    let tenant = books.tenant.id;
    let opened: Vec<Op> = ids.iter().map(|&id| open(by, id, account, 2, tenant)).collect();
    let raised: Vec<Op> = ids.iter().map(|&hold| Op::Extend { hold, amount: 3 }).collect();
    let noted = |hold| Op::Checkpoint { hold, charged: 1, record: record(hold, tenant, 1) };
    let noted: Vec<Op> = ids.iter().copied().map(noted).collect();
    let release = |&hold: &_| Op::Release { hold, reason: ReleaseReason::Abandoned };
    let settled = || ids[..10].iter().map(|&id| settle(by, id, account, 2, tenant));
    let ended: Vec<Op> = settled().chain(ids[10..].iter().map(release)).collect();
    let repeated: Vec<Op> = settled().collect();
    let steps = [
        ("opening", opened),
        ("raising", raised),
        ("noting", noted),
        ("ending", ended),
        ("a repeated batch", repeated),
    ];
    for (what, ops) in steps {
        books.reads_little(what, async |store| store.commit(by, &ops, at(2)).await).await.unwrap();
    }
    books.reads_little("a renewal", async |store| store.renew(by, TTL, at(3)).await).await.unwrap();
    books.reads_little("a return", async |store| store.give_back(by, &[(account, 10)]).await).await.unwrap();
    let top_up = NewGrant { reason: "".into(), ..NewGrant::by_terms(spent.spec.id, GrantKind::TopUp, 5, "once") };
    books.reads_little("a grant", async |store| store.grant(&top_up, at(4)).await).await.unwrap();
    let reclaim = async |store: &PostgresStore| store.reclaim(at(5), OrphanPolicy::Evidence, at(5)).await.unwrap();
    let (_, much) = books.reads(reclaim).await;
    assert!(
        much.iter().all(|table| table.starts_with("leases: ")),
        "what lives is looked through, not what was: {much:?}"
    );
    books.reads_little("the end of a node", async |store| store.retire(by, at(6)).await).await.unwrap();
    let register = async |store: &PostgresStore| store.register("node", Boot(2), at(7)).await.unwrap();
    assert_eq!(books.reads_little("a new life", register).await.epoch, 2);
}

#[tokio::test]
async fn looking_something_up_reads_what_is_shown() {
    let books = Books::new().await;
    let (spent, tenant) = (books.budget.spec.id, books.tenant.id);
    let mut mac = [0; 32];
    mac[31] = 77; // that of the key with this number
    books.reads_little("a key", async |store| store.key_context(&KeyMac(mac)).await.unwrap().unwrap()).await;
    books.reads_little("an address", async |store| store.user_by_email("77@example.org").await.unwrap().unwrap()).await;
    books.reads_little("the state of a budget", async |store| store.account(spent, at(1)).await.unwrap()).await;
    books.reads_little("the periods of a budget", async |store| store.accounts(spent).await.unwrap()).await;
    books.reads_little("grants", async |store| store.grants(spent, PAGE).await.unwrap()).await;
    books
        .reads_little("a few audited accounts", async |store| store.audit_accounts(AccountId(500), 20).await.unwrap())
        .await;
    books.reads_little("tenants", async |store| store.tenants(PAGE).await.unwrap()).await;
    for filter in [UserFilter::default(), UserFilter::of_tenant(tenant)] {
        books.reads_little("users", async |store| store.users(&filter, PAGE).await.unwrap()).await;
    }
    let user = UserId::from_u128(77);
    for (tenant, user) in [(None, None), (Some(tenant), None), (None, Some(user))] {
        books.reads_little("keys", async |store| store.keys(tenant, user, PAGE).await.unwrap()).await;
    }
    let of_one = BudgetFilter { scope: Some(Scope::User), scope_id: Some(ScopeId(user.as_u128())), tenant: None };
    for filter in [BudgetFilter::default(), BudgetFilter { tenant: Some(tenant), ..BudgetFilter::default() }, of_one] {
        books.reads_little(&format!("{filter:?}"), async |store| store.budgets(&filter, PAGE).await.unwrap()).await;
    }
    let until = at(0).checked_add(Duration::from_millis(15)).unwrap();
    let every = UsageFilter::default();
    for filter in [
        every.clone(),
        UsageFilter { tenant: Some(tenant), ..every.clone() },
        UsageFilter { user: Some(user), ..every.clone() },
        // By a key or a model alone, the list of its user's or of all records is read as far back as the page needs.
        UsageFilter { user: Some(user), key: Some(KeyId::from_u128(77)), ..every.clone() },
        UsageFilter { id: Some(hold_id(77)), ..every.clone() },
        UsageFilter { tenant: Some(tenant), to: Some(until), ..every.clone() },
    ] {
        books.reads_little(&format!("{filter:?}"), async |store| store.usage(&filter, PAGE).await.unwrap()).await;
    }
    let day = UsageFilter { tenant: Some(tenant), from: Some(at(0)), to: Some(until), ..every };
    books.reads_little("the sums of a day", async |store| store.usage_daily(&day).await.unwrap()).await;
    books.reads_little("events", async |store| store.audit_events(&AuditFilter::default(), PAGE).await.unwrap()).await;
    books
        .reads_little("batches that are due", async |store| store.claim_batches(at(1), at(2), 10).await.unwrap())
        .await;
    books.reads_little("prices", async |store| store.latest_prices().await.unwrap()).await;
}
