//! Durable data keys.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::{DataKeyId, TenantId};

use super::{Page, PageRequest, StoreError};
use crate::audit_log::Act;
use crate::secrets::DataKey;

/// Durable keys that seal secrets. Every change is told in the audit log, in its own transaction.
#[async_trait]
pub trait SecretStore: Debug + Send + Sync + 'static {
    /// The key that seals what is written now for a tenant, or for the platform.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn current_data_key(&self, tenant: Option<TenantId>) -> Result<Option<DataKey>, StoreError>;
    /// A key by its id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none, or none any more.
    async fn data_key(&self, id: DataKeyId) -> Result<DataKey, StoreError>;
    /// All keys, in the order in which they were made.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn data_keys(&self, page: PageRequest) -> Result<Page<DataKey>, StoreError>;
    /// Makes `new` the current key of its owner in place of `replaces`, which from now on only opens. Of many who try at
    /// once, one does: the answer is the key that is current then, `new` or that of somebody else.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn add_data_key(&self, new: &DataKey, replaces: Option<DataKeyId>, act: &Act) -> Result<DataKey, StoreError>;
    /// Writes a key as another master key wraps it, if it is still wrapped by `from`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not.
    async fn rewrap_data_key(&self, key: &DataKey, from: &str, act: &Act) -> Result<(), StoreError>;
    /// Forgets the keys of a tenant, and says how many: what they sealed can never be read again.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn shred_data_keys(&self, tenant: TenantId, act: &Act) -> Result<u64, StoreError>;
}

const _: fn(&dyn SecretStore) = |_| {};
