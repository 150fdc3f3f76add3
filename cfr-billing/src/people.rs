//! How people prove who they are: credentials, sessions, one-time tokens, identities of other providers, and the letters that
//! they get.
//!
//! Nothing here is a secret that works by itself: passwords are PHC strings, sessions and tokens are kept as SHA-256 of
//! 256 random bits, and what must be read again (the seed of one-time passwords) comes sealed by the server's vault.

use std::fmt;
use std::sync::Arc;

use cfr_core::id::{MailId, ProductVersionId, SessionId, TenantId, TokenId, UserId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::identity::{Language, NewKey, NewUser, Role, Tenant, User, UserStatus};

/// SHA-256 of a random secret: all that is stored of a session or a one-time token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretHash(pub [u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash([redacted])")
    }
}

/// How often something was tried, by all who count it together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptCount {
    /// How often so far.
    pub count: u64,
    /// When the count begins anew.
    pub until: Timestamp,
}

/// How one user proves who they are. A document that changes with its version: a failed attempt, a used recovery code or a
/// step of a one-time password counts once, however many attempts come at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Whose they are.
    pub user: UserId,
    /// The password as a PHC string; none for who signs in by other means.
    pub password: Option<Arc<str>>,
    /// When it was set.
    pub password_set_at: Option<Timestamp>,
    /// One-time passwords of an app.
    pub totp: Option<Totp>,
    /// Recovery codes that were not used yet.
    #[serde(default)]
    pub recovery: Vec<SecretHash>,
    /// Keys of authenticators.
    #[serde(default)]
    pub passkeys: Vec<Passkey>,
    /// Failed attempts since the last sign-in.
    #[serde(default)]
    pub failures: u32,
    /// When the last of them was.
    pub failed_at: Option<Timestamp>,
    /// Tokens that name a smaller epoch are void: raised when a password or factor changes and when the user is locked out.
    pub epoch: i64,
    /// When the user last signed in.
    pub signed_in_at: Option<Timestamp>,
    /// Counts changes; 0 for what was never written.
    pub version: i64,
}

impl Credentials {
    /// Of a user who has none yet.
    #[must_use]
    pub const fn none(user: UserId) -> Self {
        Self {
            user,
            password: None,
            password_set_at: None,
            totp: None,
            recovery: Vec::new(),
            passkeys: Vec::new(),
            failures: 0,
            failed_at: None,
            epoch: 0,
            signed_in_at: None,
            version: 0,
        }
    }

    /// Of a user who begins with a password, as a PHC string.
    #[must_use]
    pub fn of_password(user: UserId, password: &Arc<str>, now: Timestamp) -> Self {
        Self { password: Some(Arc::clone(password)), password_set_at: Some(now), ..Self::none(user) }
    }

    /// Of a user who is erased: nothing signs in any more, and what was handed out before is void.
    #[must_use]
    pub fn erased(&self) -> Self {
        Self { epoch: self.epoch + 1, version: self.version, ..Self::none(self.user) }
    }

    /// Recovery codes stand in for a second factor: without one they go.
    pub fn forget_needless_codes(&mut self) {
        if !self.has_second_factor() {
            self.recovery.clear();
        }
    }

    /// Whether a password alone does not sign in.
    #[must_use]
    pub fn has_second_factor(&self) -> bool {
        self.totp.as_ref().is_some_and(|totp| totp.confirmed_at.is_some()) || !self.passkeys.is_empty()
    }
}

/// One-time passwords by time (RFC 6238).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totp {
    /// The shared secret, sealed by the server's vault.
    pub secret: Arc<str>,
    /// When the user proved to have it; before that it protects nothing.
    pub confirmed_at: Option<Timestamp>,
    /// The last step that was used. No step counts twice.
    pub last_step: i64,
}

/// A key that an authenticator holds (WebAuthn).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passkey {
    /// The authenticator's id for it, base64url.
    pub id: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// The public key with its counter, as the server's WebAuthn library keeps it.
    pub credential: Value,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last used.
    pub used_at: Option<Timestamp>,
}

/// A browser that is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id, to show and to end it.
    pub id: SessionId,
    /// SHA-256 of what the browser's cookie has.
    pub hash: SecretHash,
    /// Who is signed in.
    pub user: UserId,
    /// The user's [epoch](Credentials::epoch) at the sign-in.
    pub epoch: i64,
    /// How they proved it, in the words of RFC 8176: `pwd`, `otp`, `hwk`, `swk`, `mfa`; ours are `recovery` and `fed`.
    pub methods: Vec<Arc<str>>,
    /// When it began.
    pub created_at: Timestamp,
    /// When they last proved who they are: what is dangerous asks for a recent proof.
    pub proved_at: Timestamp,
    /// When it was last used, to the minute.
    pub seen_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// The address that it came from at the sign-in.
    pub address: Option<Arc<str>>,
    /// What the browser called itself at the sign-in.
    pub agent: Option<Arc<str>>,
    /// The user that it looks like to this session, who sees all and changes nothing; and until when.
    pub impersonates: Option<(UserId, Timestamp)>,
}

