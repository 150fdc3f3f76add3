//! `/tenants`: customer organisations.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::Path;
use cfr_billing::identity::{
    Language, MfaRequired, NewTenant, SignupMode, Tenant as Row, TenantKind, TenantPatch, TenantSettings, TenantStatus,
};
use cfr_core::id::{ProductId, TenantId};
use cfr_core::money::Currency;
use cfr_core::time::{TimeZone, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::input::{Checks, Json, Params, nullable};
use super::page::{Listing, page_request};
use super::precondition::{IfMatch, Versioned};
use super::problem::{Problem, Problems};
use super::{lookup, schema};

/// A customer organisation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tenant {
    /// Its id.
    #[schema(value_type = schema::TenantId)]
    pub(crate) id: TenantId,
    /// A short unique name; it may stand wherever the id may.
    #[schema(value_type = String, example = "acme")]
    pub(crate) slug: Arc<str>,
    /// For people.
    #[schema(value_type = String, example = "Acme GmbH")]
    pub(crate) name: Arc<str>,
    /// Its own domain.
    #[schema(value_type = Option<String>, example = "chat.acme.example")]
    pub(crate) domain: Option<Arc<str>>,
    /// What it is for.
    #[schema(value_type = schema::TenantKind)]
    pub(crate) kind: TenantKind,
    /// Where it is in its life.
    #[schema(value_type = schema::TenantStatus)]
    pub(crate) status: TenantStatus,
    /// Users that it may have; no limit when null.
    pub(crate) users_max: Option<u32>,
    /// Where its days begin.
    #[schema(value_type = schema::Zone)]
    pub(crate) time_zone: TimeZone,
    /// The currency of its budgets.
    #[schema(value_type = schema::CurrencyCode)]
    pub(crate) currency: Currency,
    /// Who may become a user.
    #[schema(value_type = schema::SignupMode)]
    pub(crate) signup: SignupMode,
    /// Domains whose addresses may sign up; empty for all of them.
    #[schema(value_type = Vec<String>, example = json!(["acme.example"]))]
    pub(crate) signup_domains: Vec<Arc<str>>,
    /// The product of who signs up.
    #[schema(value_type = Option<schema::ProductId>)]
    pub(crate) signup_product: Option<ProductId>,
    /// Whether who signs up where `signup` is `open` is active at once: on the product, while there is a place.
    pub(crate) signup_activates: bool,
    /// Who needs a second factor.
    #[schema(value_type = schema::MfaRequired)]
    pub(crate) mfa_required: MfaRequired,
    /// The language of people who have not chosen one.
    #[schema(value_type = schema::Language)]
    pub(crate) locale: Language,
    /// Counts changes; also in `etag`.
    pub(crate) version: i64,
    /// When it was made.
    #[schema(value_type = schema::Time)]
    pub(crate) created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = schema::Time)]
    pub(crate) updated_at: Timestamp,
}

impl From<Row> for Tenant {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            slug: row.slug,
            name: row.name,
            domain: row.domain,
            kind: row.kind,
            status: row.status,
            users_max: row.users_max,
            time_zone: row.zone,
            currency: row.currency,
            signup: row.settings.signup,
            signup_domains: row.settings.signup_domains,
            signup_product: row.settings.signup_product,
            signup_activates: row.settings.signup_activates,
            mfa_required: row.settings.mfa_required,
            locale: row.settings.locale,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<Row> for Versioned<Tenant> {
    fn from(row: Row) -> Self {
        Self::ok(row.version, row.into())
    }
}

/// A tenant to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTenant {
    /// Lower case letters, digits and `-`; unique.
    #[schema(example = "acme", pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length = 64)]
    pub(crate) slug: String,
    /// For people; the slug when absent.
    #[schema(example = "Acme GmbH")]
    pub(crate) name: Option<String>,
    /// Its own domain; unique.
    pub(crate) domain: Option<String>,
    /// What it is for; `customer` when absent.
    #[schema(value_type = Option<schema::TenantKind>)]
    pub(crate) kind: Option<TenantKind>,
    /// Users that it may have.
    pub(crate) users_max: Option<u32>,
    /// Where its days begin; `Europe/Berlin` when absent.
    #[schema(value_type = Option<schema::Zone>)]
    pub(crate) time_zone: Option<String>,
    /// The currency of its budgets; `EUR` when absent.
    #[schema(value_type = Option<schema::CurrencyCode>)]
    pub(crate) currency: Option<String>,
    /// Who may become a user; `invite` when nobody says. `request` and `open` need mail.
    #[schema(value_type = Option<schema::SignupMode>)]
    pub(crate) signup: Option<SignupMode>,
    /// Domains whose addresses may sign up, at most 100; `open` needs one.
    #[schema(example = json!(["acme.example"]))]
    pub(crate) signup_domains: Option<Vec<String>>,
    /// The id or code of the product of who signs up; `null` for none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    pub(crate) signup_product: Option<Option<String>>,
    /// Whether who signs up where `signup` is `open` is active at once, on the product, while there is a place; else they wait
    /// for an administrator. `false` when nobody says, and only with a product.
    pub(crate) signup_activates: Option<bool>,
    /// Who needs a second factor; `admins` when nobody says.
    #[schema(value_type = Option<schema::MfaRequired>)]
    pub(crate) mfa_required: Option<MfaRequired>,
    /// The language of people who have not chosen one; `en` when nobody says.
    #[schema(value_type = Option<schema::Language>)]
    pub(crate) locale: Option<Language>,
}

