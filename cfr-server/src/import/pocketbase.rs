//! PocketBase's file of the stack that runs today: tenants, products, users with their password hashes and keys, what is left of
//! their budgets (money.md §1.2).

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::identity::{
    KeyKind, NewTenant, NewUser, Role, Tenant, TenantKind, TenantPatch, TenantStatus, User, UserPatch, UserStatus,
};
use cfr_billing::outside::{Named, NamedKind};
use cfr_billing::people::Admission;
use cfr_billing::plan::{NewProduct, ProductVersion, Terms};
use cfr_billing::store::PageRequest;
use cfr_billing::subscription::{PaymentMode, Subscription, SubscriptionFilter, SubscriptionStatus};
use cfr_core::id::{SubscriptionId, TenantId};
use cfr_core::ledger::{CallerIds, Scope};
use cfr_core::money::{Currency, Margin};
use cfr_core::time::{Period, TimeZone, Timestamp};
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Map, Value};

use super::desk::{Desk, OldBudget, OldSecret, nanos, slug, told};
use super::report::{Outcome, Report};
use super::source::{Row, SqliteSource};
use crate::auth::{KeyText, KeyWish};
use crate::cli::error::CliError;
use crate::compat::POCKETBASE;

/// Where the days of its tenants begin.
const ZONE: &str = "Europe/Berlin";
/// How long its budgets last.
const PERIOD_DAYS: u16 = 30;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Takes everything over, or says what would be.
///
/// # Errors
/// When the source cannot be read. What cannot be taken stands in the report.
pub(super) async fn import(source: &mut SqliteSource, desk: &Desk<'_>) -> Result<Report, CliError> {
    let mut report = Report { applied: desk.apply, ..Report::default() };
    for row in table(source, "tenants").await? {
        let became = tenant(desk, &row).await;
        report.note("tenants", row.text("id").unwrap_or_default(), became);
    }
    for row in table(source, "products").await? {
        let became = product(desk, &row).await;
        report.note("products", row.text("id").unwrap_or_default(), became);
    }
    for row in table(source, "tenants").await? {
        if let Some(plan) = row.text("billing_plan") {
            let became = subscription(desk, &row, plan).await;
            report.note("subscriptions", row.text("id").unwrap_or_default(), became);
        }
    }
    for row in table(source, "users").await? {
        let id = row.text("id").unwrap_or_default().to_owned();
        match user(desk, &row).await {
            Ok((outcome, note, made)) => {
                report.add("users", &id, outcome, note);
                finish(desk, &row, made, &mut report).await;
            }
            Err(reason) => report.add("users", &id, Outcome::LeftOut, reason),
        }
    }
    let logs = table(source, "usage_logs").await?.len();
    if logs > 0 {
        let note = format!("{logs} records of the past: what they add up to is in the opening balances of the budgets");
        report.add("usage_logs", "*", Outcome::LeftOut, note);
    }
    Ok(report)
}

async fn table(source: &mut SqliteSource, name: &'static str) -> Result<Vec<Row>, CliError> {
    let rows = source.rows(name).await?;
    if rows.is_none() && name == "users" {
        return Err(CliError::misused("this is no file of PocketBase: it has no table `users`"));
    }
    Ok(rows.unwrap_or_default())
}

type Became = Result<(Outcome, String), String>;

async fn tenant(desk: &Desk<'_>, row: &Row) -> Became {
    let id = row.need("id")?;
    let name = row.text("name").or_else(|| row.text("slug")).unwrap_or(id);
    let new = NewTenant {
        slug: slug(row.text("slug").unwrap_or(name)).into(),
        name: name.into(),
        domain: row.text("domain").map(Into::into),
        kind: match row.text("type") {
            Some("internal") => TenantKind::Internal,
            Some("demo") => TenantKind::Demo,
            Some("development") => TenantKind::Development,
            _ => TenantKind::Customer,
        },
        users_max: row.count("max_users").filter(|users| *users > 0),
        zone: ZONE.parse().unwrap_or(TimeZone::UTC),
        currency: Currency::EUR,
        settings: Default::default(),
    };
    let (outcome, made) = desk.tenant(&new).await?;
    let note = format!("tenant `{}`", new.slug);
    let Some(made) = made.filter(|_| desk.apply) else { return Ok((outcome, note)) };
    let made = if outcome == Outcome::Taken { with_status(desk, made, row).await? } else { made };
    let noted = ["services", "billing_plan"].into_iter().filter_map(|field| {
        let value = row.json::<Value>(field).or_else(|| row.text(field).map(Value::from))?;
        Some((field.to_owned(), value))
    });
    desk.keep_name(Named::Tenant(made.id), Some(made.id), id, noted.collect()).await?;
    Ok((outcome, note))
}

