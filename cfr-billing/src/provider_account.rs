//! Accounts at providers that are kept in a store: where calls go, and what proves who we are there.
//!
//! The platform's serve every tenant; a tenant's own serve that tenant alone. What is secret of one is beside it in the
//! store, sealed by the server, and in no value here.

use std::sync::Arc;

use cfr_core::id::{ProviderAccountId, TenantId};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::audit_log::Subject;

/// An account at a provider, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderAccount {
    /// Its id.
    pub id: ProviderAccountId,
    /// The tenant that brought it; none for the platform's.
    pub tenant: Option<TenantId>,
    /// For people; unique among those of one owner.
    pub name: Arc<str>,
    /// The provider, by the name that configurations use.
    pub provider: Arc<str>,
    /// The address, when it is not the provider's usual one.
    pub base_url: Option<Arc<str>>,
    /// Where the provider works for us.
    pub region: Option<Arc<str>>,
    /// Whether calls go there.
    pub status: ProviderAccountStatus,
    /// The last four characters of the secret, to recognise it; none where there is no secret.
    pub secret_last4: Option<Arc<str>>,
    /// When the secret was set.
    pub secret_set_at: Option<Timestamp>,
    /// Counts its changes, from 1.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Whether calls go to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProviderAccountStatus {
    /// They do.
    Active,
    /// They do not.
    Disabled,
}

/// An account with its secret as the server sealed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SealedAccount {
    /// The account.
    pub account: ProviderAccount,
    /// Its sealed secret; none where the provider wants none.
    pub secret: Option<Arc<str>>,
}

impl Subject for ProviderAccount {
    fn target(&self) -> Arc<str> {
        self.id.to_string().into()
    }

    fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }
}
