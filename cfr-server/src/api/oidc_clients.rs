//! `/oidc-clients`: programs that people of a tenant sign in to with their account here, such as its Open WebUI.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::Path;
use cfr_billing::oidc::Client;
use cfr_billing::store::Store;
use cfr_core::id::{ClientId, TenantId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::idempotency::ShownOnce;
use super::input::{Checks, Json, Params, nullable};
use super::page::{Listing, page_request};
use super::precondition::{IfMatch, Versioned};
use super::problem::{Problem, Problems};
use super::{lookup, schema};
use crate::oidc::client::{URIS_MAX, check_uri};
use crate::people::secret;

/// The fields of an answer that are shown once.
const SECRETS: &[&str] = &["client_secret"];

/// A program that people sign in to with their account here, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OidcClient {
    /// Its id, which it sends as `client_id`.
    #[schema(value_type = schema::ClientId)]
    id: ClientId,
    /// Whose people may sign in to it.
    #[schema(value_type = schema::TenantId)]
    tenant: TenantId,
    /// For people.
    #[schema(value_type = String, example = "Open WebUI")]
    name: Arc<str>,
    /// Where people are sent with a code; compared letter by letter.
    #[schema(value_type = Vec<String>, example = json!(["https://chat.example.com/oauth/oidc/login/callback"]))]
    redirect_uris: Vec<Arc<str>>,
    /// Where people may be sent after they signed out.
    #[schema(value_type = Vec<String>)]
    post_logout_uris: Vec<Arc<str>>,
    /// Where it is told that somebody signed out.
    #[schema(value_type = Option<String>, example = "https://chat.example.com/oauth/backchannel-logout")]
    backchannel_uri: Option<Arc<str>>,
    /// Whether it is the tenant's own: people are not asked for their consent, and its access tokens open `/v1`.
    first_party: bool,
    /// When it was shut out for good.
    #[schema(value_type = Option<schema::Time>)]
    revoked_at: Option<Timestamp>,
    /// Counts changes; also in `etag`.
    version: i64,
    /// When it was made.
    #[schema(value_type = schema::Time)]
    created_at: Timestamp,
    /// When it was last changed, or got another secret.
    #[schema(value_type = schema::Time)]
    updated_at: Timestamp,
}

impl From<Client> for OidcClient {
    fn from(row: Client) -> Self {
        let Client { id, tenant, name, redirect_uris, post_logout_uris, backchannel_uri, .. } = row;
        let Client { first_party, revoked_at, version, created_at, updated_at, .. } = row;
        Self {
            id,
            tenant,
            name,
            redirect_uris,
            post_logout_uris,
            backchannel_uri,
            first_party,
            revoked_at,
            version,
            created_at,
            updated_at,
        }
    }
}

impl From<Client> for Versioned<OidcClient> {
    fn from(row: Client) -> Self {
        Self::ok(row.version, row.into())
    }
}

/// A client with a new secret. It is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewOidcClient {
    /// The client.
    #[serde(flatten)]
    client: OidcClient,
    /// What it proves itself with. It is stored nowhere, and null when the same request is repeated: whoever lost it rotates
    /// it.
    #[schema(example = "q5kq1bVmJc0m7Z8sVx4cQ2yDkq0eJ9uT3hW6nR1pLaE")]
    client_secret: Option<String>,
}

/// A client to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateOidcClient {
    /// The tenant, by id or slug; the caller's own when absent.
    tenant: Option<String>,
    /// For people.
    #[schema(example = "Open WebUI")]
    name: String,
    /// Where people are sent with a code, 1 to 20.
    #[schema(example = json!(["https://chat.example.com/oauth/oidc/login/callback"]))]
    redirect_uris: Vec<String>,
    /// Where people may be sent after they signed out.
    #[serde(default)]
    post_logout_uris: Vec<String>,
    /// Where it is told that somebody signed out.
    backchannel_uri: Option<String>,
    /// Whether it is the tenant's own; it is not when absent.
    #[serde(default)]
    first_party: bool,
}

