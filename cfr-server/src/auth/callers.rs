//! Who calls models: whoever has a key, an access token of our own provider, or a user whom a chat front-end names.
//!
//! A token's signature is checked once, then the token is known by its hash. What it opens is read again every ten seconds,
//! and at once after every change and every end of a session that this server hears of, as with keys.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use cfr_billing::store::{Store, StoreError};
use cfr_core::gateway::Caller;
use cfr_core::id::{ClientSessionId, KeyId};
use cfr_core::time::{Clock, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use quick_cache::sync::Cache;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::caller::user_caller;
use super::{AuthError, Keys, Principal, presented};
use crate::oidc::Provider;
use crate::oidc::claims::{ACCESS_TOKEN, AccessClaims, GATEWAY_AUDIENCE};

/// In this header Open WebUI names the user of a request, signed with the key that it presents.
const FORWARDED_USER: HeaderName = HeaderName::from_static("x-openwebui-user-jwt");
/// Who signs it.
const FORWARDER: &str = "open-webui";
/// How long a forwarded name may work, whatever it says.
const FORWARDED_FOR: Duration = Duration::from_mins(5);
/// How far the clocks of the front-end and of this server may differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);
/// How long it is believed what somebody may do.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// The same while the notices of other replicas do not arrive.
const KNOWN_FOR_UNTOLD: Duration = Duration::from_secs(1);
/// Tokens and people that are remembered.
const REMEMBERED: usize = 50_000;
/// Bytes of a token: ours have about a thousand.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// No key is longer, and no token of ours shorter.
const TOKEN_BYTES_MIN: usize = 257;

/// Everybody who may call models.
#[derive(Debug)]
pub struct Callers {
    keys: Arc<Keys>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// None where this server is no OpenID provider.
    provider: Option<Arc<Provider>>,
    tokens: Cache<[u8; 32], Arc<AccessClaims>>,
    people: Cache<Who, Memory>,
}

/// Whom something is remembered of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    /// The user of a client's session.
    Session(ClientSessionId),
    /// The user whom a key names by their address.
    Named(KeyId, Box<str>),
}

/// What is remembered.
#[derive(Debug, Clone)]
struct Memory {
    caller: Result<Arc<Caller>, AuthError>,
    /// In uptime.
    read_at: Duration,
    generation: u64,
}

/// What a front-end says of its user. Times are in seconds since 1970.
#[derive(Debug, Deserialize)]
struct Forwarded {
    email: Box<str>,
    exp: i64,
}

impl Callers {
    /// Those who have keys of these, and users of this store.
    #[must_use]
    pub fn new(keys: Arc<Keys>, store: Arc<dyn Store>, clock: Arc<dyn Clock>, provider: Option<Arc<Provider>>) -> Self {
        let (tokens, people) = (Cache::new(REMEMBERED), Cache::new(REMEMBERED));
        Self { keys, store, clock, provider, tokens, people }
    }

    /// Who calls with these headers from this address, and the key where there is one.
    ///
    /// # Errors
    /// When nobody does who may.
    pub async fn caller(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
    ) -> Result<(Arc<Caller>, Option<Arc<Principal>>), AuthError> {
        let text = presented(headers).ok_or(AuthError::Missing)?;
        if let Some(provider) = self.provider.as_ref().filter(|_| may_be_token(text)) {
            return Ok((self.bearer(provider, text).await?, None));
        }
        let principal = self.keys.authenticate(headers, address).await?;
        let caller = match headers.get(FORWARDED_USER).filter(|_| principal.context.key.rules.on_behalf_of) {
            Some(named) => self.named(&principal, text, named.to_str().unwrap_or_default()).await?,
            None => Arc::clone(principal.caller()?),
        };
        Ok((caller, Some(principal)))
    }

    /// The user of an access token.
    async fn bearer(&self, provider: &Provider, token: &str) -> Result<Arc<Caller>, AuthError> {
        let claims = self.claims(provider, token).await?;
        if claims.exp <= self.clock.now().as_second() {
            return Err(AuthError::Expired);
        }
        self.remembered(Who::Session(claims.sid), self.session_caller(provider, &claims)).await
    }

