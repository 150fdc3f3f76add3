//! `/provider-accounts`: accounts at providers. A secret goes in, and never comes out again.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::Path;
use cfr_billing::provider_account::{ProviderAccount as Row, ProviderAccountStatus as RowStatus, SealedAccount};
use cfr_billing::store::Reach;
use cfr_core::broadcast::Notice;
use cfr_core::id::{ProviderAccountId, TenantId};
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use cfr_providers::registry::Probe;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::input::{Checks, Json, Params, nullable};
use super::page::{Listing, page_request};
use super::precondition::{IfMatch, Versioned};
use super::problem::{Problem, Problems};
use super::{lookup, schema};
use crate::accounts::{last4, opened, place};

/// Characters of an address.
const ADDRESS_CHARS_MAX: usize = 500;

/// An account at a provider, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProviderAccount {
    /// Its id.
    #[schema(value_type = schema::ProviderAccountId)]
    pub(crate) id: ProviderAccountId,
    /// The tenant that brought it and that it serves alone; null for the platform's, which serve everybody.
    #[schema(value_type = Option<schema::TenantId>)]
    pub(crate) tenant: Option<TenantId>,
    /// For people; unique among those of one owner.
    #[schema(value_type = String, example = "main")]
    pub(crate) name: Arc<str>,
    /// The provider, by the name that configurations use.
    #[schema(value_type = String, example = "openai")]
    pub(crate) provider: Arc<str>,
    /// The address, when it is not the provider's usual one.
    #[schema(value_type = Option<String>, example = "https://llm.acme.example/v1")]
    pub(crate) base_url: Option<Arc<str>>,
    /// Where the provider works for us.
    #[schema(value_type = Option<String>, example = "eu-central-1")]
    pub(crate) region: Option<Arc<str>>,
    /// Whether calls go there.
    pub(crate) status: ProviderAccountStatus,
    /// The last four characters of the secret, to recognise it; null for one too short to show, and where there is none.
    #[schema(value_type = Option<String>, example = "9fQa")]
    pub(crate) secret_last4: Option<Arc<str>>,
    /// When the secret was set; null where there is none.
    #[schema(value_type = Option<schema::Time>)]
    pub(crate) secret_set_at: Option<Timestamp>,
    /// Counts changes; also in `etag`.
    pub(crate) version: i64,
    /// When it was made.
    #[schema(value_type = schema::Time)]
    pub(crate) created_at: Timestamp,
}

/// Whether calls go to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProviderAccountStatus {
    /// They do.
    Active,
    /// It failed of late: on the server that answers, calls go elsewhere first for a while.
    CoolingDown,
    /// They do not.
    Disabled,
}

/// What may be set as the status of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProviderAccountSwitch {
    /// Calls go there.
    Active,
    /// Calls go elsewhere.
    Disabled,
}

/// An account to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateProviderAccount {
    /// The id or slug of the tenant that brings it. Absent: the caller's own tenant, or the platform.
    pub(crate) tenant: Option<String>,
    /// For people; unique among those of one owner.
    #[schema(example = "main", min_length = 1, max_length = 200)]
    pub(crate) name: String,
    /// The provider, by the name that configurations use.
    #[schema(example = "openai")]
    pub(crate) provider: String,
    /// The address, when it is not the provider's usual one: https, and public unless the operator allows the host.
    #[schema(example = "https://llm.acme.example/v1")]
    pub(crate) base_url: Option<String>,
    /// Where the provider works for us. Bedrock needs it.
    #[schema(example = "eu-central-1", max_length = 200)]
    pub(crate) region: Option<String>,
    /// The key. It is sealed, and never shown again.
    #[schema(value_type = Option<String>, write_only, example = "sk-...")]
    pub(crate) secret: Option<Secret>,
}

/// What to change of an account. What is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeProviderAccount {
    /// For people.
    #[schema(min_length = 1, max_length = 200)]
    pub(crate) name: Option<String>,
    /// The address; null for the provider's usual one. Another address needs the secret again.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    pub(crate) base_url: Option<Option<String>>,
    /// Where the provider works for us; null for nowhere in particular.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 200)]
    pub(crate) region: Option<Option<String>>,
    /// Whether calls go there.
    pub(crate) status: Option<ProviderAccountSwitch>,
    /// Another key. It is sealed, and never shown again.
    #[schema(value_type = Option<String>, write_only)]
    pub(crate) secret: Option<Secret>,
}

/// What the provider says of an account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProviderAccountCheck {
    /// Whether the provider knows it; null for one that cannot be asked without a call that costs.
    pub(crate) works: Option<bool>,
    /// What it said, for people.
    #[schema(example = "the provider answered 401 Unauthorized")]
    pub(crate) detail: String,
}

/// Which accounts.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProviderAccountQuery {
    /// Only those of this tenant, by id or slug.
    pub(crate) tenant: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// List accounts at providers in the order in which they were added. Those of the configuration file are not among them.
