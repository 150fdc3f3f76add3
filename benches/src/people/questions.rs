//! What is asked of grown books. Each question is put to other people each time.

use super::fill::{self, Size};

/// How much is asked about.
pub const SIZE: Size = Size { tenants: 1_000, users: 100_000, requests: 1_000_000, events: 200_000 };

/// A name, and what is asked the n-th time.
pub type Question = (&'static str, fn(u64) -> String);

/// Steps through people so that no two questions in a row are about neighbours.
const STRIDE: u64 = 7_919;

fn somebody(round: u64) -> u64 {
    round * STRIDE % SIZE.users
}

/// Not the first tenant, which has a tenth of all users.
fn some_tenant(round: u64) -> u64 {
    1 + round * STRIDE % (SIZE.tenants - 1)
}

/// A moment so many days before the end of the data, as a parameter.
fn days_ago(days: u64) -> String {
    let at = cfr_core::time::Clock::now(&cfr_core::time::SystemClock::new());
    let at = at.as_second() - i64::try_from(days * 86_400).unwrap_or(0);
    cfr_core::time::Timestamp::from_second(at).map(|at| at.to_string()).unwrap_or_default()
}

fn cursor(id: u128) -> String {
    format!("{id:032x}")
}

/// Lists: first page, filtered pages, and the page at the far end.
pub const LISTS: &[Question] = &[
    ("tenants", |_| "/api/v1/tenants".into()),
    ("tenants, last page", |_| format!("/api/v1/tenants?cursor={}", cursor(fill::tenant(SIZE.tenants - 50).as_u128()))),
    ("a tenant by its slug", |round| format!("/api/v1/tenants/tenant-{}", some_tenant(round))),
    ("users", |_| "/api/v1/users".into()),
    ("users, a page of 1 000", |_| "/api/v1/users?limit=1000".into()),
    ("users, last page", |_| format!("/api/v1/users?cursor={}", cursor(fill::user(SIZE.users - 50).as_u128()))),
    ("users of a tenant", |round| format!("/api/v1/users?tenant=tenant-{}", some_tenant(round))),
    ("suspended users", |_| "/api/v1/users?status=suspended".into()),
    ("suspended users of the largest tenant", |_| "/api/v1/users?tenant=tenant-0&status=suspended".into()),
    ("a user by their address", |round| format!("/api/v1/users/user-{}@example.org", somebody(round))),
    ("keys", |_| "/api/v1/keys".into()),
    ("keys, last page", |_| format!("/api/v1/keys?cursor={}", cursor(fill::key(SIZE.users - 50).as_u128()))),
    ("keys of a tenant", |round| format!("/api/v1/keys?tenant=tenant-{}", some_tenant(round))),
    ("keys of a user", |round| format!("/api/v1/keys?user=user-{}@example.org", somebody(round))),
    ("budgets", |_| "/api/v1/budgets".into()),
    ("budgets, last page", |_| format!("/api/v1/budgets?cursor={}", cursor(fill::budget(SIZE.users - 50)))),
    ("budgets of a tenant", |round| format!("/api/v1/budgets?tenant=tenant-{}", some_tenant(round))),
    ("the budget of a user", |round| format!("/api/v1/budgets?scope=user&subject={}", fill::user(somebody(round)))),
    ("usage records", |_| "/api/v1/usage".into()),
    ("usage records, last page", |_| format!("/api/v1/usage?cursor={}", cursor(fill::request(50).as_u128()))),
    ("usage records of a tenant", |round| format!("/api/v1/usage?tenant=tenant-{}", some_tenant(round))),
    ("usage records of a user", |round| format!("/api/v1/usage?user={}", fill::user(somebody(round)))),
    ("usage records of a key", |round| format!("/api/v1/usage?key={}", fill::key(somebody(round)))),
    ("usage records of a model", |round| format!("/api/v1/usage?model=model-{}", round % 5)),
    ("usage records of no known model", |_| "/api/v1/usage?model=no-such-model".into()),
    ("usage records of a week two months ago", |_| format!("/api/v1/usage?from={}&to={}", days_ago(67), days_ago(60))),
    ("a usage record by its id", |round| format!("/api/v1/usage?id={}", fill::request(somebody(round)))),
    ("audit events", |_| "/api/v1/audit-events".into()),
    ("audit events, last page", |_| format!("/api/v1/audit-events?cursor={}", cursor(100))),
    ("audit events of a tenant", |round| format!("/api/v1/audit-events?tenant=tenant-{}", some_tenant(round))),
    ("audit events of an actor", |round| format!("/api/v1/audit-events?actor={}", fill::user(round % 100))),
    ("audit events about a thing", |round| format!("/api/v1/audit-events?target={}", fill::user(round % 100))),
    ("audit events of an action", |_| "/api/v1/audit-events?action=grant.".into()),
    ("audit events of an action that nobody did", |_| "/api/v1/audit-events?action=lead.created".into()),
    ("audit events of a day two months ago", |_| {
        format!("/api/v1/audit-events?from={}&to={}", days_ago(61), days_ago(60))
    }),
];

/// Reports, most of them over all 90 days.
pub const REPORTS: &[Question] = &[
    ("all usage", |_| "/api/v1/reports/usage".into()),
    ("by day", |_| "/api/v1/reports/usage?by=day".into()),
    ("by day and model", |_| "/api/v1/reports/usage?by=day,model".into()),
    ("by tenant", |_| "/api/v1/reports/usage?by=tenant".into()),
    ("by tenant, one day", |_| format!("/api/v1/reports/usage?by=tenant&from={}", days_ago(0))),
    ("of a tenant by user", |round| format!("/api/v1/reports/usage?by=user&tenant=tenant-{}", some_tenant(round))),
    ("of the largest tenant by day", |_| "/api/v1/reports/usage?by=day&tenant=tenant-0".into()),
    ("of the largest tenant by user, 7 days", |_| {
        format!("/api/v1/reports/usage?by=user&tenant=tenant-0&from={}", days_ago(7))
    }),
    ("of a user by day and model", |round| {
        format!("/api/v1/reports/usage?by=day,model&user=user-{}@example.org", somebody(round))
    }),
    ("of a key", |round| format!("/api/v1/reports/usage?key={}", fill::key(somebody(round)))),
    ("analytics of everything", |_| "/api/v1/reports/analytics".into()),
    ("analytics of a day", |_| format!("/api/v1/reports/analytics?from={}", days_ago(0))),
    ("analytics of a tenant", |round| format!("/api/v1/reports/analytics?tenant=tenant-{}", some_tenant(round))),
    ("analytics of the largest tenant", |_| "/api/v1/reports/analytics?tenant=tenant-0".into()),
    ("analytics of a user", |round| format!("/api/v1/reports/analytics?user=user-{}@example.org", somebody(round))),
    ("daily sums of a user", |round| format!("/api/v1/usage/daily?user=user-{}@example.org", somebody(round))),
    ("daily sums of a tenant, 7 days", |round| {
        format!("/api/v1/usage/daily?tenant=tenant-{}&from={}", some_tenant(round), days_ago(7))
    }),
];

/// Files, each asked for once.
pub const EXPORTS: &[Question] = &[
    ("all usage records, CSV", |_| "/api/v1/usage/export".into()),
    ("all usage records, JSON lines", |_| "/api/v1/usage/export?format=jsonl".into()),
    ("all audit events, CSV", |_| "/api/v1/audit-events/export?format=csv".into()),
];
