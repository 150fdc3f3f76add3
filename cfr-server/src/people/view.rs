//! What `/auth` says and takes, in JSON.

use std::sync::Arc;

use cfr_billing::identity::{Language, Role, User, UserStatus};
use cfr_billing::people::{Credentials, Session, SignedIn};
use cfr_core::id::{SessionId, TenantId, UserId};
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::join::Newcomer;
use super::session::needs_second_factor;
use crate::api::schema;

/// An address and a password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// The address.
    #[schema(example = "anna@acme.example", max_length = 254)]
    pub(crate) email: String,
    /// The password.
    #[schema(value_type = String, format = Password, max_length = 128)]
    pub(crate) password: Secret,
}

/// Where a sign-in stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum SignInState {
    /// The cookie of the session was set.
    SignedIn {
        /// To be sent as the header `x-csrf-token` with every change.
        csrf_token: String,
        /// Whether the account needs a second factor before it may do anything: add one first.
        second_factor_needed: bool,
    },
    /// Send a code to `/auth/second-factor`, within five minutes.
    SecondFactorRequired {
        /// Whether a passkey may be presented instead, at `/auth/second-factor/passkey`.
        passkey: bool,
    },
}

/// A code of an app, or a recovery code.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Code {
    /// Six digits, or a recovery code.
    #[schema(example = "123456", max_length = 64)]
    pub(crate) code: String,
}

/// A proof of who is signed in: all that they have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proof {
    /// The password, for who has one.
    #[schema(value_type = Option<String>, format = Password, max_length = 128)]
    pub(crate) password: Option<Secret>,
    /// A code, for who has a second factor.
    #[schema(max_length = 64)]
    pub(crate) code: Option<String>,
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    /// The user.
    pub(crate) user: MyUser,
    /// The session.
    pub(crate) session: MySession,
    /// To be sent as the header `x-csrf-token` with every change.
    pub(crate) csrf_token: String,
    /// The names of what the user may do in the management API.
    pub(crate) permissions: Vec<&'static str>,
    /// Their factors.
    pub(crate) factors: Factors,
}

/// A user, as they see themselves.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MyUser {
    /// Their id.
    #[schema(value_type = schema::UserId)]
    pub(crate) id: UserId,
    /// Their tenant.
    #[schema(value_type = schema::TenantId)]
    pub(crate) tenant: TenantId,
    /// Their tenant's name.
    #[schema(value_type = String)]
    pub(crate) tenant_name: Arc<str>,
    /// Their address.
    #[schema(value_type = String)]
    pub(crate) email: Arc<str>,
    /// Whether they proved that they read it.
    pub(crate) email_verified: bool,
    /// Their name.
    #[schema(value_type = String)]
    pub(crate) name: Arc<str>,
    /// What they may do.
    #[schema(value_type = schema::Role)]
    pub(crate) role: Role,
    /// Where they are in their life.
    #[schema(value_type = schema::UserStatus)]
    pub(crate) status: UserStatus,
    /// The language that they are written to in: `en` or `de`.
    #[schema(value_type = String, example = "de")]
    pub(crate) locale: Language,
}

/// What somebody proves who they are with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Factors {
    /// Whether there is a password.
    pub(crate) password: bool,
    /// Whether there is an app with codes.
    pub(crate) totp: bool,
    /// Authenticators.
    pub(crate) passkeys: usize,
    /// Recovery codes that are left.
    pub(crate) recovery_codes: usize,
    /// Whether the account must have a second factor.
    pub(crate) second_factor_required: bool,
}

/// A browser that is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MySession {
    /// Its id.
    #[schema(value_type = schema::SessionId)]
    pub(crate) id: SessionId,
    /// Whether it is the one that asks.
    pub(crate) current: bool,
    /// How its user proved who they are, in the words of RFC 8176: `pwd`, `otp`, `hwk`, `swk`, `mfa`; ours are `recovery` and `fed`.
    #[schema(value_type = Vec<String>)]
    pub(crate) methods: Vec<Arc<str>>,
    /// When it began.
    #[schema(value_type = schema::Time)]
    pub(crate) created_at: Timestamp,
    /// When its user last proved who they are.
    #[schema(value_type = schema::Time)]
    pub(crate) proved_at: Timestamp,
    /// When it was last used, to the minute.
    #[schema(value_type = schema::Time)]
    pub(crate) seen_at: Timestamp,
    /// When it ends at the latest.
    #[schema(value_type = schema::Time)]
    pub(crate) expires_at: Timestamp,
    /// The address that it came from.
    #[schema(value_type = Option<String>)]
    pub(crate) address: Option<Arc<str>>,
    /// What the browser calls itself.
    #[schema(value_type = Option<String>)]
    pub(crate) agent: Option<Arc<str>>,
}

/// All browsers of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MySessions {
    /// The newest first.
    pub(crate) items: Vec<MySession>,
}

/// How many sessions ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ended {
    /// How many.
    pub(crate) ended: u64,
}

/// What an app needs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppSeed {
    /// A link that apps open, or read as a picture (`otpauth:`).
    pub(crate) url: String,
    /// The seed in base 32, to type it.
    pub(crate) secret: String,
}

