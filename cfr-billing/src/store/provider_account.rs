//! Durable accounts at providers.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::{ProviderAccountId, TenantId};

use super::{Page, PageRequest, StoreError};
use crate::audit_log::Act;
use crate::provider_account::{ProviderAccount, SealedAccount};

/// Accounts of the platform and of all tenants together: every server has each of them ready.
pub const PROVIDER_ACCOUNTS_MAX: u32 = 2_000;

/// Durable accounts at providers. Every change is told in the audit log, in its own transaction, without the secret.
#[async_trait]
pub trait ProviderAccountStore: Debug + Send + Sync + 'static {
    /// Writes an account.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its owner has one of this name, or there are [`PROVIDER_ACCOUNTS_MAX`].
    async fn add_provider_account(&self, new: &SealedAccount, act: &Act) -> Result<(), StoreError>;
    /// An account with its sealed secret.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn provider_account(&self, id: ProviderAccountId) -> Result<SealedAccount, StoreError>;
    /// Accounts with their sealed secrets in the order in which they were made, of one tenant or of all and the platform.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn provider_accounts(
        &self,
        tenant: Option<TenantId>,
        page: PageRequest,
    ) -> Result<Page<SealedAccount>, StoreError>;
    /// Writes an account in place of the one with its id, if that has the version `version` and the same owner. A secret
    /// that is none stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile, or its owner has another one of this name.
    async fn update_provider_account(&self, version: i64, new: &SealedAccount, act: &Act) -> Result<(), StoreError>;
    /// Forgets an account and its secret, and says what it was.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn remove_provider_account(&self, id: ProviderAccountId, act: &Act) -> Result<ProviderAccount, StoreError>;
}

const _: fn(&dyn ProviderAccountStore) = |_| {};
