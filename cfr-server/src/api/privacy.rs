//! What the law gives people: everything that is kept of them, as a file (GDPR, Articles 15 and 20), and to be forgotten
//! (Article 17).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use cfr_billing::audit_log::{Act, AuditFilter};
use cfr_billing::budget::{BudgetFilter, ScopeId};
use cfr_billing::identity::{KeyStatus, Role, TenantPatch, TenantStatus, User as Row, UserFilter, UserStatus};
use cfr_billing::people::{OutsideIdentity, Passkey};
use cfr_billing::store::{Page, PageRequest};
use cfr_billing::subscription::{SubscriptionFilter, SubscriptionStatus};
use cfr_billing::usage::UsageFilter;
use cfr_core::id::TenantId;
use cfr_core::ledger::Scope;
use cfr_core::time::Timestamp;
use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::AuditEvent;
use super::budgets::Budget;
use super::desk::Desk;
use super::export::{self, Format};
use super::guard::Acting;
use super::keys::Key;
use super::lookup::{self, Memo};
use super::precondition::{IfMatch, Versioned};
use super::problem::{Problem, Problems};
use super::subscriptions::{self, Subscription};
use super::tenants::Tenant;
use super::usage::UsageRecord;
use super::users::{self, User};
use crate::auth::access::Subject;

/// What is kept of a person, but for the lists that may be long.
#[derive(Debug, Serialize)]
struct Person {
    exported_at: Timestamp,
    profile: User,
    budgets: Vec<Budget>,
    subscriptions: Vec<Subscription>,
    identities: Vec<OutsideIdentity>,
    passkeys: Vec<KeptPasskey>,
    sessions: Vec<SignIn>,
}

/// A passkey, without the key itself.
#[derive(Debug, Serialize)]
struct KeptPasskey {
    name: Arc<str>,
    created_at: Timestamp,
    used_at: Option<Timestamp>,
}

/// A browser that is signed in.
#[derive(Debug, Serialize)]
struct SignIn {
    created_at: Timestamp,
    seen_at: Timestamp,
    address: Option<Arc<str>>,
    agent: Option<Arc<str>>,
}

/// Everything that is kept of a person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PersonalData {
    /// When it was read.
    exported_at: String,
    /// Who they are.
    profile: User,
    /// Their keys, without the secrets, of which nothing is kept.
    keys: Vec<Key>,
    /// Their budgets.
    budgets: Vec<Budget>,
    /// Their own subscriptions.
    subscriptions: Vec<Subscription>,
    /// Who they are at other providers.
    identities: Vec<serde_json::Value>,
    /// Their passkeys: names, and when they were added and used.
    passkeys: Vec<serde_json::Value>,
    /// Browsers in which they are signed in.
    sessions: Vec<serde_json::Value>,
    /// What they used, the newest first.
    usage: Vec<UsageRecord>,
    /// What they did, the newest first.
    audit_events: Vec<AuditEvent>,
}

/// Download everything that is kept of a person. No prompt and no answer is in it: none is kept.
#[utoipa::path(get, path = "/users/{user}/export", operation_id = "export_user", tag = "users",
    params(("user" = String, Path, description = "Id or e-mail address")),
    responses((status = 200, description = "The data", body = PersonalData), Problems))]
pub(crate) async fn download(desk: Desk, Path(user): Path<String>) -> Result<Response, Problem> {
    let user = lookup::user(&*desk.store, &user).await?;
    let person = serde_json::to_string(&person(&desk, &user).await?).map_err(Problem::internal)?;
    let head = person.strip_suffix('}').unwrap_or(&person).to_owned() + ",\"keys\":[";
    let text = |text: &'static str| stream::iter([Ok(text.into())]);
    let parts = stream::iter([Ok(head.into())])
        .chain(keys(&desk, &user))
        .chain(text("],\"usage\":["))
        .chain(usage(&desk, &user).await?)
        .chain(text("],\"audit_events\":["))
        .chain(events(&desk, &user))
        .chain(text("]}\n"));
    Ok(Format::Json.attach("personal-data", export::body(parts).await?))
}