/// Recovery codes, shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecoveryCodes {
    /// Each works once in place of a code of the app.
    pub(crate) recovery_codes: Vec<String>,
    /// The token of the session from now on.
    pub(crate) csrf_token: String,
}

/// The session goes on under another secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Renewed {
    /// To be sent as the header `x-csrf-token` from now on.
    pub(crate) csrf_token: String,
}

/// A new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangePassword {
    /// The password so far, for who has one.
    #[schema(value_type = Option<String>, format = Password, max_length = 128)]
    pub(crate) current_password: Option<Secret>,
    /// 15 to 128 characters, 8 beside a second factor; hard to guess.
    #[schema(value_type = String, format = Password, max_length = 128)]
    pub(crate) password: Secret,
}

/// An address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Address {
    /// The address.
    #[schema(example = "anna@acme.example", max_length = 254)]
    pub(crate) email: String,
}

/// The token of a letter.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    /// As it stands in the link.
    pub(crate) token: String,
}

/// A new password for who forgot theirs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetPassword {
    /// As it stands in the link.
    pub(crate) token: String,
    /// 15 to 128 characters, 8 beside a second factor; hard to guess.
    #[schema(value_type = String, format = Password, max_length = 128)]
    pub(crate) password: Secret,
}

/// What to change about oneself; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeProfile {
    /// A new name.
    pub(crate) name: Option<String>,
    /// Another language: `en` or `de`.
    #[schema(value_type = Option<String>, example = "de")]
    pub(crate) locale: Option<Language>,
}

/// The first administrator.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetUp {
    /// What the server printed at its start.
    pub(crate) token: String,
    /// Their address.
    #[schema(example = "anna@acme.example", max_length = 254)]
    pub(crate) email: String,
    /// Their name.
    #[schema(example = "Anna Schmidt")]
    pub(crate) name: String,
    /// 15 to 128 characters, hard to guess.
    #[schema(value_type = String, format = Password, max_length = 128)]
    pub(crate) password: Secret,
}

impl MyUser {
    pub(super) fn of(signed_in: &SignedIn) -> Self {
        let SignedIn { user, tenant, .. } = signed_in;
        Self {
            id: user.id,
            tenant: user.tenant,
            tenant_name: Arc::clone(&tenant.name),
            email: Arc::clone(&user.email),
            email_verified: user.email_verified_at.is_some(),
            name: Arc::clone(&user.name),
            role: user.role,
            status: user.status,
            locale: super::letters::language(user, tenant),
        }
    }
}

impl MySession {
    pub(super) fn of(session: Session, current: SessionId) -> Self {
        Self {
            id: session.id,
            current: session.id == current,
            methods: session.methods,
            created_at: session.created_at,
            proved_at: session.proved_at,
            seen_at: session.seen_at,
            expires_at: session.expires_at,
            address: session.address,
            agent: session.agent,
        }
    }
}

impl Factors {
    pub(super) fn of(credentials: &Credentials, signed_in: &SignedIn) -> Self {
        Self {
            password: credentials.password.is_some(),
            totp: credentials.totp.as_ref().is_some_and(|totp| totp.confirmed_at.is_some()),
            passkeys: credentials.passkeys.len(),
            recovery_codes: credentials.recovery.len(),
            second_factor_required: needs_second_factor(&signed_in.user, &signed_in.tenant),
        }
    }
}

/// Who wants to join a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignUp {
    /// The tenant's slug.
    #[schema(example = "acme")]
    pub(crate) tenant: String,
    /// The address.
    #[schema(example = "anna@acme.example", format = Email, max_length = 254)]
    pub(crate) email: String,
    /// The language of the letter; the tenant's when absent.
    #[schema(value_type = Option<schema::Language>)]
    pub(crate) locale: Option<Language>,
}

/// The token of a letter, and what somebody chooses who becomes a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Join {
    /// The token of the letter.
    #[schema(value_type = String, max_length = 64)]
    pub(crate) token: Secret,
    /// Their name.
    #[schema(example = "Anna Schmidt", max_length = 200)]
    pub(crate) name: String,
    /// Their password: 15 to 128 characters.
    #[schema(value_type = String, format = Password, max_length = 128)]
    pub(crate) password: Secret,
    /// Their language; the tenant's when absent.
    #[schema(value_type = Option<schema::Language>)]
    pub(crate) locale: Option<Language>,
}

impl Join {
    /// The token, and who brings it.
    pub(crate) fn parts(self) -> (Secret, Newcomer) {
        let Self { token, name, password, locale } = self;
        (token, Newcomer { name: name.into(), password, locale })
    }
}

/// Who became a user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Joined {
    /// Their id.
    #[schema(value_type = schema::UserId)]
    pub(crate) user: UserId,
    /// `active`, or `pending` until an administrator admits them.
    #[schema(value_type = schema::UserStatus)]
    pub(crate) status: UserStatus,
}

impl Joined {
    pub(crate) fn of(user: &User) -> Self {
        Self { user: user.id, status: user.status }
    }
}
