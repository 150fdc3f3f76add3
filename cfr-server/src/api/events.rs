//! `/events`: what happens within the caller's reach, as it happens (server-sent events).
//!
//! The database is asked once a second for what is new, so that it does not matter which of many servers did it. A stream
//! ends after a while, and browsers come back by themselves: by then a session may be over.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use cfr_billing::audit_log::{AuditEvent as AuditRow, AuditFilter};
use cfr_billing::budget::{BudgetFilter, ScopeId};
use cfr_billing::store::{PAGE_ROWS_MAX, PageRequest, Reach};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::{BudgetId, RequestId, TenantId};
use cfr_core::ledger::Scope;
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;
use futures_core::Stream;
use futures_util::stream;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::budgets::Balance;
use super::desk::Desk;
use super::lookup::Memo;
use super::problem::{Problem, Problems};
use super::usage::UsageRecord;
use crate::auth::access::Permission;

/// How often the database is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long a stream lasts.
const LASTS: Duration = Duration::from_mins(5);
/// Usage records of one moment, at most: the newest. `/usage` has all of them.
const RECORDS_MAX: u32 = 100;
/// Changes that are told after a pause, at most: the newest. `/audit-events` has all of them.
const CHANGES_MAX: u32 = PAGE_ROWS_MAX;
/// How long ago a request may have begun that is told of when it ends.
const BEGAN_WITHIN: Duration = Duration::from_hours(1);
/// The header in which browsers name the last event that they got.
const LAST_EVENT_ID: &str = "last-event-id";

/// A change, as it is told.
#[derive(Debug, Serialize)]
struct Change<'a> {
    at: Timestamp,
    action: &'a str,
    target: &'a str,
    tenant: Option<TenantId>,
    changes: &'a RawValue,
}

/// Follow what happens: `usage` for each request that ends, `balance` when the own budget or that of the tenant changes,
/// `change` for each event of the audit log, `user_waiting` when somebody signed up, `lead` when somebody asked to be told
/// more. The id of an event is its place in the
/// audit log; send the last one as `last-event-id` to go on from there.
#[utoipa::path(get, path = "/events", operation_id = "follow_events", tag = "usage",
    params(("last-event-id" = Option<String>, Header, description = "The last event that was seen")),
    responses((status = 200, description = "The events", content((String = "text/event-stream"))), Problems))]
