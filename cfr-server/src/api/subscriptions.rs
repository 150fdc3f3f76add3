//! `/subscriptions`: who is on which terms, since when, and for how long.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::Path;
use cfr_billing::identity::{Tenant, User};
use cfr_billing::plan::ProductVersion;
use cfr_billing::store::StoreError;
use cfr_billing::subscription::{PaymentMode, SEATS_MAX, Subscription as Row, SubscriptionFilter, SubscriptionStatus};
use cfr_core::id::{ProductVersionId, SubscriptionId, TenantId, UserId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::input::{Checks, Json, Params, nullable};
use super::lookup::{self, Memo};
use super::money::Window;
use super::page::{Listing, page_request};
use super::precondition::{IfMatch, Versioned};
use super::problem::{Problem, Problems};
use super::schema;

/// Terms that a tenant or a user is on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subscription {
    /// Its id.
    #[schema(value_type = schema::SubscriptionId)]
    pub(crate) id: SubscriptionId,
    /// The tenant that owns it, or the tenant of the user who does.
    #[schema(value_type = schema::TenantId)]
    pub(crate) tenant: TenantId,
    /// The user who owns it; null for the tenant.
    #[schema(value_type = Option<schema::UserId>)]
    pub(crate) user: Option<UserId>,
    /// The code of the product.
    #[schema(value_type = String, example = "pro")]
    pub(crate) product: Arc<str>,
    /// The version of the product.
    #[schema(value_type = schema::ProductVersionId)]
    pub(crate) product_version: ProductVersionId,
    /// Where it is in its life now.
    #[schema(value_type = schema::SubscriptionStatus)]
    pub(crate) status: SubscriptionStatus,
    /// Who sees to it that it is paid.
    #[schema(value_type = schema::PaymentMode)]
    pub(crate) payment_mode: PaymentMode,
    /// How many people it is for; null for as many as the tenant may have.
    pub(crate) seats: Option<u32>,
    /// The period that is now, or was when it ended; null before it began.
    pub(crate) current_period: Option<Window>,
    /// When its terms first held.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) started_at: Option<Timestamp>,
    /// When the trial is over.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) trial_ends_at: Option<Timestamp>,
    /// When models are refused, if it is not paid before.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) grace_ends_at: Option<Timestamp>,
    /// When it is to end.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) cancel_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) ended_at: Option<Timestamp>,
    /// Counts changes; also in `etag`.
    pub(crate) version: i64,
    /// When it was made.
    #[schema(value_type = schema::Time)]
    pub(crate) created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = schema::Time)]
    pub(crate) updated_at: Timestamp,
}

/// A subscription to make. It belongs to the tenant, or to the user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateSubscription {
    /// The id or slug of the tenant.
    tenant: Option<String>,
    /// The id or address of the user.
    user: Option<String>,
    /// The id or code of the product: its newest version.
    product: String,
    /// `incomplete`, `trialing` or `active`; the last when absent.
    #[schema(value_type = Option<schema::SubscriptionStatus>)]
    status: Option<SubscriptionStatus>,
    /// Who sees to it that it is paid; `invoice` when absent.
    #[schema(value_type = Option<schema::PaymentMode>)]
    payment_mode: Option<PaymentMode>,
    /// How many people of the tenant it is for.
    #[schema(minimum = 1, maximum = 1_000_000)]
    seats: Option<u32>,
    /// When the trial is over.
    #[schema(value_type = Option<schema::Time>)]
    trial_ends_at: Option<Timestamp>,
}

/// What to change of a subscription. What is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeSubscription {
    /// The state that follows: `canceled` ends it now.
    #[schema(value_type = Option<schema::SubscriptionStatus>)]
    status: Option<SubscriptionStatus>,
    /// True ends it with its period, false takes that back.
    cancel_at_period_end: Option<bool>,
    /// The id or code of another product, or of the same: its newest version. New requests are on its terms, the budget's limit
    /// follows with its next period.
    product: Option<String>,
    /// How many people it is for; null for as many as the tenant may have.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    seats: Option<Option<u32>>,
    /// Who sees to it that it is paid.
    #[schema(value_type = Option<schema::PaymentMode>)]
    payment_mode: Option<PaymentMode>,
}

/// Which subscriptions.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubscriptionQuery {
    /// Only those of this tenant and of its users, by id or slug.
    tenant: Option<String>,
    /// Only those of this user, by id or address.
    user: Option<String>,
    /// Only those that were kept in this state.
    #[param(value_type = Option<schema::SubscriptionStatus>)]
    status: Option<SubscriptionStatus>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// List subscriptions in the order in which they were made.
#[utoipa::path(get, path = "/subscriptions", operation_id = "list_subscriptions", tag = "subscriptions",
    params(SubscriptionQuery),
    responses((status = 200, description = "A page of subscriptions", body = Listing<Subscription>), Problems))]
