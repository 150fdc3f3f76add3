//! LiteLLM's Postgres: teams, users and keys. It keeps the SHA-256 of each key, which is enough for them to work on.
//!
//! A team becomes a tenant with budgets in dollars. Who had no limit there gets a budget without one here, which the report
//! says: without any budget nobody calls. A key with a limit that nothing here enforces is left out by name.

use std::sync::Arc;

use cfr_billing::identity::{KeyKind, KeyRules, NewTenant, NewUser, Role, Tenant, TenantKind, User, UserStatus};
use cfr_billing::outside::{Named, NamedKind};
use cfr_billing::people::Admission;
use cfr_core::id::TenantId;
use cfr_core::ledger::{CallerIds, Scope};
use cfr_core::money::Currency;
use cfr_core::time::{Period, TimeZone};
use serde_json::{Map, Value};
use std::num::NonZeroU32;

use super::desk::{Desk, OldBudget, OldSecret, nanos, slug, told};
use super::report::{Outcome, Report};
use super::source::{PostgresSource, Row};
use crate::auth::{KeyWish, Sha256Digest};
use crate::cli::error::CliError;
use crate::compat::LITELLM;

/// The tool whose ids are kept.
pub(super) const SOURCE: &str = LITELLM;
/// Where users and keys go that are in no team.
const DEFAULT_TEAM: &str = "default";
/// Where users have an address who had none. Nobody has such an address (RFC 2606).
const NO_MAIL: &str = "users.invalid";
/// What limits somebody there and is not enforced here.
const UNSUPPORTED: &[&str] = &[
    "tpm_limit",
    "model_max_budget",
    "budget_limits",
    "budget_id",
    "permissions",
    "allowed_routes",
    "allowed_cache_controls",
    "organization_id",
    "object_permission_id",
    "project_id",
];

/// Takes everything over, or says what would be.
///
/// # Errors
/// When the source cannot be read. What cannot be taken stands in the report.
pub(super) async fn import(source: &mut PostgresSource, desk: &Desk<'_>) -> Result<Report, CliError> {
    let mut report = Report { applied: desk.apply, ..Report::default() };
    let Some(keys) = source.rows("LiteLLM_VerificationToken", "token").await? else {
        return Err(CliError::misused("this is no database of LiteLLM: it has no `LiteLLM_VerificationToken`"));
    };
    for row in source.rows("LiteLLM_TeamTable", "team_id").await?.unwrap_or_default() {
        let became = team(desk, &row).await;
        report.note("teams", row.text("team_id").unwrap_or_default(), became);
    }
    for row in source.rows("LiteLLM_UserTable", "user_id").await?.unwrap_or_default() {
        let became = user(desk, &row).await;
        report.note("users", row.text("user_id").unwrap_or_default(), became);
    }
    for row in keys {
        let became = key(desk, &row).await;
        let name = row.text("key_alias").or(row.text("key_name")).unwrap_or("without a name");
        report.note("keys", name, became);
    }
    Ok(report)
}

type Became = Result<(Outcome, String), String>;