/// How people join a tenant and sign in there; what is none stays, or is as usual.
#[derive(Debug, Default)]
struct Joining {
    signup: Option<SignupMode>,
    signup_domains: Option<Vec<String>>,
    signup_product: Option<Option<String>>,
    signup_activates: Option<bool>,
    mfa_required: Option<MfaRequired>,
    locale: Option<Language>,
}

macro_rules! joining {
    ($body:ident) => {
        Joining {
            signup: $body.signup,
            signup_domains: $body.signup_domains,
            signup_product: $body.signup_product,
            signup_activates: $body.signup_activates,
            mfa_required: $body.mfa_required,
            locale: $body.locale,
        }
    };
}

/// Domains of one tenant.
const DOMAINS_MAX: usize = 100;

impl Joining {
    /// These settings, changed so.
    ///
    /// # Errors
    /// 422 for what contradicts itself, or needs what this server does not have.
    async fn over(self, settings: TenantSettings, desk: &Desk, currency: Currency) -> Result<TenantSettings, Problem> {
        let signup_product = match self.signup_product {
            Some(Some(product)) => Some(signup_product(desk, &product, currency).await?),
            Some(None) => None,
            None => settings.signup_product,
        };
        let domains =
            self.signup_domains.map(|domains| domains.iter().map(|domain| domain.to_lowercase().into()).collect());
        let settings = TenantSettings {
            signup: self.signup.unwrap_or(settings.signup),
            signup_domains: domains.unwrap_or(settings.signup_domains),
            signup_product,
            signup_activates: self.signup_activates.unwrap_or(settings.signup_activates),
            mfa_required: self.mfa_required.unwrap_or(settings.mfa_required),
            locale: self.locale.unwrap_or(settings.locale),
        };
        check_settings(&settings, desk.letters().are_sent())?;
        Ok(settings)
    }
}

async fn signup_product(desk: &Desk, product: &str, currency: Currency) -> Result<ProductId, Problem> {
    let found = lookup::named("signup_product", lookup::product(&*desk.store, product).await)?;
    let sold_in = found.current.terms.currency;
    let message = format!("it is sold in {sold_in}, and the tenant's budgets are in {currency}");
    let mut checks = Checks::default();
    checks.require(sold_in == currency, "signup_product", &message);
    checks.finish()?;
    Ok(found.id)
}

fn check_settings(settings: &TenantSettings, letters_are_sent: bool) -> Result<(), Problem> {
    let mut checks = Checks::default();
    let domains = &settings.signup_domains;
    checks.require(domains.len() <= DOMAINS_MAX, "signup_domains", "at most 100");
    for (index, domain) in domains.iter().enumerate() {
        let letters = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'.');
        let good = domain.contains('.') && domain.len() <= DOMAIN_CHARS_MAX && domain.bytes().all(letters);
        checks.require(good, &format!("signup_domains[{index}]"), "a domain, as in acme.example");
    }
    let needs_domain = settings.signup == SignupMode::Open && domains.is_empty();
    checks.require(!needs_domain, "signup_domains", "`open` is for addresses of the domains that are named here");
    let by_itself = settings.signup == SignupMode::Open && settings.signup_product.is_some();
    let message = "only where `signup` is `open`, with a `signup_product` that people get";
    checks.require(by_itself || !settings.signup_activates, "signup_activates", message);
    let needs_mail = settings.signup.takes_sign_ups() && !letters_are_sent;
    checks.require(
        !needs_mail,
        "signup",
        "addresses are proved by letters: set up `[mail]` in the server's configuration",
    );
    checks.finish()
}

/// Characters of a domain (RFC 1035).
const DOMAIN_CHARS_MAX: usize = 253;

/// Where days begin when nobody says otherwise (money.md §1.1).
const DEFAULT_ZONE: &str = "Europe/Berlin";