    async fn claims(&self, provider: &Provider, token: &str) -> Result<Arc<AccessClaims>, AuthError> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.tokens.get(&hash) {
            return Ok(known);
        }
        let (issuer, audience) = (provider.issuer().as_str(), Some(GATEWAY_AUDIENCE));
        let verified = provider.signing().verify::<AccessClaims>(token, ACCESS_TOKEN, issuer, audience).await;
        let verified = verified.map_err(|error| AuthError::Store(StoreError::unavailable(error)))?;
        let claims = Arc::new(verified.map_err(|_| AuthError::Unknown)?);
        self.tokens.insert(hash, Arc::clone(&claims));
        Ok(claims)
    }

    async fn session_caller(&self, provider: &Provider, claims: &AccessClaims) -> Result<Arc<Caller>, AuthError> {
        let session = match self.store.client_session(claims.sid).await {
            Err(StoreError::NotFound { .. }) => return Err(AuthError::Unknown),
            found => found?,
        };
        let caller = user_caller(&self.store.user_context(session.user, None).await?, None, self.clock.now())?;
        match provider.holder(&session).await? {
            Some(_) if session.user == claims.sub => Ok(Arc::new(caller)),
            _ => Err(AuthError::Unknown),
        }
    }

    /// The user whom the holder of a key names. What they say must be signed with the key itself.
    async fn named(&self, principal: &Principal, key: &str, named: &str) -> Result<Arc<Caller>, AuthError> {
        let email = forwarded(named, key, self.clock.now()).ok_or(AuthError::UnknownUser)?;
        let who = Who::Named(principal.context.key.id, email.to_lowercase().into());
        self.remembered(who, self.named_caller(principal, &email)).await
    }

    async fn named_caller(&self, principal: &Principal, email: &str) -> Result<Arc<Caller>, AuthError> {
        let key = &principal.context.key;
        let user = self.store.user_by_email(email).await?;
        let theirs = user.filter(|user| Some(user.tenant) == key.tenant && user.email_verified_at.is_some());
        let user = theirs.ok_or(AuthError::UnknownUser)?;
        let context = self.store.user_context(user.id, Some(key.id)).await?;
        Ok(Arc::new(user_caller(&context, Some(key), self.clock.now())?))
    }

    async fn remembered(
        &self,
        who: Who,
        read: impl Future<Output = Result<Arc<Caller>, AuthError>>,
    ) -> Result<Arc<Caller>, AuthError> {
        let (generation, now) = (self.keys.generation_of_sessions(), self.clock.uptime());
        let patience = if self.keys.is_told() { KNOWN_FOR } else { KNOWN_FOR_UNTOLD };
        let holds = |memory: &Memory| memory.generation == generation && now < memory.read_at + patience;
        if let Some(known) = self.people.get(&who).filter(holds) {
            return known.caller;
        }
        let caller = read.await;
        if !matches!(caller, Err(AuthError::Store(_))) {
            self.people.insert(who, Memory { caller: caller.clone(), read_at: now, generation });
        }
        caller
    }
}

/// Whether it is rather a signed token than a key: `{"` in base64, and three parts.
fn may_be_token(text: &str) -> bool {
    (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len())
        && text.starts_with("eyJ")
        && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The address that a front-end signed with its key not long ago.
fn forwarded(token: &str, key: &str, now: Timestamp) -> Option<Box<str>> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut rules = Validation::new(Algorithm::HS256);
    (rules.validate_exp, rules.validate_aud) = (false, false); // by our own clock; it is for whoever has the key
    rules.set_issuer(&[FORWARDER]);
    rules.set_required_spec_claims(&["exp", "iss"]);
    let key = DecodingKey::from_secret(key.as_bytes());
    let said = jsonwebtoken::decode::<Forwarded>(token, &key, &rules).ok()?.claims;
    let ends = now.as_second().saturating_sub(CLOCKS_DIFFER.as_secs().cast_signed());
    let latest = now + FORWARDED_FOR + CLOCKS_DIFFER;
    (said.exp > ends && said.exp <= latest.as_second()).then_some(said.email)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "cfr_svc_0123456789";

    fn signed(header: &Header, claims: &Value, key: &str) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(key.as_bytes())).expect("signed")
    }

    #[test]
    fn a_forwarded_name_is_signed_with_the_key_and_young() {
        let now = Timestamp::from_second(1_000_000).expect("inside the calendar");
        let claims = |iss: &str, exp: i64| json!({ "iss": iss, "exp": exp, "sub": "1", "email": "ada@acme.example" });
        let hs256 = Header::new(Algorithm::HS256);
        let good = signed(&hs256, &claims(FORWARDER, 1_000_300), KEY);
        assert_eq!(forwarded(&good, KEY, now).as_deref(), Some("ada@acme.example"));
        let (algorithm, _) = good.split_once('.').expect("three parts");
        let none = good.replacen(algorithm, "eyJhbGciOiJub25lIn0", 1);
        for wrong in [
            signed(&hs256, &claims(FORWARDER, 1_000_300), "another"),
            signed(&hs256, &claims("somebody", 1_000_300), KEY),
            signed(&hs256, &claims(FORWARDER, 999_000), KEY),
            signed(&hs256, &claims(FORWARDER, 1_009_000), KEY),
            signed(&Header::new(Algorithm::HS512), &claims(FORWARDER, 1_000_300), KEY),
            none,
            "a".repeat(TOKEN_BYTES_MAX + 1),
        ] {
            assert_eq!(forwarded(&wrong, KEY, now), None, "{wrong}");
        }
    }

    #[test]
    fn keys_are_no_tokens() {
        let token = format!("eyJ{}.b.c", "a".repeat(300));
        assert!(may_be_token(&token));
        for key in ["cfr_live_x", "eyJ.a.b", "sk-0123456789abcdef", &format!("eyJ{}", "a".repeat(300))] {
            assert!(!may_be_token(key), "{key}");
        }
    }
}