async fn with_status(desk: &Desk<'_>, tenant: Tenant, row: &Row) -> Result<Tenant, String> {
    let status = match row.text("status") {
        Some("suspended" | "inactive") => TenantStatus::Suspended,
        Some("pending") => TenantStatus::Pending,
        Some("deleted") => TenantStatus::Deleted,
        _ => TenantStatus::Active,
    };
    if status == tenant.status {
        return Ok(tenant);
    }
    let patch = TenantPatch { status: Some(status), ..TenantPatch::default() };
    desk.books.store.update_tenant(tenant.id, tenant.version, &patch, &desk.act).await.map_err(told)
}

async fn product(desk: &Desk<'_>, row: &Row) -> Became {
    let id = row.need("id")?;
    let name = row.need("name")?;
    let code = slug(name);
    let known = desk.books.store.product_by_code(&code).await.map_err(told)?;
    let (outcome, product) = match known {
        Some(known) => (Outcome::Kept, Some(known.id)),
        None => {
            let terms = terms(row, name, desk.act.at)?;
            let new = NewProduct { code: code.as_str().into(), terms };
            match desk.apply {
                true => {
                    let made = desk.books.store.publish_product(&new, &desk.act).await.map_err(told)?;
                    (Outcome::Taken, Some(made.product))
                }
                false => (Outcome::Taken, None),
            }
        }
    };
    if let Some(product) = product.filter(|_| desk.apply) {
        desk.keep_name(Named::Product(product), None, id, Map::new()).await?;
        if outcome == Outcome::Taken && row.text("active").is_some() && !row.flag("active") {
            desk.books.store.set_product_active(product, false, &desk.act).await.map_err(told)?;
        }
    }
    Ok((outcome, format!("product `{code}`")))
}

/// What a tenant was on there: the product of that name, as the import named it, with a seat for everybody whom the tenant may
/// have. A tenant that has a subscription keeps it.
async fn subscription(desk: &Desk<'_>, row: &Row, plan: &str) -> Became {
    let (code, note) = (slug(plan), format!("on `{plan}`, paid by invoice"));
    let Some(Named::Tenant(tenant)) = desk.named(NamedKind::Tenant, row.need("id")?).await? else {
        return if desk.apply { Err("its tenant was not taken over".to_owned()) } else { Ok((Outcome::Taken, note)) };
    };
    let seats = row.count("max_users").filter(|users| *users > 0);
    let seats = seats.ok_or("it has no `max_users`, which says how many seats the plan has: subscribe by hand")?;
    let product = desk.books.store.product_by_code(&code).await.map_err(told)?;
    let Some(product) = product else { return Err(format!("there is no product `{code}`: make one, then subscribe")) };
    let theirs = SubscriptionFilter { tenant: Some(tenant), ..SubscriptionFilter::default() };
    let known = desk.books.store.subscriptions(&theirs, PageRequest::default()).await.map_err(told)?;
    if known.items.iter().any(|known| known.user.is_none()) {
        return Ok((Outcome::Kept, note));
    }
    if desk.apply {
        let zone = desk.books.store.tenant(tenant).await.map_err(told)?.zone;
        let new = subscribed(tenant, &product.current, zone, desk.act.at);
        let new = Subscription { seats: Some(seats), ..new };
        desk.books.store.add_subscription(&new, &desk.act).await.map_err(told)?;
    }
    Ok((Outcome::Taken, note))
}

