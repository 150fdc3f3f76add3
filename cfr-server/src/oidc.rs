//! An OpenID provider: programs of a tenant, such as its Open WebUI, let people sign in with their account here.
//!
//! In reading order: `authorize` asks who somebody is and sends the program a code, `token` changes it into tokens, `claims`
//! says what those say, `signing` signs them, `logout` ends it all and `backchannel` tells the programs. Codes and refresh
//! tokens are not kept: `derived`. What a token opens on `/v1`: [`crate::auth`].
//!
//! OAuth 2.0 (RFC 6749) with the advice of RFC 9700: codes only, always with PKCE, addresses compared letter by letter, `iss`
//! in every answer (RFC 9207), refresh tokens that follow each other; OpenID Connect Core 1.0.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use cfr_billing::audit_log::Act;
use cfr_billing::identity::{Tenant, TenantStatus, User, UserStatus};
use cfr_billing::oidc::ClientSession;
use cfr_billing::store::{Store, StoreError};
use cfr_core::time::{Clock, Timestamp};
use tokio::sync::Notify;

use crate::auth::Keys;
use crate::people::People;
use crate::secrets::Vault;

mod authorize;
mod backchannel;
pub mod claims;
pub mod client;
mod derived;
mod discovery;
mod error;
mod issuer;
mod logout;
mod outgoing;
mod page;
mod params;
pub mod signing;
mod token;
mod userinfo;

pub use error::OAuthError;
pub use issuer::Issuer;
pub(crate) use issuer::is_safe;
pub(crate) use outgoing::{CallError, Outgoing};

pub(crate) use self::derived::Derived;
pub(crate) use self::page::explanation as explain;
use self::params::PARAMS_BYTES_MAX;
use self::signing::SigningKeys;
pub(crate) use self::signing::place as signing_key_place;

/// Where somebody is asked who they are.
pub const AUTHORIZE: &str = "/oauth/authorize";
/// Where somebody says that they allow it.
pub(crate) const CONSENT: &str = "/oauth/consent";
/// Where codes and refresh tokens become tokens.
pub const TOKEN: &str = "/oauth/token";
/// Where a token shows who somebody is.
pub const USERINFO: &str = "/oauth/userinfo";
/// Where a client gives tokens back (RFC 7009).
pub const REVOKE: &str = "/oauth/revoke";
/// Where somebody signs out everywhere (OpenID Connect RP-Initiated Logout 1.0).
pub const LOGOUT: &str = "/oauth/logout";
/// Where the keys are published.
pub const JWKS: &str = "/.well-known/jwks.json";
/// Where all this is described (OpenID Connect Discovery 1.0).
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// The same for clients of OAuth 2.0 (RFC 8414).
pub const DISCOVERY_OAUTH: &str = "/.well-known/oauth-authorization-server";

/// How long a client's session may go on.
const SESSION_LASTS: Duration = Duration::from_hours(30 * 24);
/// How long one may go on without a new token.
const SESSION_IDLE: Duration = Duration::from_hours(7 * 24);

/// Everything that the provider needs.
#[derive(Debug)]
pub struct Provider {
    issuer: Issuer,
    store: Arc<dyn Store>,
    people: Arc<People>,
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
    signing: SigningKeys,
    derived: Derived,
    outgoing: Outgoing,
    /// Rings when somebody has to be told of an end.
    ended: Notify,
}

impl Provider {
    /// A provider under this address, which calls clients on these hosts wherever they are; none where keys are not hashed, and
    /// so codes cannot be made either.
    #[must_use]
    pub fn new(
        issuer: Issuer,
        store: Arc<dyn Store>,
        people: Arc<People>,
        keys: Arc<Keys>,
        vault: Arc<Vault>,
        clock: Arc<dyn Clock>,
        inside: &[String],
    ) -> Option<Self> {
        let derived = Derived::new(keys.secret_for(derived::PURPOSE)?);
        let signing = SigningKeys::new(Arc::clone(&store) as _, vault, Arc::clone(&clock));
        let outgoing = Outgoing::new(&issuer, inside.iter().cloned());
        let outgoing = outgoing.inspect_err(|error| tracing::error!(%error, "nobody signs in to programs")).ok()?;
        Some(Self { issuer, store, people, keys, clock, signing, derived, outgoing, ended: Notify::new() })
    }

    /// The address under which it gives tokens out.
    #[must_use]
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The keys that sign.
    #[must_use]
    pub const fn signing(&self) -> &SigningKeys {
        &self.signing
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Who a client's session is of, if it goes on: it has not ended, and its user may still sign in as they did.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn holder(&self, session: &ClientSession) -> Result<Option<(User, Tenant)>, StoreError> {
        if !is_alive(session, self.now()) {
            return Ok(None);
        }
        let user = self.store.user(session.user).await?;
        let tenant = self.store.tenant(user.tenant).await?;
        let epoch = self.store.credentials(user.id).await?.epoch;
        let active = user.status == UserStatus::Active && tenant.status == TenantStatus::Active;
        Ok((active && epoch <= session.epoch).then_some((user, tenant)))
    }

    /// Ends a client's session, whoever else changes it at the same moment, and lets its client be told.
    ///
    /// # Errors
    /// When the store fails.
    async fn end(&self, mut session: ClientSession, act: &Act) -> Result<(), StoreError> {
        while session.ended_at.is_none() {
            let id = session.id;
            match self.store.update_client_session(&session.ended(act.at), act).await {
                Err(StoreError::Conflict { .. }) => session = self.store.client_session(id).await?,
                done => {
                    self.told_to_end().await;
                    return done;
                }
            }
        }
        Ok(())
    }

    /// What ended is void at once on every server, and clients are told soon.
    async fn told_to_end(&self) {
        self.keys.sessions_ended().await;
        self.ended.notify_one();
    }
}

/// Whether a client's session goes on at this moment.
fn is_alive(session: &ClientSession, now: Timestamp) -> bool {
    let idle = now.duration_since(session.renewed_at).unsigned_abs();
    session.ended_at.is_none() && now < session.expires_at && idle < SESSION_IDLE
}

/// Every route of the provider.
pub fn routes(provider: Arc<Provider>) -> Router {
    Router::new()
        .route(DISCOVERY, get(discovery::show))
        .route(DISCOVERY_OAUTH, get(discovery::show))
        .route(JWKS, get(discovery::keys))
        .route(AUTHORIZE, get(authorize::by_query).post(authorize::by_form))
        .route(CONSENT, post(authorize::consent))
        .route(TOKEN, post(token::give))
        .route(REVOKE, post(token::revoke))
        .route(USERINFO, get(userinfo::show).post(userinfo::show))
        .route(LOGOUT, get(logout::by_query).post(logout::by_form))
        .layer(DefaultBodyLimit::max(PARAMS_BYTES_MAX))
        .with_state(provider)
}