impl CreateTenant {
    fn check(&self) -> Result<NewTenant, Problem> {
        let mut checks = Checks::default();
        let name = self.name.as_deref().unwrap_or(&self.slug);
        checks.word("slug", &self.slug);
        checks.name("name", name);
        if let Some(domain) = &self.domain {
            checks.name("domain", domain);
        }
        let zone = checks.take("time_zone", self.time_zone.as_deref().unwrap_or(DEFAULT_ZONE).parse::<TimeZone>());
        let currency = self.currency.as_deref().map_or(Ok(Currency::EUR), str::parse);
        let currency = checks.take("currency", currency);
        checks.finish()?;
        Ok(NewTenant {
            slug: self.slug.as_str().into(),
            name: name.into(),
            domain: self.domain.as_deref().map(Into::into),
            kind: self.kind.unwrap_or(TenantKind::Customer),
            users_max: self.users_max,
            zone: zone.unwrap_or(TimeZone::UTC),
            currency: currency.unwrap_or(Currency::EUR),
            settings: TenantSettings::default(),
        })
    }
}

/// What to change of a tenant; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeTenant {
    /// A new name.
    pub(crate) name: Option<String>,
    /// A new state.
    #[schema(value_type = Option<schema::TenantStatus>)]
    pub(crate) status: Option<TenantStatus>,
    /// A new limit of users; `null` lifts it.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>)]
    pub(crate) users_max: Option<Option<u32>>,
    /// Who may become a user; `invite` when nobody says. `request` and `open` need mail.
    #[schema(value_type = Option<schema::SignupMode>)]
    pub(crate) signup: Option<SignupMode>,
    /// Domains whose addresses may sign up, at most 100; `open` needs one.
    #[schema(example = json!(["acme.example"]))]
    pub(crate) signup_domains: Option<Vec<String>>,
    /// The id or code of the product of who signs up; `null` for none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    pub(crate) signup_product: Option<Option<String>>,
    /// Whether who signs up where `signup` is `open` is active at once, on the product, while there is a place; else they wait
    /// for an administrator. `false` when nobody says, and only with a product.
    pub(crate) signup_activates: Option<bool>,
    /// Who needs a second factor; `admins` when nobody says.
    #[schema(value_type = Option<schema::MfaRequired>)]
    pub(crate) mfa_required: Option<MfaRequired>,
    /// The language of people who have not chosen one; `en` when nobody says.
    #[schema(value_type = Option<schema::Language>)]
    pub(crate) locale: Option<Language>,
}

/// Which tenants.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TenantQuery {
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// List tenants in the order of their creation.
#[utoipa::path(get, path = "/tenants", operation_id = "list_tenants", tag = "tenants", params(TenantQuery),
    responses((status = 200, description = "A page of tenants", body = Listing<Tenant>), Problems))]
pub(crate) async fn list(desk: Desk, Params(query): Params<TenantQuery>) -> Result<Answer<Listing<Tenant>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    Ok(Answer(Listing::of(desk.store.tenants(page).await?, Tenant::from)))
}

/// Create a tenant.
#[utoipa::path(post, path = "/tenants", operation_id = "create_tenant", tag = "tenants", request_body = CreateTenant,
    responses((status = 201, description = "The new tenant", body = Tenant,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn create(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<CreateTenant>,
) -> Result<Versioned<Tenant>, Problem> {
    let new = body.check()?;
    let settings = joining!(body).over(TenantSettings::default(), &desk, new.currency).await?;
    let row = desk.store.create_tenant(&NewTenant { settings, ..new }, &act).await?;
    Ok(Versioned::created(row.version, row.into()))
}

/// Show a tenant.
#[utoipa::path(get, path = "/tenants/{tenant}", operation_id = "get_tenant", tag = "tenants",
    params(("tenant" = String, Path, description = "Id or slug")),
    responses((status = 200, description = "The tenant", body = Tenant,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn show(desk: Desk, Path(tenant): Path<String>) -> Result<Versioned<Tenant>, Problem> {
    Ok(lookup::tenant(&*desk.store, &tenant).await?.into())
}

/// Change a tenant. A suspended tenant's requests are refused at once.
#[utoipa::path(patch, path = "/tenants/{tenant}", operation_id = "update_tenant", tag = "tenants", request_body = ChangeTenant,
    params(("tenant" = String, Path, description = "Id or slug"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the change was made for")),
    responses((status = 200, description = "The tenant as it is now", body = Tenant,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn change(
    desk: Desk,
    Acting(act): Acting,
    Path(tenant): Path<String>,
    if_match: IfMatch,
    Json(body): Json<ChangeTenant>,
) -> Result<Versioned<Tenant>, Problem> {
    let mut checks = Checks::default();
    if let Some(name) = &body.name {
        checks.name("name", name);
    }
    checks.finish()?;
    let row = lookup::tenant(&*desk.store, &tenant).await?;
    if_match.check(row.version)?;
    let settings = joining!(body).over(row.settings.clone(), &desk, row.currency).await?;
    let patch = TenantPatch {
        name: body.name.map(Into::into),
        status: body.status,
        users_max: body.users_max,
        settings: (settings != row.settings).then_some(settings),
    };
    let row = desk.store.update_tenant(row.id, row.version, &patch, &act).await?;
    desk.changed().await;
    Ok(row.into())
}
