//! Changes codes and refresh tokens into tokens, and takes them back (RFC 6749 §4.1.3 and §6, RFC 7009).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cfr_billing::audit_log::{Act, Actor, ActorKind};
use cfr_billing::identity::{Tenant, User};
use cfr_billing::oidc::{Client, ClientSession, Code};
use cfr_billing::store::StoreError;
use cfr_core::time::Timestamp;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, PRAGMA};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::claims::{ACCESS_TOKEN, ACCESS_TOKEN_LASTS, AccessClaims, ID_TOKEN, IdClaims, Person};
use super::derived::Presented;
use super::params::Params;
use super::{OAuthError, Provider, SESSION_LASTS};
use crate::people::Visitor;

/// How long after a renewal the token before it still gives the same successor: Open WebUI's workers renew at the same time.
const RENEWAL_GRACE: Duration = Duration::from_mins(1);
/// Letters that a verifier of PKCE has (RFC 7636 §4.1).
const VERIFIER_LETTERS: std::ops::RangeInclusive<usize> = 43..=128;
/// How often a renewal is tried again when somebody else renewed the same at the same moment.
const TRIES_MAX: usize = 3;

/// What a client gets.
#[derive(Debug, Serialize)]
struct Tokens {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: String,
    id_token: String,
    scope: String,
}

/// What is signed into tokens.
struct Grant {
    session: ClientSession,
    holder: (User, Tenant),
    scopes: Vec<Arc<str>>,
    nonce: Option<Arc<str>>,
}

/// A code or a refresh token becomes tokens.
pub(super) async fn give(
    State(provider): State<Arc<Provider>>,
    visitor: Visitor,
    form: Bytes,
) -> Result<Response, OAuthError> {
    let form = Params::parse(&form)?;
    let client = provider.client_of(&visitor, &form).await?;
    let act = acting(&client, &visitor, provider.now());
    let grant = match form.get("grant_type") {
        Some("authorization_code") => provider.redeem(&client, &form, &act).await?,
        Some("refresh_token") => provider.renew(&client, &form, &act).await?,
        Some(_) => return Err(OAuthError::new("unsupported_grant_type", "authorization_code or refresh_token")),
        None => return Err(OAuthError::invalid_request("grant_type is missing")),
    };
    let tokens = provider.tokens(&client, grant, act.at).await?;
    let fresh = [(CACHE_CONTROL, HeaderValue::from_static("no-store")), (PRAGMA, HeaderValue::from_static("no-cache"))];
    Ok((fresh, Json(tokens)).into_response())
}

/// A client gives a token back: everything that hangs on it ends. It is told nothing about tokens that are none.
pub(super) async fn revoke(
    State(provider): State<Arc<Provider>>,
    visitor: Visitor,
    form: Bytes,
) -> Result<Response, OAuthError> {
    let form = Params::parse(&form)?;
    let client = provider.client_of(&visitor, &form).await?;
    let token = form.get("token").ok_or_else(|| OAuthError::invalid_request("token is missing"))?;
    if let Some(session) = provider.session_behind(&client, token).await? {
        let mut ended = session.ended(provider.now());
        ended.due_at = None; // the client knows
        let act = acting(&client, &visitor, provider.now());
        match provider.store.update_client_session(&ended, &act).await {
            Err(StoreError::Conflict { .. }) => {
                provider.end(provider.store.client_session(ended.id).await?, &act).await?
            }
            done => done?,
        }
        provider.told_to_end().await;
    }
    Ok(().into_response())
}