#[utoipa::path(get, path = "/provider-accounts", operation_id = "list_provider_accounts", tag = "provider accounts",
    params(ProviderAccountQuery),
    responses((status = 200, description = "A page of accounts", body = Listing<ProviderAccount>), Problems))]
pub(crate) async fn list(
    desk: Desk,
    Params(query): Params<ProviderAccountQuery>,
) -> Result<Answer<Listing<ProviderAccount>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let tenant = lookup::tenant_filter(&*desk.store, query.tenant.as_deref()).await?.or(own(&desk)?);
    let accounts = desk.within(tenant)?.provider_accounts(tenant, page).await?;
    Ok(Answer(Listing::of(accounts, |sealed| shown(&desk, sealed.account))))
}

/// Add an account at a provider. Its priced models are answered through it within seconds, on every server: the platform's
/// after those of the configuration, a tenant's own for that tenant alone and before all others.
#[utoipa::path(post, path = "/provider-accounts", operation_id = "create_provider_account", tag = "provider accounts",
    request_body = CreateProviderAccount,
    responses((status = 201, description = "The new account", body = ProviderAccount), Problems))]
pub(crate) async fn create(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<CreateProviderAccount>,
) -> Result<Versioned<ProviderAccount>, Problem> {
    let named = match &body.tenant {
        Some(name) => Some(lookup::named("tenant", lookup::tenant(&*desk.store, name).await)?.id),
        None => own(&desk)?,
    };
    let store = desk.within(named)?;
    let now = desk.now();
    let account = Row {
        id: ProviderAccountId::generate(now),
        tenant: named,
        name: body.name.into(),
        provider: body.provider.into(),
        base_url: body.base_url.map(Into::into),
        region: body.region.map(Into::into),
        status: RowStatus::Active,
        secret_last4: body.secret.as_ref().and_then(last4),
        secret_set_at: body.secret.as_ref().map(|_| now),
        version: 1,
        created_at: now,
    };
    judge(&desk, &account, body.secret.as_ref())?;
    let secret = sealed(&desk, &account, body.secret.as_ref()).await?;
    store.add_provider_account(&SealedAccount { account: account.clone(), secret }, &act).await?;
    tell(&desk).await;
    Ok(Versioned::created(account.version, shown(&desk, account)))
}

/// Show an account, without its secret.
#[utoipa::path(get, path = "/provider-accounts/{account}", operation_id = "get_provider_account",
    tag = "provider accounts", params(("account" = schema::ProviderAccountId, Path, description = "Id")),
    responses((status = 200, description = "The account", body = ProviderAccount), Problems))]
pub(crate) async fn show(desk: Desk, Path(account): Path<String>) -> Result<Versioned<ProviderAccount>, Problem> {
    let found = found(&desk, &account).await?.account;
    Ok(Versioned::ok(found.version, shown(&desk, found)))
}

/// Change an account, its secret too. Running calls end as they began.
#[utoipa::path(patch, path = "/provider-accounts/{account}", operation_id = "update_provider_account",
    tag = "provider accounts", params(("account" = schema::ProviderAccountId, Path, description = "Id")),
    request_body = ChangeProviderAccount,
    responses((status = 200, description = "The account as it is now", body = ProviderAccount), Problems))]
pub(crate) async fn change(
    desk: Desk,
    Acting(act): Acting,
    seen: IfMatch,
    Path(account): Path<String>,
    Json(body): Json<ChangeProviderAccount>,
) -> Result<Versioned<ProviderAccount>, Problem> {
    let known = found(&desk, &account).await?;
    seen.check(known.account.version)?;
    let changed = changed(&desk, &known, &body)?;
    judge(&desk, &changed, body.secret.as_ref())?;
    let secret = sealed(&desk, &changed, body.secret.as_ref()).await?;
    let wish = SealedAccount { account: changed, secret };
    let store = desk.within(known.account.tenant)?;
    store.update_provider_account(known.account.version, &wish, &act).await?;
    tell(&desk).await;
    let now = store.provider_account(known.account.id).await?.account;
    Ok(Versioned::ok(now.version, shown(&desk, now)))
}

/// Remove an account and its secret for good.
#[utoipa::path(delete, path = "/provider-accounts/{account}", operation_id = "delete_provider_account",
    tag = "provider accounts", params(("account" = schema::ProviderAccountId, Path, description = "Id")),
    responses((status = 200, description = "The account as it was", body = ProviderAccount), Problems))]
pub(crate) async fn remove(
    desk: Desk,
    Acting(act): Acting,
    Path(account): Path<String>,
) -> Result<Answer<ProviderAccount>, Problem> {
    let known = found(&desk, &account).await?.account;
    let gone = desk.within(known.tenant)?.remove_provider_account(known.id, &act).await?;
    tell(&desk).await;
    Ok(Answer(shown(&desk, gone)))
}