async fn person(desk: &Desk, user: &Row) -> Result<Person, Problem> {
    let mut memo = Memo::new(&*desk.store);
    let of_user = BudgetFilter { scope: Some(Scope::User), scope_id: Some(ScopeId(user.id.as_u128())), tenant: None };
    let mut budgets = Vec::new();
    for budget in desk.store.budgets(&of_user, PageRequest::default()).await?.items {
        let balance = desk.balance(budget.spec.id).await?;
        budgets.push(Budget { balance: Some(balance.into()), ..Budget::from(budget) });
    }
    let people = desk.of_user(user)?;
    let sessions = people.sessions(user.id, desk.now()).await?;
    Ok(Person {
        exported_at: desk.now(),
        profile: users::present(user.clone(), &mut memo).await?,
        budgets,
        subscriptions: subscriptions(desk, user, &mut memo).await?,
        identities: people.identities(user.id).await?,
        passkeys: people.credentials(user.id).await?.passkeys.into_iter().map(KeptPasskey::from).collect(),
        sessions: sessions
            .into_iter()
            .map(|session| SignIn {
                created_at: session.created_at,
                seen_at: session.seen_at,
                address: session.address,
                agent: session.agent,
            })
            .collect(),
    })
}

async fn subscriptions(desk: &Desk, user: &Row, memo: &mut Memo<'_>) -> Result<Vec<Subscription>, Problem> {
    let filter = SubscriptionFilter { user: Some(user.id), ..SubscriptionFilter::default() };
    let mut shown = Vec::new();
    for row in desk.of_user(user)?.subscriptions(&filter, PageRequest::default()).await?.items {
        shown.push(subscriptions::present(desk, row, memo).await?);
    }
    Ok(shown)
}

impl From<Passkey> for KeptPasskey {
    fn from(passkey: Passkey) -> Self {
        let Passkey { name, created_at, used_at, .. } = passkey;
        Self { name, created_at, used_at }
    }
}

fn keys(desk: &Desk, user: &Row) -> impl Stream<Item = Result<Bytes, Problem>> + Send + 'static {
    let (store, user) = (Arc::clone(&desk.store), user.id);
    let fetch = move |page| {
        let store = Arc::clone(&store);
        async move {
            let rows = store.keys(None, Some(user), page).await?;
            Ok(Page { items: rows.items.into_iter().map(Key::from).collect(), next: rows.next })
        }
    };
    export::written(fetch, |rows: Vec<Key>, first| export::json_elements(&rows, first))
}

async fn usage(
    desk: &Desk,
    user: &Row,
) -> Result<impl Stream<Item = Result<Bytes, Problem>> + Send + 'static, Problem> {
    let currency = desk.store.tenant(user.tenant).await?.currency;
    let filter = UsageFilter { tenant: Some(user.tenant), user: Some(user.id), ..UsageFilter::default() };
    let (store, reach) = (Arc::clone(&desk.store), desk.view.reach());
    let fetch = move |page| {
        let (store, filter) = (Arc::clone(&store), filter.clone());
        async move {
            let rows = store.usage(&filter, page).await?;
            let items = rows.items.into_iter().map(|row| UsageRecord::present(row, currency).within(reach)).collect();
            Ok(Page { items, next: rows.next })
        }
    };
    Ok(export::written(fetch, |rows: Vec<UsageRecord>, first| export::json_elements(&rows, first)))
}

fn events(desk: &Desk, user: &Row) -> impl Stream<Item = Result<Bytes, Problem>> + Send + 'static {
    let filter = AuditFilter { actor: Some(user.id.to_string().into()), ..AuditFilter::default() };
    let store = Arc::clone(&desk.store);
    let fetch = move |page| {
        let (store, filter) = (Arc::clone(&store), filter.clone());
        async move {
            let rows = store.audit_events(&filter, page).await?;
            let items = rows.items.into_iter().map(AuditEvent::try_from).collect::<Result<_, Problem>>()?;
            Ok(Page { items, next: rows.next })
        }
    };
    export::written(fetch, |rows: Vec<AuditEvent>, first| export::json_elements(&rows, first))
}