pub(crate) async fn follow(
    desk: Desk,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    let tail = Tail::start(desk, last).await?;
    let events = stream::unfold(tail, |mut tail| async move { Some((Ok(tail.next().await?), tail)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Where a stream is.
#[derive(Debug)]
struct Tail {
    desk: Desk,
    clock: Interval,
    ends_at: Instant,
    /// The last event of the audit log that was told; none for who may not see it.
    seq: Option<i64>,
    /// Requests that were told.
    told: HashSet<RequestId>,
    budget: Option<(BudgetId, String)>,
    currency: Option<Currency>,
    ready: VecDeque<Event>,
}

impl Tail {
    async fn start(desk: Desk, last: Option<i64>) -> Result<Self, Problem> {
        let mut clock = tokio::time::interval(ASK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let seq = match (desk.access.may(Permission::AuditRead), last) {
            (false, _) => None,
            (true, Some(last)) => Some(last),
            (true, None) => Some(newest(&desk).await?),
        };
        let budget = own_budget(&desk).await?.map(|id| (id, String::new()));
        let ends_at = Instant::now() + LASTS;
        let mut tail =
            Self { desk, clock, ends_at, seq, told: HashSet::new(), budget, currency: None, ready: VecDeque::new() };
        tail.ask_usage().await?;
        tail.ready.clear();
        Ok(tail)
    }

    /// The next event; none when the stream has lasted long enough, or the database cannot be read.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let asked = self.clock.tick().await;
            if asked >= self.ends_at {
                return None;
            }
            if let Err(problem) = self.ask().await {
                tracing::debug!(reason = %problem.detail, "a stream of events ends");
                return None;
            }
        }
    }

    async fn ask(&mut self) -> Result<(), Problem> {
        self.ask_usage().await?;
        self.ask_balance().await?;
        self.ask_changes().await
    }

    async fn ask_usage(&mut self) -> Result<(), Problem> {
        let from = self.desk.now().checked_sub(jiff::SignedDuration::try_from(BEGAN_WITHIN).unwrap_or_default()).ok();
        let filter = UsageFilter { from, ..UsageFilter::default() };
        let page = PageRequest { after: None, limit: RECORDS_MAX };
        let rows = self.desk.store.usage(&filter, page).await?.items;
        let newest: HashSet<RequestId> = rows.iter().map(|row| row.id).collect();
        for row in rows.into_iter().rev().filter(|row| !self.told.contains(&row.id)) {
            let currency = match self.currency {
                Some(currency) => currency,
                None => Memo::new(&*self.desk.store).currency(row.caller.tenant).await?,
            };
            self.currency = self.desk.access.reach.tenant().map(|_| currency);
            self.ready.push_back(event("usage", &UsageRecord::present(row, currency).within(self.desk.access.reach))?);
        }
        self.told = newest;
        Ok(())
    }

    async fn ask_balance(&mut self) -> Result<(), Problem> {
        let Some((budget, shown)) = &mut self.budget else { return Ok(()) };
        let balance = Balance::from(self.desk.balance(*budget).await?);
        let body = serde_json::json!({ "budget": *budget, "balance": balance });
        let text = body.to_string();
        if text != *shown {
            *shown = text;
            self.ready.push_back(event("balance", &body)?);
        }
        Ok(())
    }

    async fn ask_changes(&mut self) -> Result<(), Problem> {
        let Some(seq) = &mut self.seq else { return Ok(()) };
        let newest = PageRequest { after: None, limit: CHANGES_MAX };
        let page = self.desk.store.audit_events(&AuditFilter::default(), newest).await?;
        let unseen: Vec<AuditRow> = page.items.into_iter().take_while(|row| row.seq > *seq).collect();
        for row in unseen.into_iter().rev() {
            *seq = row.seq;
            let raw: &RawValue = serde_json::from_str(&row.changes).map_err(Problem::internal)?;
            let waits = &*row.action == "user.created" && row.changes.contains(r#""status":"pending""#);
            let change =
                Change { at: row.at, action: &row.action, target: &row.target, tenant: row.tenant, changes: raw };
            let name = match &*row.action {
                "lead.created" => "lead",
                _ if waits => "user_waiting",
                _ => "change",
            };
            self.ready.push_back(event(name, &change)?.id(row.seq.to_string()));
        }
        Ok(())
    }
}

fn event(name: &str, body: &impl Serialize) -> Result<Event, Problem> {
    Event::default().event(name).json_data(body).map_err(Problem::internal)
}

async fn newest(desk: &Desk) -> Result<i64, Problem> {
    let page = PageRequest { after: None, limit: 1 };
    let found = desk.store.audit_events(&AuditFilter::default(), page).await?;
    Ok(found.items.first().map_or(0, |event| event.seq))
}

/// The budget of the one user or tenant that is in reach.
async fn own_budget(desk: &Desk) -> Result<Option<BudgetId>, Problem> {
    let (scope, id) = match desk.access.reach {
        Reach::User { user, .. } => (Scope::User, user.as_u128()),
        Reach::Tenant(tenant) => (Scope::Tenant, tenant.as_u128()),
        _ => return Ok(None),
    };
    if !desk.access.may(Permission::BudgetsRead) {
        return Ok(None);
    }
    let filter = BudgetFilter { scope: Some(scope), scope_id: Some(ScopeId(id)), tenant: None };
    let found = desk.store.budgets(&filter, PageRequest::default()).await?;
    Ok(found.items.first().map(|budget| budget.spec.id))
}
