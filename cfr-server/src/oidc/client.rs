//! Who a client is, and what one may be registered with.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cfr_billing::oidc::Client;
use cfr_billing::store::StoreError;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq as _;
use url::Url;

use super::issuer::is_safe;
use super::params::Params;
use super::{OAuthError, Provider};
use crate::people::{Visitor, secret};

/// Addresses that a client may have of one kind.
pub const URIS_MAX: usize = 20;
/// Bytes of one address.
pub const URI_BYTES_MAX: usize = 2_000;

/// Passes an address that browsers may be sent to, or that we may tell something.
///
/// # Errors
/// What is wrong with it.
pub fn check_uri(text: &str) -> Result<Arc<str>, &'static str> {
    if text.len() > URI_BYTES_MAX {
        return Err("at most 2000 bytes");
    }
    let url = Url::parse(text).map_err(|_| "an address as in https://chat.example.com/oauth/oidc/login/callback")?;
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("an address without a fragment and without a user");
    }
    if !is_safe(&url) {
        return Err("https, or http on this machine alone");
    }
    Ok(text.into())
}

impl Provider {
    /// The client that sends this, which proved it with its secret, in a header or in the form (RFC 6749 §2.3.1).
    pub(super) async fn client_of(&self, visitor: &Visitor, form: &Params) -> Result<Client, OAuthError> {
        let basic = basic(&visitor.headers)?;
        let (id, secret) = match (&basic, form.get("client_secret")) {
            (Some(_), Some(_)) => return Err(OAuthError::invalid_request("the client proves itself in two ways")),
            (Some((id, secret)), None) => (id.as_str(), secret.as_str()),
            (None, Some(secret)) => (form.get("client_id").unwrap_or_default(), secret),
            (None, None) => return Err(OAuthError::invalid_client(false)),
        };
        if basic.is_some() && form.get("client_id").is_some_and(|other| other != id) {
            return Err(OAuthError::invalid_request("two clients are named"));
        }
        let refused = || OAuthError::invalid_client(basic.is_some());
        let client = self.client_with(id).await?.ok_or_else(refused)?;
        if self.is_proved(&client, secret).await? {
            return Ok(client);
        }
        self.people.note_refused(visitor, &client.refused()).await?;
        Err(refused())
    }

    async fn is_proved(&self, client: &Client, secret: &str) -> Result<bool, StoreError> {
        let Some(presented) = secret::hash_of(secret) else { return Ok(false) };
        let kept = self.store.client_secret(client.id).await?;
        Ok(bool::from(kept.0.ct_eq(&presented.0)) && client.revoked_at.is_none())
    }

    async fn client_with(&self, id: &str) -> Result<Option<Client>, StoreError> {
        let Ok(id) = id.parse() else { return Ok(None) };
        match self.store.client(id).await {
            Err(StoreError::NotFound { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// A client that is in use, without a proof.
    pub(super) async fn known_client(&self, id: Option<&str>) -> Result<Option<Client>, StoreError> {
        let found = self.client_with(id.unwrap_or_default()).await?;
        Ok(found.filter(|client| client.revoked_at.is_none()))
    }
}

/// Name and secret of the header, each of which is written as in a form before it is base64.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, OAuthError> {
    let Some(header) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let pair = || {
        let (scheme, value) = header.to_str().ok()?.split_once(' ')?;
        let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(value.trim()).ok())??;
        let text = String::from_utf8(decoded).ok()?;
        let (id, secret) = text.split_once(':')?;
        Some((form_decoded(id), form_decoded(secret)))
    };
    pair().map(Some).ok_or_else(|| OAuthError::invalid_client(true))
}

fn form_decoded(text: &str) -> String {
    form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_sent_only_where_nobody_listens_in() {
        for fine in ["https://chat.example/oauth/oidc/callback", "http://localhost:3000/cb?x=1", "http://127.0.0.1/cb"]
        {
            assert_eq!(check_uri(fine).as_deref(), Ok(fine));
        }
        let long = format!("https://chat.example/{}", "a".repeat(URI_BYTES_MAX));
        for wrong in [
            "chat.example",
            "http://chat.example/cb",
            "https://a.example/#x",
            "https://u:p@a.example",
            "javascript:alert(1)",
            &long,
        ] {
            assert!(check_uri(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn name_and_secret_come_as_the_standard_says() {
        let headers = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().expect("a header"))]);
        let read = |value: &str| basic(&headers(value));
        let encoded = format!("Basic {}", STANDARD.encode("app_1:a%2Bb"));
        assert_eq!(read(&encoded), Ok(Some(("app_1".into(), "a+b".into()))));
        assert_eq!(basic(&HeaderMap::new()), Ok(None));
        for wrong in ["Bearer x", "Basic !!", "Basic YWJj"] {
            assert_eq!(read(wrong).map_err(|error| error.code), Err("invalid_client"), "{wrong}");
        }
    }
}
