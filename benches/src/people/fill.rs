//! Fills a database with people and their usage, as statements that the database runs by itself: through the store a
//! million requests would take many minutes. Rows are copies of what the server wrote for one tenant, one user and one call.
//!
//! A tenth of all users are in the first tenant, the others are spread evenly. Everybody's requests lie apart in time, so
//! that the rollups by user have as many rows as there are requests: the worst that can be.

use cfr_core::id::{KeyId, RequestId, TenantId, UserId};
use cfr_core::time::Timestamp;

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Tenants, of which the first is the largest.
    pub tenants: u64,
    /// Users, each with a key and a budget.
    pub users: u64,
    /// Requests, spread evenly over users and [`DAYS`].
    pub requests: u64,
    /// Events in the audit log.
    pub events: u64,
}

/// The days before now that requests lie in.
pub const DAYS: u64 = 90;
/// Models that requests take turns on.
const MODELS: u64 = 5;
/// Who did what the audit log says.
const ACTORS: u64 = 100;
/// Microseconds of a day.
const DAY_MICROS: u64 = 86_400_000_000;
/// The row numbers of requests and accounts in front of the first one: those of the pattern are below.
const ROWS_BEFORE: u64 = 1_000;

/// Where the numbers of ids begin, so that no two kinds share one.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Tenant = 1,
    User = 2,
    Key = 3,
    Budget = 4,
    Request = 5,
}

impl Kind {
    const fn first(self) -> u64 {
        self as u64 * 1_000_000_000
    }

    const fn id(self, number: u64) -> u128 {
        (self.first() + number) as u128
    }
}

/// The id of a tenant.
#[must_use]
pub const fn tenant(number: u64) -> TenantId {
    TenantId::from_u128(Kind::Tenant.id(number))
}

/// The id of a user.
#[must_use]
pub const fn user(number: u64) -> UserId {
    UserId::from_u128(Kind::User.id(number))
}

/// The id of a user's key.
#[must_use]
pub const fn key(number: u64) -> KeyId {
    KeyId::from_u128(Kind::Key.id(number))
}

/// The id of a request, oldest first.
#[must_use]
pub const fn request(number: u64) -> RequestId {
    RequestId::from_u128(Kind::Request.id(number))
}

/// The id of a user's budget, as a number: what cursors are made of.
#[must_use]
pub const fn budget(number: u64) -> u128 {
    Kind::Budget.id(number)
}

/// How a database spells what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// Postgres.
    Postgres,
}

impl Dialect {
    /// The id of a kind with the number that an expression says.
    fn id(self, kind: Kind, number: &str) -> String {
        let number = format!("{} + {number}", kind.first());
        match self {
            Self::Sqlite => format!("unhex(printf('%032x', {number}))"),
            Self::Postgres => format!("lpad(to_hex({number}), 32, '0')::uuid"),
        }
    }

    /// 32 bytes that are different for each number.
    fn hash(self, number: &str) -> String {
        match self {
            Self::Sqlite => format!("unhex(printf('%064x', {number}))"),
            Self::Postgres => format!("decode(lpad(to_hex({number}), 64, '0'), 'hex')"),
        }
    }

    /// Rows with a column `i` that counts from zero.
    fn series(self, rows: u64) -> String {
        let last = rows.saturating_sub(1);
        match self {
            Self::Sqlite => format!(
                "(WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < {last}) SELECT i FROM s) AS s"
            ),
            Self::Postgres => format!("generate_series(0::bigint, {last}) AS s(i)"),
        }
    }

    /// No account.
    const fn no_accounts(self) -> &'static str {
        match self {
            Self::Sqlite => "x''",
            Self::Postgres => "'{}'",
        }
    }

    /// The id of nobody in rollups.
    const fn nobody(self) -> &'static str {
        match self {
            Self::Sqlite => "x''",
            Self::Postgres => "'00000000-0000-0000-0000-000000000000'",
        }
    }
}