fn subscribed(tenant: TenantId, terms: &ProductVersion, zone: TimeZone, now: Timestamp) -> Subscription {
    let new = Subscription {
        id: SubscriptionId::generate(now),
        tenant,
        user: None,
        product_version: terms.id,
        status: SubscriptionStatus::Incomplete,
        payment_mode: PaymentMode::Invoice,
        seats: None,
        period: terms.terms.period.clone(),
        zone,
        started_at: None,
        trial_ends_at: None,
        grace_ends_at: None,
        cancel_at: None,
        ended_at: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    new.with_status(SubscriptionStatus::Active, now)
}

fn terms(row: &Row, name: &str, now: Timestamp) -> Result<Terms, String> {
    let currency = row.text("currency").unwrap_or("EUR").to_uppercase();
    let names = |column| row.json::<Vec<Arc<str>>>(column).unwrap_or_default();
    let models = names("models");
    let all = models.is_empty() || models.iter().any(|model| &**model == "all");
    Ok(Terms {
        name: name.into(),
        description: row.text("description").unwrap_or_default().into(),
        price_minor: minor(row.decimal("price")?.unwrap_or_default())?,
        currency: currency.parse().map_err(|_| format!("`{currency}` is no currency"))?,
        budget_included_nanos: nanos(row.decimal("budget_included")?.unwrap_or_default())?,
        period: Period::EveryNDays { days: PERIOD_DAYS, anchor: now },
        models: if all { vec!["*".into()] } else { models },
        features: names("features"),
        requests_per_minute: row.count("rate_limit").filter(|limit| *limit > 0),
        parallel_requests_max: None,
        output_tokens_default: None,
        margin_bps: Margin::DEFAULT.bps(),
        seats: None,
    })
}

/// Hundredths of a unit.
fn minor(price: Decimal) -> Result<i64, String> {
    let cents = price.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero).normalize();
    let scaled = cents.mantissa().checked_mul(10_i128.pow(2 - cents.scale()));
    scaled.and_then(|cents| i64::try_from(cents).ok()).ok_or_else(|| format!("the price is out of range: {price}"))
}

async fn user(desk: &Desk<'_>, row: &Row) -> Result<(Outcome, String, Option<User>), String> {
    let email = row.need("email")?;
    let status = status(row);
    let tenant_name = row.text("tenant_id").ok_or("nobody said which tenant they belong to")?;
    let tenant = match desk.named(NamedKind::Tenant, tenant_name).await? {
        Some(Named::Tenant(id)) => Some(id),
        _ if desk.apply => return Err(format!("their tenant `{tenant_name}` was not taken over")),
        _ => None,
    };
    if tenant.is_none() {
        let known = desk.books.store.user_by_email(email).await.map_err(told)?;
        let outcome = if known.is_some() { Outcome::Kept } else { Outcome::Taken };
        return Ok((outcome, described(row, status), None));
    }
    let Some(tenant) = tenant else { return Err("no tenant".to_owned()) };
    let password = row.text("passwordHash").or_else(|| row.text("password"));
    let admission = Admission {
        token: None,
        user: NewUser {
            tenant,
            email: email.into(),
            name: row.text("name").unwrap_or(email).into(),
            role: match row.text("role") {
                Some("admin") => Role::Admin,
                Some("tenant_admin") => Role::TenantAdmin,
                Some("guest") => Role::Guest,
                _ => Role::User,
            },
            product_version: None,
            locale: None,
        },
        status: if status == UserStatus::Pending { UserStatus::Pending } else { UserStatus::Active },
        email_verified: row.flag("verified"),
        password: password.filter(|hash| hash.starts_with("$2")).map(Into::into),
        identity: None,
    };
    let (outcome, made) = desk.user(&admission).await?;
    Ok((outcome, described(row, status), made))
}

fn status(row: &Row) -> UserStatus {
    match row.text("status") {
        Some("pending") => UserStatus::Pending,
        Some("suspended" | "inactive") => UserStatus::Suspended,
        Some("rejected") => UserStatus::Rejected,
        _ => UserStatus::Active,
    }
}

fn described(row: &Row, status: UserStatus) -> String {
    let word = serde_json::to_value(status).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
    let password = row.text("passwordHash").or_else(|| row.text("password")).is_some_and(|hash| hash.starts_with("$2"));
    let how = if password { "signs in with the same password" } else { "has no password that can be taken" };
    format!("{word} user, {how}")
}

