//! What the provider is and can do, for clients to read.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use serde_json::{Value, json};

use super::claims::SCOPES;
use super::{AUTHORIZE, JWKS, LOGOUT, OAuthError, Provider, REVOKE, TOKEN, USERINFO};

/// How long clients may keep what is published.
const PUBLISHED: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// How clients prove who they are.
const CLIENT_METHODS: [&str; 2] = ["client_secret_basic", "client_secret_post"];
/// What tokens may say of somebody.
const CLAIMS: [&str; 18] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "auth_time",
    "nonce",
    "sid",
    "amr",
    "tid",
    "email",
    "email_verified",
    "name",
    "locale",
    "updated_at",
    "roles",
    "groups",
    "jti",
];

/// The description (OpenID Connect Discovery 1.0 §3, RFC 8414 §2).
pub(super) async fn show(State(provider): State<Arc<Provider>>) -> Response {
    ([(CACHE_CONTROL, PUBLISHED)], Json(description(&provider))).into_response()
}

/// The keys (RFC 7517).
pub(super) async fn keys(State(provider): State<Arc<Provider>>) -> Result<Response, OAuthError> {
    let keys = provider.signing.published().await.map_err(OAuthError::unavailable)?;
    Ok(([(CACHE_CONTROL, PUBLISHED)], Json(keys)).into_response())
}

fn description(provider: &Provider) -> Value {
    let issuer = &provider.issuer;
    json!({
        "issuer": issuer.as_str(),
        "authorization_endpoint": issuer.at(AUTHORIZE),
        "token_endpoint": issuer.at(TOKEN),
        "userinfo_endpoint": issuer.at(USERINFO),
        "jwks_uri": issuer.at(JWKS),
        "revocation_endpoint": issuer.at(REVOKE),
        "end_session_endpoint": issuer.at(LOGOUT),
        "scopes_supported": SCOPES,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": CLIENT_METHODS,
        "revocation_endpoint_auth_methods_supported": CLIENT_METHODS,
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "claims_supported": CLAIMS,
        "ui_locales_supported": ["en", "de"],
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
    })
}