/// The statements that fill a database, in order.
#[must_use]
pub fn statements(dialect: Dialect, size: Size, now: Timestamp) -> Vec<String> {
    let mut statements = people(dialect, size);
    statements.extend(requests(dialect, size, now));
    statements.extend(rollups(dialect));
    statements.push(events(dialect, size, now));
    statements.extend(finish(dialect));
    statements
}

fn people(dialect: Dialect, size: Size) -> Vec<String> {
    let Size { tenants, users, .. } = size;
    let id = |kind| dialect.id(kind, "i");
    let (tenant, user, key, budget) = (id(Kind::Tenant), id(Kind::User), id(Kind::Key), id(Kind::Budget));
    let owner = dialect.id(Kind::Tenant, &owner(size));
    let (all_tenants, all_users, mac) = (dialect.series(tenants), dialect.series(users), dialect.hash("i + 1"));
    let of = |table: &str, column: &str| format!("(SELECT {column} FROM {table} LIMIT 1)");
    vec![
        format!(
            "INSERT INTO tenants (id, slug, name, kind, status, zone, currency, created_at, updated_at) \
             SELECT {tenant}, 'tenant-' || i, 'Tenant ' || i, 'customer', 'active', 'UTC', 'EUR', 0, 0 FROM {all_tenants}"
        ),
        format!(
            "INSERT INTO users (id, tenant_id, email, email_normal, name, role, status, product_version_id, created_at, updated_at) \
             SELECT {user}, {owner}, 'user-' || i || '@example.org', 'user-' || i || '@example.org', 'User ' || i, 'user', \
             CASE i % 1000 WHEN 7 THEN 'suspended' ELSE 'active' END, {}, 0, 0 FROM {all_users}",
            of("product_versions", "id")
        ),
        format!(
            "INSERT INTO api_keys (id, tenant_id, user_id, name, kind, mac, prefix, last4, models, status, created_at) \
             SELECT {key}, {owner}, {user}, 'laptop', 'live', {mac}, 'cfr_live', 'last', {}, 'active', 0 FROM {all_users}",
            of("api_keys WHERE user_id IS NOT NULL", "models")
        ),
        format!(
            "INSERT INTO budgets (id, scope, scope_id, tenant_id, currency, included, policy, period_kind, period, zone, created_at) \
             SELECT {budget}, 'user', {user}, {owner}, 'EUR', 10000000000, 'hard', 'calendar_month', {}, 'UTC', 0 FROM {all_users}",
            of("budgets WHERE period_kind = 'calendar_month'", "period")
        ),
    ]
}

/// The number of the tenant of user `i`.
fn owner(Size { tenants, .. }: Size) -> String {
    format!("CASE i % 10 WHEN 0 THEN 0 ELSE 1 + i % {} END", tenants.saturating_sub(1).max(1))
}

fn requests(dialect: Dialect, size: Size, now: Timestamp) -> Vec<String> {
    let step = DAYS * DAY_MICROS / size.requests.max(1);
    let first = now.as_microsecond() - i64::try_from(DAYS * DAY_MICROS).unwrap_or(i64::MAX);
    let (at, model) = (format!("{first} + i * {step}"), format!("'model-' || ((i / 7) % {MODELS})"));
    // The same arithmetic as that of people, over the number of the request's user.
    let source =
        format!("(SELECT i AS request, i % {} AS i FROM {}) AS r", size.users.max(1), dialect.series(size.requests));
    let (id, owner) = (dialect.id(Kind::Request, "request"), dialect.id(Kind::Tenant, &owner(size)));
    let (user, key) = (dialect.id(Kind::User, "i"), dialect.id(Kind::Key, "i"));
    let (at, model) = (at.replace('i', "request"), model.replace("(i", "(request"));
    let accounts = dialect.no_accounts();
    let columns = "id, at, tenant_id, user_id, key_id, model_served, cost, charged, overrun, accounts, details";
    let values = format!(
        "{id}, {at}, {owner}, {user}, {key}, {model}, 900, 1000, 0, {accounts}, (SELECT details FROM usage_records LIMIT 1)"
    );
    match dialect {
        Dialect::Sqlite => vec![format!(
            "INSERT INTO usage_records (row, {columns}) SELECT {ROWS_BEFORE} + request, {values} FROM {source}"
        )],
        Dialect::Postgres => vec![
            format!("SELECT make_months(to_timestamp({first} / 1000000)::date, 4)"),
            "INSERT INTO ledger_chains (id, started_at) VALUES (900, 0)".to_owned(),
            format!("INSERT INTO charge_keys (id, at) SELECT {id}, {at} FROM {source}"),
            format!(
                "INSERT INTO usage_records (chain, row, {columns}) SELECT 900, {ROWS_BEFORE} + request, {values} FROM {source}"
            ),
        ],
    }
}