/// What to change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeOidcClient {
    /// A new name.
    name: Option<String>,
    /// New addresses, all of them.
    redirect_uris: Option<Vec<String>>,
    /// New addresses, all of them.
    post_logout_uris: Option<Vec<String>>,
    /// A new address; null for none.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    backchannel_uri: Option<Option<String>>,
    /// Whether it is the tenant's own.
    first_party: Option<bool>,
}

/// Which clients.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OidcClientQuery {
    /// Only those of this tenant, by id or slug.
    tenant: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// List clients in the order of their creation; those that were revoked too.
#[utoipa::path(get, path = "/oidc-clients", operation_id = "list_oidc_clients", tag = "oidc-clients",
    params(OidcClientQuery), responses((status = 200, description = "A page of clients", body = Listing<OidcClient>), Problems))]
pub(crate) async fn list(
    desk: Desk,
    Params(query): Params<OidcClientQuery>,
) -> Result<Answer<Listing<OidcClient>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let named = lookup::tenant_filter(&*desk.store, query.tenant.as_deref()).await?;
    let tenant = named.or(desk.view.reach().tenant());
    Ok(Answer(Listing::of(desk.within(tenant)?.clients(tenant, page).await?, OidcClient::from)))
}

/// Register a client. The answer is the only place where its secret is ever shown.
#[utoipa::path(post, path = "/oidc-clients", operation_id = "create_oidc_client", tag = "oidc-clients",
    request_body = CreateOidcClient,
    responses((status = 201, description = "The new client with its secret", body = NewOidcClient), Problems))]
pub(crate) async fn create(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<CreateOidcClient>,
) -> Result<ShownOnce<NewOidcClient>, Problem> {
    let tenant = owner(&desk, body.tenant.as_deref()).await?;
    let mut checks = Checks::default();
    checks.name("name", &body.name);
    let client = Client {
        id: ClientId::generate(act.at),
        tenant,
        name: body.name.into(),
        redirect_uris: redirect_uris(&mut checks, &body.redirect_uris),
        post_logout_uris: uris(&mut checks, "post_logout_uris", &body.post_logout_uris),
        backchannel_uri: uri(&mut checks, "backchannel_uri", body.backchannel_uri.as_deref()),
        first_party: body.first_party,
        revoked_at: None,
        version: 1,
        created_at: act.at,
        updated_at: act.at,
    };
    checks.finish()?;
    let (text, hash) = secret::generate();
    desk.within(Some(tenant))?.add_client(&client, &hash, &act).await?;
    Ok(shown_once(client, text.expose()))
}

/// Show a client, without its secret.
#[utoipa::path(get, path = "/oidc-clients/{client}", operation_id = "get_oidc_client", tag = "oidc-clients",
    params(("client" = schema::ClientId, Path, description = "Id")),
    responses((status = 200, description = "The client", body = OidcClient,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn show(desk: Desk, Path(client): Path<String>) -> Result<Versioned<OidcClient>, Problem> {
    Ok(found(&desk, &client).await?.0.into())
}

/// Change a client. It holds for its next request.
#[utoipa::path(patch, path = "/oidc-clients/{client}", operation_id = "update_oidc_client", tag = "oidc-clients",
    request_body = ChangeOidcClient,
    params(("client" = schema::ClientId, Path, description = "Id"),
        ("if-match" = Option<String>, Header, description = "The `etag` that the change was made for")),
    responses((status = 200, description = "The client as it is now", body = OidcClient,
        headers(("etag" = String, description = "Its version, for `if-match`"))), Problems))]
pub(crate) async fn change(
    desk: Desk,
    Acting(act): Acting,
    Path(client): Path<String>,
    if_match: IfMatch,
    Json(body): Json<ChangeOidcClient>,
) -> Result<Versioned<OidcClient>, Problem> {
    let (mut client, store) = usable(&desk, &client).await?;
    if_match.check(client.version)?;
    let mut checks = Checks::default();
    if let Some(name) = body.name {
        checks.name("name", &name);
        client.name = name.into();
    }
    if let Some(addresses) = &body.redirect_uris {
        client.redirect_uris = redirect_uris(&mut checks, addresses);
    }
    if let Some(addresses) = &body.post_logout_uris {
        client.post_logout_uris = uris(&mut checks, "post_logout_uris", addresses);
    }
    if let Some(address) = &body.backchannel_uri {
        client.backchannel_uri = uri(&mut checks, "backchannel_uri", address.as_deref());
    }
    client.first_party = body.first_party.unwrap_or(client.first_party);
    checks.finish()?;
    let client = next(client, act.at);
    store.update_client(&client, None, &act).await?;
    desk.changed().await;
    Ok(client.into())
}

