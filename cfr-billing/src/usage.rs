//! What is asked of usage records.

use std::sync::Arc;

use cfr_core::id::{KeyId, RequestId, TenantId, UserId};
use cfr_core::time::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Which usage is wanted; what is none matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Only this request.
    pub id: Option<RequestId>,
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
    /// Only of this user.
    pub user: Option<UserId>,
    /// Only of this key.
    pub key: Option<KeyId>,
    /// Only with this served model.
    pub model: Option<Arc<str>>,
    /// Only from this moment on.
    pub from: Option<Timestamp>,
    /// Only before this moment.
    pub to: Option<Timestamp>,
}

/// The sum of a day (UTC) for one tenant, user, key and model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDay {
    /// The day, UTC.
    pub day: Date,
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: Option<UserId>,
    /// The key.
    pub key: Option<KeyId>,
    /// The served model.
    pub model: Arc<str>,
    /// Requests, failed ones included.
    pub requests: i64,
    /// Prompt tokens.
    pub tokens_in: i64,
    /// Answer tokens.
    pub tokens_out: i64,
    /// What providers charge, in nano-units.
    pub cost_nanos: i64,
    /// What customers were charged, in nano-units.
    pub charged_nanos: i64,
}