/// The sums of what was filled in, as settlements keep them.
fn rollups(dialect: Dialect) -> Vec<String> {
    let nobody = dialect.nobody();
    let sums = "requests, failed, timed, latency_ms, first_bytes, first_byte_ms, tokens_in, tokens_out, cost, charged";
    vec![
        format!(
            "INSERT INTO usage_daily (day, tenant_id, user_id, key_id, model_served, {sums}) \
             SELECT at / {DAY_MICROS}, tenant_id, coalesce(user_id, {nobody}), coalesce(key_id, {nobody}), model_served, \
             count(*), 0, count(*), 800 * count(*), count(*), 200 * count(*), 100 * count(*), 300 * count(*), \
             900 * count(*), 1000 * count(*) FROM usage_records WHERE row >= {ROWS_BEFORE} GROUP BY 1, 2, 3, 4, 5"
        ),
        format!(
            "INSERT INTO usage_totals (day, tenant_id, model_served, {sums}) \
             SELECT day, tenant_id, model_served, sum(requests), 0, sum(timed), sum(latency_ms), sum(first_bytes), \
             sum(first_byte_ms), sum(tokens_in), sum(tokens_out), sum(cost), sum(charged) FROM usage_daily \
             WHERE model_served LIKE 'model-%' GROUP BY 1, 2, 3"
        ),
    ]
}

fn events(dialect: Dialect, size: Size, now: Timestamp) -> String {
    let first = now.as_microsecond() - i64::try_from(DAYS * DAY_MICROS).unwrap_or(i64::MAX);
    let step = DAYS * DAY_MICROS / size.events.max(1);
    let names: Vec<_> = (0..ACTORS).map(|number| format!("({number}, '{}')", user(number))).collect();
    let names = names.join(", ");
    let (hash, rows, id) = (dialect.hash("i"), dialect.series(size.events), dialect.id(Kind::Tenant, &owner(size)));
    format!(
        "INSERT INTO audit_events (seq, at, actor_kind, actor, tenant_id, action, target, changes, hash) \
         WITH actors(n, name) AS (VALUES {names}) SELECT last + 1 + i, {first} + i * {step}, 'user', name, {id}, \
         CASE i % 100 WHEN 0 THEN 'grant.booked' WHEN 1 THEN 'user.changed' ELSE 'session.opened' END, name, '[]', {hash} \
         FROM {rows} JOIN actors ON n = i % {ACTORS} CROSS JOIN (SELECT max(seq) AS last FROM audit_events) AS before"
    )
}

/// What the store does beside bookings, and what a database does by itself in time.
fn finish(dialect: Dialect) -> Vec<String> {
    match dialect {
        Dialect::Sqlite => vec![
            "INSERT OR IGNORE INTO usage_lists (list, at, id, row) SELECT list, at, id, row FROM ( \
             SELECT x'' AS list, at, id, row FROM usage_records UNION ALL \
             SELECT tenant_id, at, id, row FROM usage_records UNION ALL \
             SELECT user_id, at, id, row FROM usage_records WHERE user_id IS NOT NULL) ORDER BY list, at, id"
                .to_owned(),
            "UPDATE listed SET row = (SELECT max(row) FROM usage_records)".to_owned(),
            "PRAGMA optimize".to_owned(),
        ],
        Dialect::Postgres => vec!["VACUUM (ANALYZE)".to_owned()],
    }
}