/// Give a client a new secret. The one before stops working at once.
#[utoipa::path(post, path = "/oidc-clients/{client}/rotate", operation_id = "rotate_oidc_client", tag = "oidc-clients",
    params(("client" = schema::ClientId, Path, description = "Id")),
    responses((status = 201, description = "The client with its new secret", body = NewOidcClient), Problems))]
pub(crate) async fn rotate(
    desk: Desk,
    Acting(act): Acting,
    Path(client): Path<String>,
) -> Result<ShownOnce<NewOidcClient>, Problem> {
    let (client, store) = usable(&desk, &client).await?;
    let (text, hash) = secret::generate();
    let client = next(client, act.at);
    store.update_client(&client, Some(&hash), &act).await?;
    Ok(shown_once(client, text.expose()))
}

/// Shut a client out for good. What it holds of people ends at once.
#[utoipa::path(post, path = "/oidc-clients/{client}/revoke", operation_id = "revoke_oidc_client", tag = "oidc-clients",
    params(("client" = schema::ClientId, Path, description = "Id")),
    responses((status = 200, description = "The client as it is now", body = OidcClient), Problems))]
pub(crate) async fn revoke(
    desk: Desk,
    Acting(act): Acting,
    Path(client): Path<String>,
) -> Result<Answer<OidcClient>, Problem> {
    let (client, store) = found(&desk, &client).await?;
    if client.revoked_at.is_some() {
        return Ok(Answer(client.into()));
    }
    let client = Client { revoked_at: Some(act.at), ..next(client, act.at) };
    store.update_client(&client, None, &act).await?;
    desk.changed().await;
    Ok(Answer(client.into()))
}

/// A client within reach, and the store that keeps it.
async fn found<'a>(desk: &'a Desk, id: &str) -> Result<(Client, &'a Arc<dyn Store>), Problem> {
    let client = desk.oidc().client(lookup::id(id, "client")?).await?;
    let store = desk.within(Some(client.tenant)).map_err(|_| Problem::not_found("client"))?;
    Ok((client, store))
}

/// The same of one that was not revoked.
async fn usable<'a>(desk: &'a Desk, id: &str) -> Result<(Client, &'a Arc<dyn Store>), Problem> {
    let (client, store) = found(desk, id).await?;
    match client.revoked_at {
        None => Ok((client, store)),
        Some(_) => Err(Problem::conflict("the client was revoked for good: register another one")),
    }
}

async fn owner(desk: &Desk, named: Option<&str>) -> Result<TenantId, Problem> {
    match (named, desk.view.reach().tenant()) {
        (Some(name), _) => Ok(lookup::named("tenant", lookup::tenant(&*desk.store, name).await)?.id),
        (None, Some(own)) => Ok(own),
        (None, None) => Err(Problem::invalid_field("tenant", "whose people may sign in to it?")),
    }
}

fn next(client: Client, now: Timestamp) -> Client {
    Client { version: client.version.saturating_add(1), updated_at: now, ..client }
}

fn redirect_uris(checks: &mut Checks, texts: &[String]) -> Vec<Arc<str>> {
    checks.require(!texts.is_empty(), "redirect_uris", "at least one");
    uris(checks, "redirect_uris", texts)
}

fn uris(checks: &mut Checks, field: &str, texts: &[String]) -> Vec<Arc<str>> {
    checks.require(texts.len() <= URIS_MAX, field, "at most 20");
    texts.iter().filter_map(|text| uri(checks, field, Some(text))).collect()
}

fn uri(checks: &mut Checks, field: &str, text: Option<&str>) -> Option<Arc<str>> {
    checks.take(field, check_uri(text?))
}

fn shown_once(client: Client, secret: &str) -> ShownOnce<NewOidcClient> {
    ShownOnce {
        body: NewOidcClient { client: client.into(), client_secret: Some(secret.to_owned()) },
        secrets: SECRETS,
    }
}
