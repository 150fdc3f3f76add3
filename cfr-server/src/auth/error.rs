//! Why a request is not let in.

use cfr_billing::store::StoreError;
use http::StatusCode;

use crate::error::ApiError;

/// Why a request is not let in.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// It presents no key.
    #[error("no API key: send it as `Authorization: Bearer …`, `x-api-key` or `x-goog-api-key`")]
    Missing,
    /// The key is unknown, mistyped, revoked or switched off. Which of these is nobody's business.
    #[error("incorrect API key")]
    Unknown,
    /// The key has ended.
    #[error("the API key has expired")]
    Expired,
    /// The key is bound to networks that the request does not come from.
    #[error("this key may not be used from where the request comes from")]
    ForeignAddress,
    /// The key opens something else.
    #[error("this key does not open this: {needed}")]
    WrongKind {
        /// What is needed.
        needed: &'static str,
    },
    /// The tenant is not in use.
    #[error("the tenant is not active")]
    TenantSuspended,
    /// What the tenant or the user subscribed to is not paid.
    #[error("the subscription is not paid: whoever runs the account finds its state at /api/v1/subscriptions")]
    SubscriptionUnpaid,
    /// What the tenant or the user subscribed to is over.
    #[error("the subscription has ended: it takes another one")]
    SubscriptionEnded,
    /// The user is not in use.
    #[error("the user is not active")]
    UserNotActive,
    /// The holder of a key names a user whom it may not act for.
    #[error(
        "the header x-openwebui-user-jwt names nobody: it must be signed with this key, not be older than five minutes, and \
             name the proved address of a user of the key's tenant"
    )]
    UnknownUser,
    /// Nobody gave the user or the tenant a budget.
    #[error("no budget: neither the user nor the tenant has one")]
    NoBudget,
    /// The terms or budgets behind the key contradict each other.
    #[error("the account is misconfigured: {reason}")]
    Misconfigured {
        /// What is wrong.
        reason: &'static str,
    },
    /// The key cannot be looked up now.
    #[error("keys cannot be looked up")]
    Store(#[from] StoreError),
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let message = error.to_string();
        let unauthorized = |code: &'static str, message| {
            Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", code, message)
                .header(http::header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"))
        };
        let forbidden =
            |code: &'static str, message| Self::new(StatusCode::FORBIDDEN, "permission_error", code, message);
        match error {
            AuthError::Missing | AuthError::Unknown => unauthorized("invalid_api_key", message),
            AuthError::Expired => unauthorized("api_key_expired", message),
            AuthError::WrongKind { .. } => forbidden("wrong_key_kind", message),
            AuthError::ForeignAddress => forbidden("address_not_allowed", message),
            AuthError::TenantSuspended => forbidden("tenant_suspended", message),
            AuthError::SubscriptionUnpaid => forbidden("subscription_unpaid", message),
            AuthError::SubscriptionEnded => forbidden("subscription_ended", message),
            AuthError::UserNotActive => forbidden("user_not_active", message),
            AuthError::UnknownUser => forbidden("unknown_user", message),
            AuthError::NoBudget => forbidden("no_budget", message),
            AuthError::Misconfigured { .. } => forbidden("account_misconfigured", message),
            AuthError::Store(reason) => Self::ledger_unavailable(reason),
        }
    }
}
