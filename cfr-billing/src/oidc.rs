//! Programs that people sign in to with their account here (clients of OpenID Connect), and what they hold of whom.

use std::sync::Arc;

use cfr_core::id::{ClientId, ClientSessionId, SessionId, TenantId, UserId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit_log::{Action, Event, Subject};

/// A program that people of one tenant sign in to with their account here. Its secret is kept beside it, as SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its id, which it sends as `client_id`.
    pub id: ClientId,
    /// Whose people may sign in to it.
    pub tenant: TenantId,
    /// For people.
    pub name: Arc<str>,
    /// Where people are sent with a code; compared letter by letter.
    pub redirect_uris: Vec<Arc<str>>,
    /// Where people may be sent after they signed out.
    #[serde(default)]
    pub post_logout_uris: Vec<Arc<str>>,
    /// Where it is told that somebody signed out (OpenID Connect Back-Channel Logout 1.0).
    pub backchannel_uri: Option<Arc<str>>,
    /// Whether it belongs to the tenant itself: people are not asked for their consent, and its tokens open `/v1`.
    pub first_party: bool,
    /// When it was shut out for good.
    pub revoked_at: Option<Timestamp>,
    /// Counts changes, from 1.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed, or got another secret.
    pub updated_at: Timestamp,
}

impl Subject for Client {
    fn target(&self) -> Arc<str> {
        self.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        Some(self.tenant)
    }
}

/// A key that tokens are signed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Counts the keys, from 1. The newest signs, and of two that are made at once only one gets the number.
    pub seq: i64,
    /// Its name in tokens.
    pub kid: Arc<str>,
    /// What everybody may know: a JSON Web Key.
    pub public: Value,
    /// What nobody may know, sealed by the server's vault.
    pub private: Arc<str>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What one sign-in at one client has become: a code that waits, then tokens that follow each other. Tokens name it, and
/// are void when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSession {
    /// Its id, which the client knows as `sid`.
    pub id: ClientSessionId,
    /// The client.
    pub client: ClientId,
    /// The tenant of both.
    pub tenant: TenantId,
    /// Who signed in.
    pub user: UserId,
    /// The browser's session in which they did.
    pub session: SessionId,
    /// The user's [epoch](crate::people::Credentials::epoch) then.
    pub epoch: i64,
    /// What the client may see and do.
    pub scopes: Vec<Arc<str>>,
    /// How they proved who they are; see [`Session::methods`](crate::people::Session::methods).
    pub methods: Vec<Arc<str>>,
    /// When they did.
    pub auth_time: Timestamp,
    /// Random. Codes and refresh tokens are made of it and of a secret that is in no store, so none of them is kept.
    pub salt: Arc<str>,
    /// The code; none when it was redeemed.
    pub code: Option<Code>,
    /// The number of the refresh token that works; 0 before the first.
    pub generation: i64,
    /// When that one was given out.
    pub renewed_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How often the client was told in vain that it ended.
    #[serde(default)]
    pub tries: u32,
    /// When the client is to be told (again) that it ended; none when there is nothing (more) to tell.
    pub due_at: Option<Timestamp>,
    /// Counts changes, from 1.
    pub version: i64,
}

/// What an authorization code was given out for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Where it was sent.
    pub redirect_uri: Arc<str>,
    /// What only who asked for it has the answer to (PKCE, S256).
    pub challenge: Arc<str>,
    /// What the client wants to find in the id token.
    pub nonce: Option<Arc<str>>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Whose sessions at clients end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// Those that began in one session of a browser.
    Session(SessionId),
    /// All of a user.
    User(UserId),
    /// All of a user but those that began in one session of a browser.
    Others(UserId, SessionId),
    /// Those of a user that began in an epoch before this one.
    Before(UserId, i64),
    /// All at a client.
    Client(ClientId),
}

impl Ending {
    /// The id of the session, the user or the client.
    #[must_use]
    pub const fn id(self) -> [u8; 16] {
        match self {
            Self::Session(id) => id.to_bytes(),
            Self::User(id) | Self::Others(id, _) | Self::Before(id, _) => id.to_bytes(),
            Self::Client(id) => id.to_bytes(),
        }
    }

    /// Whether it means this one.
    #[must_use]
    pub fn means(self, session: &ClientSession) -> bool {
        match self {
            Self::Session(id) => session.session == id,
            Self::User(id) => session.user == id,
            Self::Others(id, but) => session.user == id && session.session != but,
            Self::Before(id, epoch) => session.user == id && session.epoch < epoch,
            Self::Client(id) => session.client == id,
        }
    }
}

impl ClientSession {
    /// When it ended, or will at the latest.
    #[must_use]
    pub fn over_at(&self) -> Timestamp {
        self.ended_at.unwrap_or(self.expires_at)
    }

    /// As it is when it ends at this moment, with the client still to be told where it wants to be.
    #[must_use]
    pub fn ended(self, now: Timestamp) -> Self {
        let at = self.ended_at.unwrap_or(now);
        Self { ended_at: Some(at), due_at: Some(at), code: None, version: self.version.saturating_add(1), ..self }
    }
}

impl Client {
    /// The event of somebody who called themselves this client without its secret.
    #[must_use]
    pub fn refused(&self) -> Event {
        let target = self.id.to_string().into();
        Event { action: Action::ClientRefused, tenant: Some(self.tenant), target, changes: "{}".into() }
    }

    /// The event of a change: of the secret, of who may use it, or of something else.
    #[must_use]
    pub fn changed(before: &Self, after: &Self, secret: bool) -> Event {
        let action = match (after.revoked_at.is_some(), secret) {
            (true, _) => Action::ClientRevoked,
            (false, true) => Action::ClientSecretChanged,
            (false, false) => Action::ClientChanged,
        };
        Event::changed(action, before, after)
    }
}

impl SigningKey {
    /// The event of a new key.
    #[must_use]
    pub fn added(&self) -> Event {
        let changes = serde_json::json!({ "seq": self.seq }).to_string().into();
        Event { action: Action::SigningKeyAdded, tenant: None, target: Arc::clone(&self.kid), changes }
    }
}

impl ClientSession {
    /// The event of its beginning, or of its end.
    #[must_use]
    pub fn event(&self, action: Action) -> Event {
        let changes = serde_json::json!({ "client": self.client, "user": self.user, "session": self.session });
        let target = self.id.to_string().into();
        Event { action, tenant: Some(self.tenant), target, changes: changes.to_string().into() }
    }
}