/// Ask the provider whether it knows the account: one look at its list of models, which costs nothing.
#[utoipa::path(post, path = "/provider-accounts/{account}/check", operation_id = "check_provider_account",
    tag = "provider accounts", params(("account" = schema::ProviderAccountId, Path, description = "Id")),
    responses((status = 200, description = "What the provider said", body = ProviderAccountCheck), Problems))]
pub(crate) async fn check(desk: Desk, Path(account): Path<String>) -> Result<Answer<ProviderAccountCheck>, Problem> {
    let known = found(&desk, &account).await?;
    let secret = opened(desk.vault(), &known).await?;
    let probe = desk.accounts().probe(&known.account, secret).await.map_err(Problem::conflict)?;
    let (works, detail) = match probe {
        Probe::Works => (Some(true), "the provider knows the account".to_owned()),
        Probe::Answered(status) => (Some(false), format!("the provider answered {status}")),
        Probe::Failed(reason) => (Some(false), format!("no answer: {reason}")),
        _ => (None, "this provider cannot be asked without a call that costs".to_owned()),
    };
    Ok(Answer(ProviderAccountCheck { works, detail }))
}

/// The tenant that the caller cannot leave; none for who reaches everything.
fn own(desk: &Desk) -> Result<Option<TenantId>, Problem> {
    match desk.access.reach {
        Reach::All => Ok(None),
        Reach::Tenant(tenant) => Ok(Some(tenant)),
        _ => Err(Problem::not_found("provider account")),
    }
}

/// An account within reach.
async fn found(desk: &Desk, id: &str) -> Result<SealedAccount, Problem> {
    let own = own(desk)?;
    let found = desk.within(own)?.provider_account(lookup::id(id, "provider account")?).await?;
    match own {
        Some(tenant) if found.account.tenant != Some(tenant) => Err(Problem::not_found("provider account")),
        _ => Ok(found),
    }
}

/// What a change makes of an account. A secret never goes to an address that whoever set it has not seen.
fn changed(desk: &Desk, known: &SealedAccount, body: &ChangeProviderAccount) -> Result<Row, Problem> {
    let mut new = known.account.clone();
    if let Some(name) = &body.name {
        new.name = name.as_str().into();
    }
    if let Some(base_url) = &body.base_url {
        new.base_url = base_url.as_deref().map(Into::into);
    }
    if let Some(region) = &body.region {
        new.region = region.as_deref().map(Into::into);
    }
    if let Some(status) = body.status {
        new.status = match status {
            ProviderAccountSwitch::Active => RowStatus::Active,
            ProviderAccountSwitch::Disabled => RowStatus::Disabled,
        };
    }
    if let Some(secret) = &body.secret {
        (new.secret_last4, new.secret_set_at) = (last4(secret), Some(desk.now()));
    }
    if known.secret.is_some() && body.secret.is_none() && new.base_url != known.account.base_url {
        return Err(Problem::invalid_field("secret", "another address needs the secret again"));
    }
    Ok(new)
}

fn judge(desk: &Desk, account: &Row, secret: Option<&Secret>) -> Result<(), Problem> {
    let mut checks = Checks::default();
    checks.name("name", &account.name);
    if let Some(region) = &account.region {
        checks.name("region", region);
    }
    let length = account.base_url.as_ref().map_or(0, |address| address.chars().count());
    checks.require(length <= ADDRESS_CHARS_MAX, "base_url", "at most 500 characters");
    checks.finish()?;
    desk.accounts().judge(account, secret).map_err(|(field, what)| Problem::invalid_field(field, what))
}

async fn sealed(desk: &Desk, account: &Row, secret: Option<&Secret>) -> Result<Option<Arc<str>>, Problem> {
    let Some(secret) = secret else { return Ok(None) };
    let row = account.id.to_string();
    Ok(Some(desk.vault().seal(account.tenant, place(&row), secret.expose().as_bytes()).await?))
}

/// Every server, this one too, calls the accounts as they are now.
async fn tell(desk: &Desk) {
    if let Err(error) = desk.broadcast().publish(Notice::Accounts).await {
        tracing::warn!(%error, "other replicas learn of the changed account at their next start");
    }
}

fn shown(desk: &Desk, row: Row) -> ProviderAccount {
    let (upstream, uptime) = (row.id.to_string(), desk.clock().uptime());
    let offered = desk.prices().offered();
    let cools = || offered.targets().any(|target| *target.upstream == *upstream && target.is_cooling(uptime));
    let status = match row.status {
        RowStatus::Active if cools() => ProviderAccountStatus::CoolingDown,
        RowStatus::Active => ProviderAccountStatus::Active,
        _ => ProviderAccountStatus::Disabled,
    };
    ProviderAccount {
        id: row.id,
        tenant: row.tenant,
        name: row.name,
        provider: row.provider,
        base_url: row.base_url,
        region: row.region,
        status,
        secret_last4: row.secret_last4,
        secret_set_at: row.secret_set_at,
        version: row.version,
        created_at: row.created_at,
    }
}
