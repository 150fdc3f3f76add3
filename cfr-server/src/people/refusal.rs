//! Why somebody is not let in, or may not do this now.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cfr_billing::identity::UserStatus;
use cfr_billing::store::StoreError;

use super::hash::HashError;
use super::password::Unfit;
use crate::api::problem::Problem;
use crate::secrets::VaultError;

/// Why somebody is not let in, or may not do this now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The address or the password is wrong, or both, or neither and too many tried: it is nobody's business which.
    #[error(
        "the address or the password is wrong; after many attempts wait a quarter of an hour, or ask for a letter to set a \
         new password"
    )]
    WrongCredentials,
    /// The code of the app is wrong or was used, or it is no recovery code that is left.
    #[error("the code is wrong or was used already")]
    WrongCode,
    /// The answer of an authenticator is of no passkey of theirs, or not as it should be.
    #[error("the passkey is not known here, or did not answer as it should")]
    WrongPasskey,
    /// An authenticator answered too late, twice, or to another browser.
    #[error("this took too long, was answered already, or began in another browser: begin again")]
    StaleChallenge,
    /// Nobody said under which name browsers reach the server, and keys are bound to that.
    #[error("passkeys are off here: they need `server.public_url` with a name in it")]
    PasskeysOff,
    /// Challenges cannot be made.
    #[error("passkeys: {0}")]
    Passkeys(Box<str>),
    /// Nobody presented a password of late.
    #[error("sign in with your password first")]
    NotHalfSignedIn,
    /// No session, or one that is over.
    #[error("sign in")]
    NotSignedIn,
    /// The user waits to be admitted, or is locked out.
    #[error("{}", about(.status))]
    NotActive {
        /// Where the user is in their life.
        status: UserStatus,
    },
    /// The tenant is locked out.
    #[error("your organisation is suspended; ask its administrator")]
    TenantNotActive,
    /// The account needs a second factor before it may do anything.
    #[error("your account needs a second factor: add one first")]
    SecondFactorNeeded,
    /// What is dangerous asks for a recent proof.
    #[error("prove again who you are, then repeat this within five minutes")]
    StepUpRequired,
    /// Too many attempts.
    #[error("too many attempts: wait")]
    Throttled {
        /// When to try again.
        after: Duration,
    },
    /// Another site's page made the browser send this.
    #[error("this was sent by a page of another site")]
    ForeignOrigin,
    /// The token of the session is missing or of another session.
    #[error("send the `csrf_token` of GET /auth/session as the header `x-csrf-token`")]
    NoCsrfToken,
    /// A link that was used, has ended or never was one.
    #[error("the link was used already or has ended: ask for a new one")]
    DeadToken,
    /// The tenant takes nobody who was not invited, or there is no such tenant.
    #[error("nobody can sign up there: ask for an invitation")]
    SignUpClosed,
    /// There is an administrator already.
    #[error("there is an administrator already")]
    SetUpAlready,
    /// A password that does not protect.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// A field that cannot be taken.
    #[error("{message}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        message: Box<str>,
    },
    /// Hashing fails or has to wait too long.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret cannot be opened or sealed.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

fn about(status: &UserStatus) -> &'static str {
    match status {
        UserStatus::Pending => "your account waits for an administrator to activate it",
        _ => "your account is not active; ask your administrator",
    }
}

impl Refusal {
    /// A field that cannot be taken.
    pub(super) fn invalid(field: &'static str, message: impl ToString) -> Self {
        Self::Invalid { field, message: message.to_string().into() }
    }

    /// Seconds after which it may be tried again.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Throttled { after } => Some(after.as_secs() + u64::from(after.subsec_nanos() > 0)), // up: not too early
            Self::Hash(HashError::Busy) => Some(1),
            _ => None,
        }
    }

    /// The stable word for programs, with its status; none for what is not ours to word.
    const fn code(&self) -> Option<(StatusCode, &'static str)> {
        Some(match self {
            Self::WrongCredentials => (StatusCode::UNAUTHORIZED, "wrong_credentials"),
            Self::WrongCode => (StatusCode::UNAUTHORIZED, "wrong_code"),
            Self::WrongPasskey => (StatusCode::UNAUTHORIZED, "wrong_passkey"),
            Self::StaleChallenge => (StatusCode::GONE, "challenge_not_valid"),
            Self::PasskeysOff => (StatusCode::CONFLICT, "passkeys_off"),
            Self::NotHalfSignedIn => (StatusCode::UNAUTHORIZED, "password_required"),
            Self::NotSignedIn => (StatusCode::UNAUTHORIZED, "not_signed_in"),
            Self::NotActive { .. } => (StatusCode::FORBIDDEN, "user_not_active"),
            Self::TenantNotActive => (StatusCode::FORBIDDEN, "tenant_suspended"),
            Self::SecondFactorNeeded => (StatusCode::FORBIDDEN, "second_factor_needed"),
            Self::StepUpRequired => (StatusCode::FORBIDDEN, "step_up_required"),
            Self::Throttled { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign_origin"),
            Self::NoCsrfToken => (StatusCode::FORBIDDEN, "csrf_token_required"),
            Self::DeadToken => (StatusCode::GONE, "token_not_valid"),
            Self::SignUpClosed => (StatusCode::FORBIDDEN, "sign_up_closed"),
            Self::SetUpAlready => (StatusCode::CONFLICT, "set_up_already"),
            Self::Hash(HashError::Busy) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Unfit(_)
            | Self::Invalid { .. }
            | Self::Hash(_)
            | Self::Store(_)
            | Self::Vault(_)
            | Self::Passkeys(_) => return None,
        })
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        if let Some((status, code)) = refusal.code() {
            return Self { retry_after: refusal.retry_after(), ..Self::new(status, code, &refusal) };
        }
        match refusal {
            Refusal::Unfit(unfit) => Self::invalid_field("password", unfit),
            Refusal::Invalid { field, message } => Self::invalid_field(field, message),
            Refusal::Store(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