/// A session with what a request of it needs, read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The session.
    pub session: Session,
    /// Who is signed in.
    pub user: User,
    /// Their tenant.
    pub tenant: Tenant,
    /// Their epoch now: a session of a smaller one is over.
    pub epoch: i64,
}

/// What a one-time token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenKind {
    /// Makes the first administrator.
    Setup,
    /// Lets somebody become a user of a tenant.
    Invitation,
    /// Proves that who signed up reads the address.
    VerifyEmail,
    /// Proves that who changes their address reads the new one.
    ChangeEmail,
    /// Sets a new password.
    ResetPassword,
    /// Says that its bearer knew the password, and still has to present a second factor.
    SecondFactor,
    /// A challenge for an authenticator that is to hold a new passkey.
    AddPasskey,
    /// A challenge that a passkey answers: to sign in, as a second factor, as a proof.
    UsePasskey,
}

impl TokenKind {
    /// Those that make a user of who brings them.
    pub const ADMITTING: [Self; 3] = [Self::Invitation, Self::VerifyEmail, Self::Setup];

    /// Whether a later one makes the earlier ones void. Challenges stand beside each other: many browsers have one at a time.
    #[must_use]
    pub const fn replaces_earlier(self) -> bool {
        !matches!(self, Self::AddPasskey | Self::UsePasskey)
    }
}

/// A secret that works once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeToken {
    /// Its id, to show and to revoke it.
    pub id: TokenId,
    /// SHA-256 of it.
    pub hash: SecretHash,
    /// What it is for.
    pub kind: TokenKind,
    /// The tenant that it is about.
    pub tenant: Option<TenantId>,
    /// The user that it is about; none for somebody who is none yet.
    pub user: Option<UserId>,
    /// The user's epoch when it was made: it is void in a later one.
    pub epoch: i64,
    /// The address that it went to.
    pub email: Option<Arc<str>>,
    /// What an invitation offers.
    pub offer: Option<Offer>,
    /// What is expected of an authenticator's answer.
    #[serde(default)]
    pub challenge: Option<Challenge>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What is expected of an authenticator's answer (WebAuthn).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The session, or the half of one, that alone may bring the answer; none before anybody signed in.
    pub bound_to: Option<SecretHash>,
    /// The challenge, as the server's WebAuthn library keeps it.
    pub state: Value,
}

impl OneTimeToken {
    /// Whether a later token makes this one void: it is of the same kind, one that [replaces](TokenKind::replaces_earlier),
    /// and about the same user, or about the same address in the same tenant while there is no user.
    #[must_use]
    pub fn is_replaced_by(&self, later: &Self) -> bool {
        let same = match (self.user, later.user) {
            (None, None) => self.tenant == later.tenant && self.address() == later.address(),
            (mine, theirs) => mine == theirs,
        };
        same && self.kind == later.kind && later.kind.replaces_earlier()
    }

    /// The address that it went to, in the form in which two addresses are the same.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        self.email.as_deref().map(|email| email.trim().to_lowercase())
    }
}

/// What an invitation makes of who accepts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What they may do.
    pub role: Role,
    /// The terms that they get.
    pub product_version: Option<ProductVersionId>,
    /// The id of who invited them.
    pub invited_by: Option<Arc<str>>,
}

/// Somebody who becomes a user, in one transaction: the token is used up, the place is counted, the user is made with how
/// they prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The token that is used up; none where none is needed.
    pub token: Option<SecretHash>,
    /// The user.
    pub user: NewUser,
    /// [`UserStatus::Active`], or [`UserStatus::Pending`] until somebody admits them. A pending user takes no place and
    /// has no budget yet.
    pub status: UserStatus,
    /// Whether the address was proved.
    pub email_verified: bool,
    /// The password as a PHC string.
    pub password: Option<Arc<str>>,
    /// The identity at another provider.
    pub identity: Option<OutsideIdentity>,
}

/// A pending user who is made an active one, in one transaction: a place in the tenant, the terms, a budget by them, a
/// first key, and the letter that tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// The user.
    pub user: UserId,
    /// The version of the user that was looked at.
    pub version: i64,
    /// The terms; those that the user would get anyway when none are named.
    pub terms: Option<ProductVersionId>,
    /// A first key. It acts for the user.
    pub first_key: Option<NewKey>,
    /// The letter.
    pub letter: Option<Mail>,
}

/// Who somebody is at another provider. The pair is the identity; an address alone never is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OutsideIdentity {
    /// The provider (`iss`).
    pub issuer: Arc<str>,
    /// Who they are there (`sub`).
    pub subject: Arc<str>,
}

impl OutsideIdentity {
    /// Who `issuer` calls `subject`.
    #[must_use]
    pub fn new(issuer: &str, subject: &str) -> Self {
        Self { issuer: issuer.into(), subject: subject.into() }
    }
}

/// A letter that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Its id.
    pub id: MailId,
    /// Where it goes.
    pub to: Arc<str>,
    /// Which letter.
    pub template: Arc<str>,
    /// In which language.
    pub language: Language,
    /// What stands in its gaps, sealed by the server's vault: it may hold a one-time token.
    pub values: Arc<str>,
    /// How often it was tried.
    pub tries: u32,
    /// When it is to be tried (again).
    pub due_at: Timestamp,
    /// When it was written.
    pub created_at: Timestamp,
}