/// What belongs to a user: their name there, terms, budget and key.
async fn finish(desk: &Desk<'_>, row: &Row, made: Option<User>, report: &mut Report) {
    let id = row.text("id").unwrap_or_default();
    if let Some(user) = made.as_ref().filter(|_| desk.apply) {
        let done = settle(desk, row, user, id).await;
        report.note("budgets", id, done);
    } else if row.text("budget_total").is_some() {
        let note = format!("budget of {}, {} spent", show(row, "budget_total"), show(row, "budget_used"));
        report.add("budgets", id, if made.is_some() { Outcome::Kept } else { Outcome::Taken }, note);
    }
    if let Some(text) = row.text("litellm_api_key") {
        let became = key(desk, text, made.as_ref()).await;
        report.note("keys", id, became);
    }
}

fn show<'a>(row: &'a Row, column: &str) -> &'a str {
    row.text(column).unwrap_or("0")
}

async fn settle(desk: &Desk<'_>, row: &Row, user: &User, id: &str) -> Became {
    desk.keep_name(Named::User(user.id), Some(user.tenant), id, Map::new()).await?;
    let became = budget(desk, row, user).await?;
    with_terms(desk, row, user).await?;
    Ok(became)
}

/// The budget comes before the terms: else they would make one that begins today.
async fn budget(desk: &Desk<'_>, row: &Row, user: &User) -> Became {
    let Some(total) = row.decimal("budget_total")?.filter(|_| user.status != UserStatus::Pending) else {
        return Ok((Outcome::LeftOut, "no budget".to_owned()));
    };
    let spent = nanos(row.decimal("budget_used")?.unwrap_or_default())?;
    let tenant = desk.books.store.tenant(user.tenant).await.map_err(told)?;
    let anchor = row.time("budget_reset_date").and_then(|end| end.checked_sub(DAY * u32::from(PERIOD_DAYS)).ok());
    let period = Period::EveryNDays { days: PERIOD_DAYS, anchor: anchor.unwrap_or(desk.act.at) };
    let (scope, scope_id) = (Scope::User, user.id.as_u128());
    let old = OldBudget { scope, scope_id, limit: Some(nanos(total)?), spent, period };
    let caller = CallerIds { tenant: tenant.id, user: Some(user.id), key: None, product_version: user.product_version };
    let outcome = desk.budget(&old, &tenant, caller).await?;
    Ok((outcome, format!("{} every {PERIOD_DAYS} days, {} spent", show(row, "budget_total"), show(row, "budget_used"))))
}

/// The state and the terms of a user, once they are there.
async fn with_terms(desk: &Desk<'_>, row: &Row, user: &User) -> Result<(), String> {
    let wanted = status(row);
    let version = match row.text("product_id") {
        Some(product) => match desk.named(NamedKind::Product, product).await? {
            Some(Named::Product(id)) => Some(desk.books.store.product(id).await.map_err(told)?.current.id),
            _ => None,
        },
        None => None,
    };
    let patch = UserPatch {
        status: Some(wanted).filter(|wanted| user.status == UserStatus::Active && *wanted != user.status),
        product_version: version.filter(|_| user.product_version.is_none()),
        ..UserPatch::default()
    };
    if patch == UserPatch::default() {
        return Ok(());
    }
    desk.books.store.update_user(user.id, user.version, &patch, &desk.act).await.map(drop).map_err(told)
}

async fn key(desk: &Desk<'_>, text: &str, user: Option<&User>) -> Became {
    let text = KeyText::parse(text).ok_or("it is too short to be a key")?;
    let wish = KeyWish {
        tenant: user.map(|user| user.tenant),
        user: user.map(|user| user.id),
        ..KeyWish::new(KeyKind::Live, "imported")
    };
    if user.is_none() && desk.apply {
        return Err("its user was not taken over".to_owned());
    }
    let outcome = desk.key(wish, &OldSecret::Text(text)).await?;
    Ok((outcome, "works on as it is; kept as a hash only".to_owned()))
}

/// The tool whose ids are kept.
pub(super) const SOURCE: &str = POCKETBASE;
