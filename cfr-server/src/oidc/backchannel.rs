//! Tells clients that somebody signed out, or may not use them any more (OpenID Connect Back-Channel Logout 1.0).

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::oidc::ClientSession;
use cfr_billing::store::StoreError;
use cfr_core::id::{ClientSessionId, UserId};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Value, json};

use super::Provider;
use super::claims::LOGOUT_TOKEN;

/// How often the store is asked who is to be told.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// When it is tried again.
const AGAIN_AFTER: Duration = Duration::from_mins(1);
/// How often it is tried: for an hour.
const TRIES_MAX: u32 = 60;
/// How long a logout token works.
const TOKEN_LASTS: Duration = Duration::from_mins(2);
/// Clients that are told at the same time.
const AT_ONCE: u32 = 8;
/// How long what has ended is remembered.
const REMEMBERED_FOR: Duration = Duration::from_hours(24);
/// Looks between two sweeps: an hour's.
const SWEEP_EVERY: u32 = 720;
/// What happened, in the words of the standard.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What a logout token says (§2.4).
#[derive(Debug, Serialize)]
struct LogoutClaims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    jti: String,
    sub: UserId,
    sid: ClientSessionId,
    events: Value,
}

/// Why a client was not told.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Signing(#[from] super::signing::SigningError),
    #[error(transparent)]
    Uncalled(#[from] super::CallError),
    #[error("it answers with {0}")]
    Refused(http::StatusCode),
}

impl Provider {
    /// Runs until it is cancelled. What is not told when the server ends is told by another one, or by the next.
    pub async fn work(self: Arc<Self>) {
        let mut looks = 0_u32;
        loop {
            if let Err(error) = self.tell_all().await {
                tracing::warn!(%error, "who signed out could not be told");
            }
            if looks.is_multiple_of(SWEEP_EVERY) {
                self.sweep().await;
            }
            looks = looks.wrapping_add(1);
            let _ = tokio::time::timeout(LOOK_EVERY, self.ended.notified()).await; // either way it looks again
        }
    }

    async fn tell_all(&self) -> Result<(), StoreError> {
        loop {
            let now = self.now();
            let claimed = self.store.claim_logouts(now, now + AGAIN_AFTER, AT_ONCE).await?;
            if claimed.is_empty() {
                return Ok(());
            }
            join_all(claimed.into_iter().map(|session| self.tell(session))).await;
        }
    }

    async fn tell(&self, session: ClientSession) {
        let (id, tries) = (session.id, session.tries);
        let told = match self.tell_once(session).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, session = %id, tries, "a client was not told that somebody signed out");
                tries >= TRIES_MAX
            }
        };
        if told && let Err(error) = self.store.logout_told(id).await {
            tracing::warn!(%error, session = %id, "a client will be told again that somebody signed out");
        }
    }

    async fn tell_once(&self, session: ClientSession) -> Result<(), Untold> {
        let client = self.store.client(session.client).await?;
        let Some(address) = client.backchannel_uri.filter(|_| client.revoked_at.is_none()) else { return Ok(()) };
        let now = self.now();
        let claims = LogoutClaims {
            iss: self.issuer.to_string(),
            aud: session.client.to_string(),
            iat: now.as_second(),
            exp: (now + TOKEN_LASTS).as_second(),
            jti: format!("{:032x}", rand::random::<u128>()),
            sub: session.user,
            sid: session.id,
            events: json!({ EVENT: {} }),
        };
        let token = self.signing.sign(LOGOUT_TOKEN, claims).await?;
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", &token).finish();
        match self.outgoing.post_form(&address, form).await?.status() {
            status if status.is_success() => Ok(()),
            status => Err(Untold::Refused(status)),
        }
    }

    async fn sweep(&self) {
        let before = self.now() - REMEMBERED_FOR;
        if let Err(error) = self.store.sweep_client_sessions(before).await {
            tracing::warn!(%error, "sessions at clients that ended long ago are not forgotten yet");
        }
    }
}