/// Forget a person: name, address, how they sign in, and from where they acted are gone for good, and their keys end. Usage,
/// money and the audit log go on to name the id, of which nobody knows any more whose it was.
#[utoipa::path(post, path = "/users/{user}/erase", operation_id = "erase_user", tag = "users",
    params(("user" = String, Path, description = "Id or e-mail address"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the change was made for")),
    responses((status = 200, description = "What is left", body = User,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn erase_user(
    desk: Desk,
    Acting(act): Acting,
    Path(user): Path<String>,
    if_match: IfMatch,
) -> Result<Versioned<User>, Problem> {
    let user = lookup::user(&*desk.store, &user).await?;
    if_match.check(user.version)?;
    if user.role == Role::Admin && desk.access.subject != Subject::Operator {
        return Err(Problem::forbidden(NOT_AN_ADMIN));
    }
    end_subscriptions(&desk, SubscriptionFilter { user: Some(user.id), ..SubscriptionFilter::default() }, &act).await?;
    let user = desk.store.user(user.id).await?;
    let erased = desk.of_user(&user)?.erase_user(user.id, user.version, &act).await?;
    desk.changed().await;
    Ok(Versioned::ok(erased.version, users::present(erased, &mut Memo::new(&*desk.store)).await?))
}

/// Why an administrator of the platform is not erased here.
const NOT_AN_ADMIN: &str = "an administrator of the platform: give them another role on the command line first";

/// Forget a tenant: all of its people are erased, its keys end, and what it sealed can never be read again. Usage and money
/// stay, and so does the tenant's id.
#[utoipa::path(post, path = "/tenants/{tenant}/erase", operation_id = "erase_tenant", tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the change was made for")),
    responses((status = 200, description = "What is left", body = Tenant,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn erase_tenant(
    desk: Desk,
    Acting(act): Acting,
    Path(tenant): Path<String>,
    if_match: IfMatch,
) -> Result<Versioned<Tenant>, Problem> {
    let tenant = lookup::tenant(&*desk.store, &tenant).await?;
    if_match.check(tenant.version)?;
    let gone = TenantPatch {
        status: Some(TenantStatus::Deleted),
        name: Some(tenant.id.to_string().into()),
        ..TenantPatch::default()
    };
    let tenant = desk.store.update_tenant(tenant.id, tenant.version, &gone, &act).await?;
    desk.changed().await;
    end_keys(&desk, tenant.id, &act).await?;
    let theirs = SubscriptionFilter { tenant: Some(tenant.id), ..SubscriptionFilter::default() };
    end_subscriptions(&desk, theirs, &act).await?;
    erase_people(&desk, tenant.id, &act).await?;
    forget_accounts(&desk, tenant.id, &act).await?;
    desk.vault().shred(tenant.id, &act).await.map_err(Problem::internal)?;
    desk.changed().await;
    Ok(Versioned::ok(tenant.version, Tenant::from(tenant)))
}

/// What somebody subscribed to ends with them.
async fn end_subscriptions(desk: &Desk, filter: SubscriptionFilter, act: &Act) -> Result<(), Problem> {
    let mut page = PageRequest::default();
    loop {
        let found = desk.subscriptions().subscriptions(&filter, page).await?;
        for live in found.items.iter().filter(|row| row.status.is_live()) {
            let ended = live.with_status(SubscriptionStatus::Canceled, act.at);
            desk.subscriptions().update_subscription(&ended, act).await?;
        }
        let Some(next) = found.next else { return Ok(()) };
        page.after = Some(next);
    }
}

async fn end_keys(desk: &Desk, tenant: TenantId, act: &Act) -> Result<(), Problem> {
    let mut page = PageRequest::default();
    loop {
        let keys = desk.store.keys(Some(tenant), None, page).await?;
        for key in keys.items.iter().filter(|key| key.status != KeyStatus::Revoked) {
            desk.store.revoke_key(key.id, act).await?;
        }
        let Some(next) = keys.next else { return Ok(()) };
        page.after = Some(next);
    }
}

/// What the tenant had at providers of its own: without the key that is shredded next, nothing could open it.
async fn forget_accounts(desk: &Desk, tenant: TenantId, act: &Act) -> Result<(), Problem> {
    let store = desk.within(None)?;
    loop {
        let accounts = store.provider_accounts(Some(tenant), PageRequest::default()).await?.items;
        if accounts.is_empty() {
            return Ok(());
        }
        for account in accounts {
            store.remove_provider_account(account.account.id, act).await?;
        }
    }
}

/// When it fails half way, whoever asks again goes on with those who are left.
async fn erase_people(desk: &Desk, tenant: TenantId, act: &Act) -> Result<(), Problem> {
    let filter = UserFilter { tenant: Some(tenant), status: None };
    let mut page = PageRequest::default();
    loop {
        let users = desk.store.users(&filter, page).await?;
        for user in users.items.iter().filter(|user| user.status != UserStatus::Erased) {
            desk.of_user(user)?.erase_user(user.id, user.version, act).await?;
        }
        let Some(next) = users.next else { return Ok(()) };
        page.after = Some(next);
    }
}