pub(crate) async fn list(
    desk: Desk,
    Params(query): Params<SubscriptionQuery>,
) -> Result<Answer<Listing<Subscription>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let named = lookup::tenant_filter(&*desk.store, query.tenant.as_deref()).await?;
    let tenant = named.or(desk.view.reach().tenant());
    let user = lookup::user_filter(&*desk.store, query.user.as_deref()).await?;
    let filter = SubscriptionFilter { tenant, user, status: query.status };
    let rows = desk.within(tenant)?.subscriptions(&filter, page).await?;
    let mut memo = Memo::new(&*desk.store);
    let mut shown = Vec::with_capacity(rows.items.len());
    for row in rows.items {
        shown.push(present(&desk, row, &mut memo).await?);
    }
    Ok(Answer(Listing::page(shown, rows.next)))
}

/// Put a tenant or a user on the terms of a product. Who had a subscription needs one from then on: when the last one ended or
/// is unpaid, models are refused.
#[utoipa::path(post, path = "/subscriptions", operation_id = "create_subscription", tag = "subscriptions",
    request_body = CreateSubscription,
    responses((status = 201, description = "The new subscription", body = Subscription,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn create(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<CreateSubscription>,
) -> Result<Versioned<Subscription>, Problem> {
    let (tenant, user) = owner(&desk, &body).await?;
    let terms = terms(&desk, &body.product, &tenant).await?;
    let row = begun(&desk, &body, (&tenant, user.as_ref()), &terms)?;
    desk.within(Some(tenant.id))?.add_subscription(&row, &act).await?;
    desk.changed().await;
    versioned(&desk, row).await.map(|shown| Versioned::created(shown.version, shown))
}

/// Show a subscription.
#[utoipa::path(get, path = "/subscriptions/{subscription}", operation_id = "get_subscription", tag = "subscriptions",
    params(("subscription" = schema::SubscriptionId, Path, description = "Id")),
    responses((status = 200, description = "The subscription", body = Subscription,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn show(desk: Desk, Path(subscription): Path<String>) -> Result<Versioned<Subscription>, Problem> {
    let row = found(&desk, &subscription).await?;
    versioned(&desk, row).await.map(|shown| Versioned::ok(shown.version, shown))
}

/// Change a subscription: its state, its terms, its seats, its end. The terms and the budget follow in the same transaction.
#[utoipa::path(patch, path = "/subscriptions/{subscription}", operation_id = "change_subscription",
    tag = "subscriptions", request_body = ChangeSubscription,
    params(("subscription" = schema::SubscriptionId, Path, description = "Id"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the change was made for")),
    responses((status = 200, description = "The subscription as it is now", body = Subscription,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn change(
    desk: Desk,
    Acting(act): Acting,
    Path(subscription): Path<String>,
    if_match: IfMatch,
    Json(body): Json<ChangeSubscription>,
) -> Result<Versioned<Subscription>, Problem> {
    let mut row = found(&desk, &subscription).await?;
    if_match.check(row.version)?;
    let store = desk.within(Some(row.tenant))?;
    if row.due_at().is_some_and(|at| at <= act.at) {
        row = store.update_subscription(&row.moved(act.at), &act).await?;
    }
    let wish = changed(&desk, &row, &body).await?;
    let row = store.update_subscription(&wish, &act).await?;
    desk.changed().await;
    versioned(&desk, row).await.map(|shown| Versioned::ok(shown.version, shown))
}

/// Whose it is to be.
async fn owner(desk: &Desk, body: &CreateSubscription) -> Result<(Tenant, Option<User>), Problem> {
    match (&body.tenant, &body.user) {
        (Some(name), None) => Ok((lookup::named("tenant", lookup::tenant(&*desk.store, name).await)?, None)),
        (None, Some(name)) => {
            let user = lookup::named("user", lookup::user(&*desk.store, name).await)?;
            Ok((desk.store.tenant(user.tenant).await?, Some(user)))
        }
        _ => Err(Problem::invalid_field("tenant", "name a tenant or a user, whose subscription it is")),
    }
}

/// The newest version of a product that may be had in the tenant's currency.
async fn terms(desk: &Desk, product: &str, tenant: &Tenant) -> Result<ProductVersion, Problem> {
    let product = lookup::named("product", lookup::product(&*desk.store, product).await)?;
    let mut checks = Checks::default();
    checks.require(product.active, "product", "it is closed for new customers");
    let currency = format!("the tenant's budgets are in {}", tenant.currency);
    checks.require(product.current.terms.currency == tenant.currency, "product", &currency);
    checks.finish()?;
    Ok(product.current)
}

fn begun(
    desk: &Desk,
    body: &CreateSubscription,
    (tenant, user): (&Tenant, Option<&User>),
    terms: &ProductVersion,
) -> Result<Row, Problem> {
    let now = desk.now();
    let status = body.status.unwrap_or(SubscriptionStatus::Active);
    let mut checks = Checks::default();
    let first = [SubscriptionStatus::Incomplete, SubscriptionStatus::Trialing, SubscriptionStatus::Active];
    checks.require(first.contains(&status), "status", "one of incomplete, trialing, active");
    let trial = status == SubscriptionStatus::Trialing;
    let ends = body.trial_ends_at.is_some_and(|end| end > now);
    checks.require(!trial || ends, "trial_ends_at", "when is the trial over?");
    checks.require(body.seats.is_none() || user.is_none(), "seats", "a user's subscription is for one person");
    check_seats(&mut checks, body.seats);
    checks.finish()?;
    let row = Row {
        id: SubscriptionId::generate(now),
        tenant: tenant.id,
        user: user.map(|user| user.id),
        product_version: terms.id,
        status: SubscriptionStatus::Incomplete,
        payment_mode: body.payment_mode.unwrap_or(PaymentMode::Invoice),
        seats: body.seats,
        period: terms.terms.period.clone(),
        zone: tenant.zone.clone(),
        started_at: None,
        trial_ends_at: body.trial_ends_at,
        grace_ends_at: None,
        cancel_at: None,
        ended_at: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    Ok(row.with_status(status, now))
}

fn check_seats(checks: &mut Checks, seats: Option<u32>) {
    checks.require(seats.is_none_or(|seats| (1..=SEATS_MAX).contains(&seats)), "seats", "from 1 to 1000000");
}

/// What a change makes of a subscription.
async fn changed(desk: &Desk, row: &Row, body: &ChangeSubscription) -> Result<Row, Problem> {
    let now = desk.now();
    let mut new = match body.status {
        Some(status) if status != row.status => row.with_status(status, now),
        _ => row.clone(),
    };
    row.check_change(&new)?;
    if new.status == SubscriptionStatus::Trialing && new.trial_ends_at.is_none_or(|end| end <= now) {
        return Err(Problem::invalid_field("status", "a trial has an end: make another subscription, with one"));
    }
    if let Some(product) = &body.product {
        let tenant = desk.store.tenant(row.tenant).await?;
        new.product_version = terms(desk, product, &tenant).await?.id;
    }
    if let Some(seats) = body.seats {
        let mut checks = Checks::default();
        checks.require(seats.is_none() || row.user.is_none(), "seats", "a user's subscription is for one person");
        check_seats(&mut checks, seats);
        checks.finish()?;
        new.seats = seats;
    }
    new.payment_mode = body.payment_mode.unwrap_or(new.payment_mode);
    match body.cancel_at_period_end {
        Some(true) => new.cancel_at = Some(period_end(&new, now)?),
        Some(false) => new.cancel_at = None,
        None => {}
    }
    Ok(new)
}

fn period_end(row: &Row, now: Timestamp) -> Result<Timestamp, Problem> {
    let window = row.window_at(now).map_err(Problem::internal)?;
    let never = || Problem::invalid_field("cancel_at_period_end", "its period never ends: set `status` to `canceled`");
    window.and_then(|window| window.end).ok_or_else(never)
}

/// A subscription within reach.
async fn found(desk: &Desk, id: &str) -> Result<Row, Problem> {
    let row = desk.subscriptions().subscription(lookup::id(id, "subscription")?).await?;
    desk.within(Some(row.tenant)).map_err(|_| Problem::not_found("subscription"))?;
    Ok(row)
}

async fn versioned(desk: &Desk, row: Row) -> Result<Subscription, Problem> {
    present(desk, row, &mut Memo::new(&*desk.store)).await
}

/// The subscription as it stands now.
pub(super) async fn present(desk: &Desk, row: Row, memo: &mut Memo<'_>) -> Result<Subscription, Problem> {
    let now = desk.now();
    let row = row.moved(now);
    let current_period = row.window_at(now).map_err(Problem::internal)?.map(Window::from);
    let product = product_code(&row, memo).await?;
    Ok(Subscription {
        id: row.id,
        tenant: row.tenant,
        user: row.user,
        product,
        product_version: row.product_version,
        status: row.status,
        payment_mode: row.payment_mode,
        seats: row.seats,
        current_period,
        started_at: row.started_at,
        trial_ends_at: row.trial_ends_at,
        grace_ends_at: row.grace_ends_at,
        cancel_at: row.cancel_at,
        ended_at: row.ended_at,
        version: row.version,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

async fn product_code(row: &Row, memo: &mut Memo<'_>) -> Result<Arc<str>, StoreError> {
    Ok(Arc::clone(&memo.version(row.product_version).await?.code))
}
