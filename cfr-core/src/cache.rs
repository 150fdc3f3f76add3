//! The response cache: a call that was answered before gets the same answer again, without an upstream.
//!
//! It is off unless an operator names tenants and models in a [`CachePolicy`]: no prompt is ever stored, only its hash,
//! and no answer of a tenant for whom it was not turned on. A hit has a hold, a settlement and a usage record as every
//! other call, at the price that the policy asks for: nothing by default.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;

use crate::chat::Usage;
use crate::id::TenantId;
use crate::price::PicoUsd;
use crate::upstream::FinishReason;

mod key;
mod memory;
mod wire;

pub use memory::MemoryCache;

/// A body larger than this is not looked up: hashing it would cost more than it can save.
pub const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// How long an answer is kept when nobody says.
pub const KEEP: Duration = Duration::from_hours(1);
/// The largest answer that is kept when nobody says.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// Keeps answers for a while.
///
/// # Contract
/// - What was put under a key comes back under the same key until its time is over, or not at all: losing it is no error,
///   and whoever implements this logs what goes wrong.
/// - Answers of different tenants never meet: the tenant is part of the key.
#[async_trait]
pub trait ResponseCache: Debug + Send + Sync + 'static {
    /// The answer under a key. Must not wait long: it stands before the upstream call.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    async fn get(&self, key: &CacheKey) -> Option<CachedAnswer>;

    /// Keeps an answer for `keep`, or loses it. Does not wait: it stands before the answer.
    fn put(&self, key: CacheKey, answer: CachedAnswer, keep: Duration);
}

const _: fn(&dyn ResponseCache) = |_| {};

/// The hash of everything that an answer depends on. Prints as `ten_…/9f86d08…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// Whose answer it is.
    pub tenant: TenantId,
    /// SHA-256 of the operation, the model, who answers for it, and the body in canonical order.
    pub digest: [u8; 32],
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.tenant)?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A complete answer, with what it cost when an upstream gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedAnswer {
    /// The media type of `body`.
    pub content_type: HeaderValue,
    /// The body in the caller's dialect.
    pub body: Bytes,
    /// Whose prices held.
    pub provider: Arc<str>,
    /// The upstream's name of the model.
    pub model: Arc<str>,
    /// What was used.
    pub usage: Usage,
    /// What the provider charged for it.
    pub cost: PicoUsd,
    /// Why the answer ended.
    pub finish: Option<FinishReason>,
}

/// Whose answers are kept, for how long, and what a hit costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePolicy {
    /// For whom it is turned on.
    pub tenants: CacheTenants,
    /// Public models, each a name or the beginning of names followed by `*`.
    pub models: Vec<Arc<str>>,
    /// How long an answer is kept.
    pub keep: Duration,
    /// The largest body of an answer that is kept.
    pub entry_bytes_max: usize,
    /// The price of a hit in hundredths of what the answer would cost the caller, 0 to 100.
    pub price_percent: u8,
}

/// For whom the cache is turned on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheTenants {
    /// For everybody.
    All,
    /// For these.
    Listed(Vec<TenantId>),
}

impl CachePolicy {
    /// On for these tenants and models, free of charge, with the usual limits.
    #[must_use]
    pub const fn new(tenants: CacheTenants, models: Vec<Arc<str>>) -> Self {
        Self { tenants, models, keep: KEEP, entry_bytes_max: ENTRY_BYTES_MAX, price_percent: 0 }
    }

    /// Whether answers of this model are kept for this tenant.
    #[must_use]
    pub fn covers(&self, tenant: TenantId, model: &str) -> bool {
        let of_tenant = match &self.tenants {
            CacheTenants::All => true,
            CacheTenants::Listed(tenants) => tenants.contains(&tenant),
        };
        of_tenant && self.models.iter().any(|pattern| crate::gateway::covers(pattern, model))
    }
}

/// What a caller wants of the cache, as HTTP's `cache-control` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheUse {
    /// Whatever the policy allows.
    #[default]
    Allowed,
    /// A new answer, which may be kept: `no-cache`.
    Refresh,
    /// Nothing is read or kept: `no-store`.
    Off,
}

/// What the cache did for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOutcome {
    /// It had the answer.
    Hit,
    /// It was asked in vain.
    Miss,
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn key(number: u8) -> CacheKey {
        CacheKey { tenant: TenantId::from_u128(1), digest: [number; 32] }
    }

    pub(super) fn answer(body: &str) -> CachedAnswer {
        CachedAnswer {
            content_type: HeaderValue::from_static("application/json"),
            body: Bytes::from(body.to_owned()),
            provider: "openai".into(),
            model: "m".into(),
            usage: Usage::text(9, 12),
            cost: PicoUsd(12_345),
            finish: Some(FinishReason::Stop),
        }
    }

    #[test]
    fn only_the_models_and_tenants_that_are_named_are_covered() {
        let (one, two) = (TenantId::from_u128(1), TenantId::from_u128(2));
        let policy = CachePolicy::new(CacheTenants::Listed(vec![one]), vec!["gpt-*".into(), "own".into()]);
        assert!(policy.covers(one, "gpt-5") && policy.covers(one, "own"));
        assert!(!policy.covers(one, "owner") && !policy.covers(two, "own"));
        assert!(CachePolicy { tenants: CacheTenants::All, ..policy }.covers(two, "own"));
    }

    #[test]
    fn a_key_prints_its_tenant_and_its_hash() {
        assert_eq!(key(0xab).to_string(), format!("{}/{}", TenantId::from_u128(1), "ab".repeat(32)));
    }
}