impl Provider {
    /// The first tokens, for a code that works once.
    async fn redeem(&self, client: &Client, form: &Params, act: &Act) -> Result<Grant, OAuthError> {
        let dead = || OAuthError::invalid_grant("the code is unknown, was used, or has ended");
        let presented = form.get("code").and_then(Presented::parse).filter(|code| code.generation == 0);
        let session = self.presented_session(client, presented.as_ref()).await?.ok_or_else(dead)?;
        let Some(code) = session.code.clone() else {
            self.end(session, act).await?; // who presents it a second time, or did the first time, is a thief
            return Err(dead());
        };
        check_code(&code, form, act.at)?;
        let holder = self.holder(&session).await?.ok_or_else(dead)?;
        let renewed = ClientSession {
            code: None,
            generation: 1,
            renewed_at: act.at,
            expires_at: session.created_at + SESSION_LASTS,
            version: session.version.saturating_add(1),
            ..session
        };
        match self.store.update_client_session(&renewed, act).await {
            Ok(()) => Ok(Grant { scopes: renewed.scopes.clone(), session: renewed, holder, nonce: code.nonce }),
            Err(StoreError::Conflict { .. }) => {
                self.end(self.store.client_session(renewed.id).await?, act).await?; // two redeemed it at once
                Err(dead())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next tokens, for a refresh token that works once, or a second time shortly after.
    async fn renew(&self, client: &Client, form: &Params, act: &Act) -> Result<Grant, OAuthError> {
        let dead = || OAuthError::invalid_grant("the refresh token is unknown, was used, or has ended");
        let presented = form.get("refresh_token").and_then(Presented::parse).filter(|token| token.generation > 0);
        for _ in 0..TRIES_MAX {
            let session = self.presented_session(client, presented.as_ref()).await?.ok_or_else(dead)?;
            let Some(holder) = self.holder(&session).await? else {
                self.end(session, act).await?;
                return Err(dead());
            };
            let scopes = narrowed(&session, form)?;
            let generation = presented.as_ref().map_or(0, |token| token.generation);
            let age = act.at.duration_since(session.renewed_at).unsigned_abs();
            if generation.saturating_add(1) == session.generation && age < RENEWAL_GRACE {
                return Ok(Grant { session, holder, scopes, nonce: None });
            }
            if generation != session.generation {
                self.end(session, act).await?; // a token that was replaced long ago is in two hands
                return Err(dead());
            }
            let renewed = ClientSession {
                generation: generation.saturating_add(1),
                renewed_at: act.at,
                version: session.version.saturating_add(1),
                ..session
            };
            match self.store.update_client_session(&renewed, act).await {
                Ok(()) => return Ok(Grant { session: renewed, holder, scopes, nonce: None }),
                Err(StoreError::Conflict { .. }) => {} // somebody else renewed it: theirs is our successor, too
                Err(error) => return Err(error.into()),
            }
        }
        Err(OAuthError::unavailable("a session at a client changes too often"))
    }

    /// The session of this client that a code or refresh token names, if the token was made here.
    async fn presented_session(
        &self,
        client: &Client,
        presented: Option<&Presented>,
    ) -> Result<Option<ClientSession>, StoreError> {
        let Some(presented) = presented else { return Ok(None) };
        let session = match self.store.client_session(presented.session).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        let theirs = session.client == client.id && self.derived.is_ours(presented, &session);
        Ok((theirs && session.ended_at.is_none()).then_some(session))
    }

    /// The session of this client that a token of any kind belongs to.
    async fn session_behind(&self, client: &Client, token: &str) -> Result<Option<ClientSession>, OAuthError> {
        if let Some(presented) = Presented::parse(token) {
            return Ok(self.presented_session(client, Some(&presented)).await?);
        }
        let verified = self.signing.verify::<AccessClaims>(token, ACCESS_TOKEN, self.issuer.as_str(), None).await;
        let Ok(claims) = verified.map_err(OAuthError::unavailable)? else { return Ok(None) };
        match self.store.client_session(claims.sid).await {
            Ok(session) => Ok((session.client == client.id && session.ended_at.is_none()).then_some(session)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn tokens(&self, client: &Client, grant: Grant, now: Timestamp) -> Result<Tokens, OAuthError> {
        let Grant { session, holder: (user, tenant), scopes, nonce } = grant;
        let person = Person::shown(&user, &tenant, scopes.iter().map(|scope| &**scope));
        let access = AccessClaims::new(&self.issuer, client, &session, &scopes, now);
        let id = IdClaims::new(&self.issuer, &session, nonce, person, now);
        Ok(Tokens {
            access_token: self.signing.sign(ACCESS_TOKEN, access).await.map_err(OAuthError::unavailable)?,
            token_type: "Bearer",
            expires_in: ACCESS_TOKEN_LASTS.as_secs(),
            refresh_token: self.derived.text(&session, session.generation),
            id_token: self.signing.sign(ID_TOKEN, id).await.map_err(OAuthError::unavailable)?,
            scope: scopes.join(" "),
        })
    }
}

/// The client has what only who asked for the code has.
fn check_code(code: &Code, form: &Params, now: Timestamp) -> Result<(), OAuthError> {
    if code.expires_at <= now {
        return Err(OAuthError::invalid_grant("the code has ended"));
    }
    if form.get("redirect_uri") != Some(&*code.redirect_uri) {
        return Err(OAuthError::invalid_grant("redirect_uri is not the one that the code was sent to"));
    }
    let verifier = form.get("code_verifier").unwrap_or_default();
    let answer = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let proved =
        VERIFIER_LETTERS.contains(&verifier.len()) && bool::from(answer.as_bytes().ct_eq(code.challenge.as_bytes()));
    if proved { Ok(()) } else { Err(OAuthError::invalid_grant("code_verifier does not answer the code_challenge")) }
}

/// The scopes of the new tokens: those that the client names, of those that it was given.
fn narrowed(session: &ClientSession, form: &Params) -> Result<Vec<Arc<str>>, OAuthError> {
    let wanted: Vec<&str> = form.words("scope").collect();
    if let Some(more) = wanted.iter().find(|scope| !session.scopes.iter().any(|given| ***scope == **given)) {
        return Err(OAuthError::new("invalid_scope", format!("scope: `{more}` was not given")));
    }
    let kept = |scope: &&Arc<str>| wanted.is_empty() || wanted.contains(&&***scope);
    Ok(session.scopes.iter().filter(kept).cloned().collect())
}

/// The client acts, from where it does.
fn acting(client: &Client, visitor: &Visitor, at: Timestamp) -> Act {
    let actor = Actor {
        id: Some(client.id.to_string().into()),
        address: visitor.address,
        agent: visitor.agent.clone(),
        request: visitor.request,
        ..Actor::of_kind(ActorKind::Key)
    };
    Act { by: Arc::new(actor), at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_challenge_opens_a_code() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"; // RFC 7636 appendix B
        let now = Timestamp::UNIX_EPOCH;
        let code = Code {
            redirect_uri: "https://chat.example/cb".into(),
            challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".into(),
            nonce: None,
            expires_at: now + Duration::from_secs(60),
        };
        let form = |uri: &str, verifier: &str| {
            Params::parse(format!("redirect_uri={uri}&code_verifier={verifier}").as_bytes()).expect("well formed")
        };
        let uri = "https://chat.example/cb";
        assert_eq!(check_code(&code, &form(uri, verifier), now), Ok(()));
        for (uri, verifier) in
            [("https://chat.example/cb/", verifier), (uri, &verifier[1..]), (uri, "short"), (uri, "")]
        {
            assert!(check_code(&code, &form(uri, verifier), now).is_err(), "{uri} {verifier}");
        }
        assert!(check_code(&code, &form(uri, verifier), code.expires_at).is_err());
    }
}
