//! What a fresh data folder gets: found when it is there already, made when it is missing.

use std::io::Write;
use std::sync::Arc;

use cfr_billing::audit_log::Act;
use cfr_billing::identity::{KeyKind, NewTenant, NewUser, Role, Tenant, TenantKind, User};
use cfr_billing::plan::{NewProduct, ProductVersion, Terms};
use cfr_billing::store::StoreError;
use cfr_core::id::{ProductVersionId, TenantId};
use cfr_core::money::Currency;
use cfr_core::time::{Period, TimeZone};

use crate::auth::{KeyText, KeyWish};
use crate::config::Config;
use crate::database::make_data_folder;
use crate::files::create_private;
use crate::state::{Books, StartError};

/// What the id of the first key for the management API is agreed upon as.
const FIRST_ADMIN_KEY: &str = "first_admin_key";
/// The file in the data folder that holds the first key for the management API.
pub const ADMIN_KEY_FILE: &str = "admin.key";

/// Makes a key for the management API on the first start and writes it into a private file, unless the operator brings
/// one in `CFR_ADMIN_KEY`. There are no default credentials. Of several servers that share a database, one makes it.
///
/// # Errors
/// When the file or the store cannot be written.
pub async fn first_admin_key(config: &Config, books: &Books) -> Result<(), StartError> {
    let path = config.data.join(ADMIN_KEY_FILE);
    if config.admin_key.is_some() || path.exists() || books.database.agreed(FIRST_ADMIN_KEY).await?.is_some() {
        return Ok(());
    }
    let (text, key) = books.keys.issue(admin_wish("first admin key"), &act(books)).await?;
    make_data_folder(&config.data)?;
    let written = create_private(&path).and_then(|mut file| writeln!(file, "{}", text.expose()));
    let failed = |source| StartError::File { path: path.clone(), source };
    written.map_err(failed)?;
    let id = key.id.to_string().into_bytes();
    if books.database.agree(FIRST_ADMIN_KEY, &id, books.clock.now()).await? != id {
        books.store.revoke_key(key.id, &act(books)).await?; // another server made one at the same moment
        return std::fs::remove_file(&path).map_err(failed);
    }
    tracing::info!(file = %path.display(), "made a key for the management API");
    Ok(())
}

/// What the server does by itself.
fn act(books: &Books) -> Act {
    Act::of_system(books.clock.now())
}

/// A key for the management API.
#[must_use]
pub fn admin_wish(name: &str) -> KeyWish {
    KeyWish::new(KeyKind::Admin, name)
}

/// The tenant with this slug.
///
/// # Errors
/// When the store fails.
pub async fn tenant(books: &Books, slug: &str, name: &str, zone: TimeZone) -> Result<Tenant, StoreError> {
    if let Some(tenant) = books.store.tenant_by_slug(slug).await? {
        return Ok(tenant);
    }
    let new = NewTenant {
        slug: slug.into(),
        name: name.into(),
        domain: None,
        kind: TenantKind::Demo,
        users_max: None,
        zone,
        currency: Currency::EUR,
        settings: Default::default(),
    };
    books.store.create_tenant(&new, &act(books)).await
}

/// The product with this code, in its newest version.
///
/// # Errors
/// When the store fails.
pub async fn product(books: &Books, code: &str, terms: Terms) -> Result<ProductVersion, StoreError> {
    if let Some(product) = books.store.product_by_code(code).await? {
        return Ok(product.current);
    }
    books.store.publish_product(&NewProduct { code: code.into(), terms }, &act(books)).await
}

/// The user with this address; a new one gets a budget by the product's terms.
///
/// # Errors
/// When the store fails.
pub async fn user(
    books: &Books,
    tenant: TenantId,
    email: &str,
    name: &str,
    product_version: ProductVersionId,
) -> Result<User, StoreError> {
    if let Some(user) = books.store.user_by_email(email).await?.filter(|user| user.tenant == tenant) {
        return Ok(user);
    }
    let new = NewUser {
        tenant,
        email: email.into(),
        name: name.into(),
        role: Role::User,
        product_version: Some(product_version),
        locale: None,
    };
    books.store.create_user(&new, &act(books)).await
}

/// The key with this text when somebody has one that works; else it is stored, or a new one is made.
///
/// # Errors
/// When the store fails.
pub async fn key(books: &Books, text: Option<KeyText>, wish: KeyWish) -> Result<KeyText, StoreError> {
    let Some(text) = text else { return Ok(books.keys.issue(wish, &act(books)).await?.0) };
    if books.keys.knows(&text).await? {
        return Ok(text);
    }
    match books.keys.import(wish.clone(), &text, &act(books)).await {
        Ok(_) => Ok(text),
        Err(StoreError::Conflict { .. }) => Ok(books.keys.issue(wish, &act(books)).await?.0), // revoked: it stays so
        Err(error) => Err(error),
    }
}

/// The three products of the price list (DESIGN §9).
#[must_use]
pub fn products() -> [(&'static str, Terms); 3] {
    let monthly = |name: &str, price_minor, budget_units: i64| Terms {
        name: name.into(),
        description: Arc::from(""),
        price_minor,
        currency: Currency::EUR,
        budget_included_nanos: budget_units * cfr_core::money::NANOS_PER_UNIT,
        period: Period::CalendarMonth,
        models: vec!["*".into()],
        features: vec!["api_access".into()],
        requests_per_minute: None,
        parallel_requests_max: None,
        output_tokens_default: None,
        margin_bps: cfr_core::money::Margin::DEFAULT.bps(),
        seats: None,
    };
    let starter = Terms {
        description: "For one person. Every model but the largest.".into(),
        models: ["gpt-*", "claude-sonnet-*", "claude-haiku-*", "gemini-*", "text-embedding-*", "fast"]
            .map(Arc::from)
            .into(),
        requests_per_minute: Some(300),
        parallel_requests_max: Some(20),
        seats: Some(1),
        ..monthly("Starter", 999, 25)
    };
    let professional = Terms {
        description: "For a team of five. Every model.".into(),
        requests_per_minute: Some(1_200),
        parallel_requests_max: Some(100),
        seats: Some(5),
        ..monthly("Professional", 2_999, 100)
    };
    let enterprise = Terms {
        description: "For a company. Every model, no rate limit.".into(),
        ..monthly("Enterprise", 29_900, 1_000)
    };
    [("starter", starter), ("professional", professional), ("enterprise", enterprise)]
}
