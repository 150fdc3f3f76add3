//! Shows who somebody is to whoever has their access token (OpenID Connect Core 1.0 §5.3).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cfr_billing::store::StoreError;
use http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::claims::{ACCESS_TOKEN, AccessClaims, Person, userinfo};
use super::{OAuthError, Provider};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const INVALID_TOKEN: HeaderValue = HeaderValue::from_static("Bearer error=\"invalid_token\"");

/// What the scopes of the token show of its user as they are now.
pub(super) async fn show(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Result<Response, OAuthError> {
    let token = bearer(&headers).unwrap_or_default();
    match provider.person(token).await? {
        Some(person) => Ok(([(CACHE_CONTROL, NO_STORE)], Json(person)).into_response()),
        None => Ok((StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, INVALID_TOKEN)]).into_response()),
    }
}

impl Provider {
    async fn person(&self, token: &str) -> Result<Option<Person>, OAuthError> {
        let audience = userinfo(&self.issuer);
        let verified = self.signing.verify::<AccessClaims>(token, ACCESS_TOKEN, self.issuer.as_str(), Some(&audience));
        let Ok(claims) = verified.await.map_err(OAuthError::unavailable)? else { return Ok(None) };
        if claims.exp <= self.now().as_second() {
            return Ok(None);
        }
        let session = match self.store.client_session(claims.sid).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        let holder = self.holder(&session).await?;
        Ok(holder.map(|(user, tenant)| Person::shown(&user, &tenant, claims.scope.split(' '))))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
