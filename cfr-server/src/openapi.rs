//! The description of every path, at `/openapi.json`: made from the handlers, so that it cannot drift from them.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Components, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa::{OpenApi as _, PartialSchema as _, ToSchema as _};

use crate::api;
use crate::api::problem::{FieldError, Problem};
use crate::error::APPLICATION_JSON;
use crate::people::{self, cookie};

mod names;
#[expect(dead_code, reason = "it only describes what `oidc` answers")]
mod oauth;
#[expect(dead_code, reason = "its functions only describe what other modules answer")]
mod surface;

/// The name of the scheme that admin keys are sent by.
const ADMIN_KEY: &str = "admin_key";
/// The name of the scheme that keys for models are sent by.
const API_KEY: &str = "api_key";

/// The name of the scheme of people who signed in.
const SESSION: &str = "session";
/// The name of the scheme of tokens that programs get for people.
const ACCESS_TOKEN: &str = "access_token";

/// The groups of paths, in reading order.
const TAGS: &[(&str, &str)] = &[
    ("batches", "Files of requests and batches, which a provider answers within a day"),
    ("models", "Calls to models, as OpenAI's clients make them"),
    ("operation", "Health and metrics"),
    ("tenants", "Customer organisations"),
    ("products", "What is sold; versions are immutable"),
    ("users", "People inside tenants"),
    ("invitations", "Who may become a user of a tenant"),
    ("people", "Signing in: passwords, second factors, sessions"),
    ("subscriptions", "Who is on which terms, since when, and for how long"),
    ("leads", "Who asked to be told more"),
    ("keys", "API keys; a secret is shown once"),
    ("budgets", "Limits per period, live balances, grants"),
    ("usage", "What was used and charged"),
    ("prices", "What providers charge"),
    ("provider accounts", "Accounts at providers, beside those of the configuration; a secret is never shown"),
    ("oidc-clients", "Programs that people sign in to with their account here (OpenID Connect)"),
    ("oauth", "What those programs use, as OpenID Connect and OAuth 2.0 have it"),
    ("secrets", "The keys under which secrets are sealed"),
    ("audit", "Who changed what, when, and from where"),
    ("nodes", "The processes that share the database"),
];

/// Answers `/openapi.json`.
pub async fn document() -> Response {
    static BODY: LazyLock<Bytes> = LazyLock::new(|| description().to_json().unwrap_or_default().into());
    ([(CONTENT_TYPE, APPLICATION_JSON)], BODY.clone()).into_response()
}

/// The whole document.
#[must_use]
pub fn description() -> OpenApi {
    let (_, mut management) = api::routes().split();
    for item in management.paths.paths.values_mut() {
        for operation in api::operations(item) {
            let by = |scheme| SecurityRequirement::new::<_, [&str; 0], _>(scheme, []);
            operation.security = Some(vec![by(ADMIN_KEY), by(SESSION)]);
        }
    }
    let mut document = frame().nest(api::BASE_PATH, management);
    document = document.nest(people::routes::BASE_PATH, people());
    document.merge(surface::Surface::openapi());
    document.merge(oauth::OAuth::openapi());
    document.components.iter_mut().for_each(names::name_parts);
    document
}

/// What people do who sign in: a session is a cookie.
fn people() -> OpenApi {
    let (_, mut document) = people::routes::routes().split_for_parts();
    let closed = document.paths.paths.iter_mut().filter(|(path, _)| !people::routes::OPEN.contains(&path.as_str()));
    for (_, item) in closed {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], _>(SESSION, [])]);
        }
    }
    document
}

fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("CloudFreedom Router")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("An LLM gateway that cannot overspend. Amounts are decimal numbers in text, times RFC 3339, errors of the management API `application/problem+json`."))
        .build();
    let mut components = Components::new();
    components.schemas.insert(Problem::name().into(), Problem::schema());
    components.schemas.insert(FieldError::name().into(), FieldError::schema());
    let scheme = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An admin key, `cfr_adm_…`, or a service key with scopes, `cfr_svc_…`"))
        .build();
    components.add_security_scheme(ADMIN_KEY, SecurityScheme::Http(scheme));
    let scheme = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key of a user or a service, `cfr_live_…`"))
        .build();
    components.add_security_scheme(API_KEY, SecurityScheme::Http(scheme));
    let scheme = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("An access token of `/oauth/token`"))
        .build();
    components.add_security_scheme(ACCESS_TOKEN, SecurityScheme::Http(scheme));
    let about = "The cookie of a session; changes also take its token as the header `x-csrf-token`";
    let cookie = ApiKey::Cookie(ApiKeyValue::with_description(cookie::SESSION, about));
    components.add_security_scheme(SESSION, SecurityScheme::ApiKey(cookie));
    let tags = TAGS.iter().map(|(name, about)| TagBuilder::new().name(*name).description(Some(*about)).build());
    OpenApiBuilder::new().info(info).components(Some(components)).tags(Some(tags)).build()
}