/// What of its limits nothing here enforces.
fn check_limits(row: &Row, and: &[&'static str]) -> Result<(), String> {
    let limits = UNSUPPORTED
        .iter()
        .chain(and)
        .find(|limit| row.text(limit).is_some_and(|value| !matches!(value, "{}" | "[]" | "false" | "0" | "null")));
    match limits {
        Some(limit) => Err(format!("its `{limit}` is not enforced here: take it away there, or make it anew here")),
        None => Ok(()),
    }
}

fn new_tenant(name: &str, alias: &str) -> NewTenant {
    NewTenant {
        slug: slug(name).into(),
        name: alias.into(),
        domain: None,
        kind: TenantKind::Customer,
        users_max: None,
        zone: TimeZone::UTC,
        currency: Currency::USD,
        settings: Default::default(),
    }
}

async fn team(desk: &Desk<'_>, row: &Row) -> Became {
    let id = row.need("team_id")?;
    check_limits(row, &["rpm_limit"])?;
    if has_models(row) {
        return Err("its list of models is not enforced for a whole tenant here: give each key the list".to_owned());
    }
    let known = match desk.named(NamedKind::Tenant, id).await? {
        Some(Named::Tenant(known)) => Some(desk.books.store.tenant(known).await.map_err(told)?),
        _ => None,
    };
    let alias = row.text("team_alias").unwrap_or(id);
    let (outcome, tenant) = match known {
        Some(known) => (Outcome::Kept, Some(known)),
        None => desk.tenant(&new_tenant(alias, alias)).await?,
    };
    let note = format!("tenant `{}`, {}", slug(alias), limit_note(row));
    let Some(tenant) = tenant.filter(|_| desk.apply) else { return Ok((outcome, note)) };
    desk.keep_name(Named::Tenant(tenant.id), Some(tenant.id), id, Map::new()).await?;
    budget(desk, row, &tenant, (Scope::Tenant, tenant.id.as_u128()), caller(tenant.id, None)).await?;
    Ok((outcome, note))
}

fn limit_note(row: &Row) -> String {
    match (row.text("max_budget"), row.text("spend")) {
        (Some(limit), spent) => format!("budget of {limit} USD, {} spent", spent.unwrap_or("0")),
        (None, _) => "without a limit".to_owned(),
    }
}

fn has_models(row: &Row) -> bool {
    !models(row).is_empty()
}

/// The models that somebody is limited to; none for all of them.
fn models(row: &Row) -> Vec<Arc<str>> {
    let models: Vec<Arc<str>> = row.json("models").unwrap_or_default();
    let all = |model: &Arc<str>| matches!(&**model, "all-proxy-models" | "all-team-models" | "*");
    if models.iter().any(all) { Vec::new() } else { models }
}

const fn caller(tenant: TenantId, user: Option<&User>) -> CallerIds {
    let user = match user {
        Some(user) => Some(user.id),
        None => None,
    };
    CallerIds { tenant, user, key: None, product_version: None }
}

/// A budget as it was, without a limit where there was none.
async fn budget(
    desk: &Desk<'_>,
    row: &Row,
    tenant: &Tenant,
    (scope, scope_id): (Scope, u128),
    caller: CallerIds,
) -> Result<(), String> {
    let limit = row.decimal("max_budget")?.map(nanos).transpose()?;
    let spent = nanos(row.decimal("spend")?.unwrap_or_default())?;
    let old = OldBudget { scope, scope_id, limit, spent, period: period(desk, row)? };
    desk.budget(&old, tenant, caller).await.map(drop)
}

/// Periods go on where they were: the next one begins when it would have there.
fn period(desk: &Desk<'_>, row: &Row) -> Result<Period, String> {
    let Some(duration) = row.text("budget_duration") else { return Ok(Period::Never) };
    let anchor = row.time("budget_reset_at").unwrap_or(desk.act.at);
    let refused = || format!("a budget that begins anew after `{duration}` is not known here");
    if duration == "1mo" {
        return Ok(Period::AnniversaryMonth { anchor });
    }
    let place = duration.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(refused)?;
    let (number, unit) = duration.split_at(place);
    let number: u16 = number.parse().map_err(|_| refused())?;
    let days = match unit {
        "d" => Some(number),
        "w" => number.checked_mul(7),
        "h" if number.is_multiple_of(24) => Some(number / 24),
        _ => None,
    };
    let days = days.filter(|days| (1..=3_660).contains(days)).ok_or_else(refused)?;
    let back = std::time::Duration::from_secs(u64::from(days) * 24 * 3_600);
    Ok(Period::EveryNDays { days, anchor: anchor.checked_sub(back).unwrap_or(anchor) })
}

/// The tenant of a user or key: of the team, else the one for everybody without a team.
async fn tenant_of(desk: &Desk<'_>, team: Option<&str>) -> Result<Option<Tenant>, String> {
    let Some(team) = team else {
        let new = new_tenant(DEFAULT_TEAM, DEFAULT_TEAM);
        return Ok(desk.tenant(&new).await?.1);
    };
    match desk.named(NamedKind::Tenant, team).await? {
        Some(Named::Tenant(id)) => desk.books.store.tenant(id).await.map(Some).map_err(told),
        _ if desk.apply => Err(format!("its team `{team}` was not taken over")),
        _ => Ok(None),
    }
}

async fn user(desk: &Desk<'_>, row: &Row) -> Became {
    let id = row.need("user_id")?;
    check_limits(row, &["rpm_limit", "max_parallel_requests"])?;
    if has_models(row) {
        return Err("their list of models is not enforced for a user here: give each key the list".to_owned());
    }
    let teams: Vec<String> = row.json("teams").unwrap_or_default();
    if teams.len() > 1 {
        return Err(format!("they are in {} teams, and in one tenant only here", teams.len()));
    }
    let tenant = tenant_of(desk, teams.first().map(String::as_str)).await?;
    let email = match row.text("user_email") {
        Some(email) => email.to_owned(),
        None if id.contains('@') => id.to_owned(),
        None => format!("{id}@{NO_MAIL}"),
    };
    let note = format!("user `{email}`, {}", limit_note(row));
    let Some(tenant) = tenant else { return Ok((Outcome::Taken, note)) };
    let admission = Admission {
        token: None,
        user: NewUser {
            tenant: tenant.id,
            name: row.text("user_alias").unwrap_or(&email).into(),
            email: email.as_str().into(),
            role: match row.text("user_role") {
                Some("proxy_admin") => Role::Admin,
                Some("org_admin" | "team") => Role::TenantAdmin,
                _ => Role::User,
            },
            product_version: None,
            locale: None,
        },
        status: UserStatus::Active,
        email_verified: false,
        password: None,
        identity: None,
    };
    let (outcome, made) = desk.user(&admission).await?;
    let Some(made) = made.filter(|_| desk.apply) else { return Ok((outcome, note)) };
    desk.keep_name(Named::User(made.id), Some(tenant.id), id, Map::new()).await?;
    budget(desk, row, &tenant, (Scope::User, made.id.as_u128()), caller(tenant.id, Some(&made))).await?;
    Ok((outcome, note))
}

async fn key(desk: &Desk<'_>, row: &Row) -> Became {
    let token = row.need("token")?;
    check_limits(row, &[])?;
    if row.json::<Map<String, Value>>("aliases").is_some_and(|aliases| !aliases.is_empty()) {
        return Err("its `aliases` are not known here".to_owned());
    }
    let digest = Sha256Digest::from_hex(token).ok_or("it is not kept as a SHA-256")?;
    let owner = match row.text("user_id") {
        Some(user) => match desk.named(NamedKind::User, user).await? {
            Some(Named::User(id)) => Some(desk.books.store.user(id).await.map_err(told)?),
            _ if desk.apply => return Err(format!("its user `{user}` was not taken over")),
            _ => None,
        },
        None => None,
    };
    let tenant = match &owner {
        Some(user) => Some(desk.books.store.tenant(user.tenant).await.map_err(told)?),
        None if row.text("user_id").is_some() => None,
        None => tenant_of(desk, row.text("team_id")).await?,
    };
    let shown = row.text("key_name").unwrap_or("sk-...");
    let last4 = shown.get(shown.len().saturating_sub(4)..).unwrap_or_default();
    let wish = KeyWish {
        tenant: tenant.as_ref().map(|tenant| tenant.id),
        user: owner.as_ref().map(|user| user.id),
        models: models(row),
        rules: KeyRules {
            requests_per_minute: row.count("rpm_limit").and_then(NonZeroU32::new),
            parallel_requests_max: row.count("max_parallel_requests").and_then(NonZeroU32::new),
            ..KeyRules::default()
        },
        expires_at: row.time("expires"),
        ..KeyWish::new(kind(row), row.text("key_alias").unwrap_or("imported"))
    };
    if row.flag("blocked") {
        return Err("it is blocked there".to_owned());
    }
    let secret = OldSecret::Digest { digest, hex: token.to_owned(), prefix: "sk-".into(), last4: last4.into() };
    let outcome = desk.key(wish, &secret).await?;
    let note = format!("works on as it is, {}", limit_note(row));
    let Some(tenant) = tenant.filter(|_| desk.apply) else { return Ok((outcome, note)) };
    key_budget(desk, row, token, &tenant, owner.as_ref()).await?;
    Ok((outcome, note))
}

fn kind(row: &Row) -> KeyKind {
    if row.text("user_id").is_some() { KeyKind::Live } else { KeyKind::Service }
}

/// A key's own limit. Without one it has its user's or team's; a service key without a team has one without a limit.
async fn key_budget(
    desk: &Desk<'_>,
    row: &Row,
    token: &str,
    tenant: &Tenant,
    owner: Option<&User>,
) -> Result<(), String> {
    let needed = owner.is_none() && row.text("team_id").is_none();
    if row.text("max_budget").is_none() && !needed {
        return Ok(());
    }
    let stored = desk.books.keys.look_up(token).await.map_err(told)?.ok_or("the key is not there")?;
    let id = stored.context.key.id;
    let caller = CallerIds { key: Some(id), ..caller(tenant.id, owner) };
    budget(desk, row, tenant, (Scope::Key, id.as_u128()), caller).await
}
