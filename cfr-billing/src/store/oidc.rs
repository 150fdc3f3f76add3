//! Durable clients of OpenID Connect, the keys that sign for them, and what they hold of whom.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::id::{ClientId, ClientSessionId, TenantId};
use cfr_core::time::Timestamp;

use super::{Page, PageRequest, StoreError};
use crate::audit_log::Act;
use crate::oidc::{Client, ClientSession, Ending, SigningKey};
use crate::people::SecretHash;

/// Sessions at clients that are claimed at once, at most.
pub const LOGOUTS_MAX: u32 = 100;
/// Keys that are published: the one that signs and the one before it.
pub const SIGNING_KEYS_PUBLISHED: usize = 2;

/// What an OpenID provider keeps.
#[async_trait]
pub trait OidcStore: Debug + Send + Sync + 'static {
    /// Writes a client down, with what is kept of its secret.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for an unknown tenant, [`StoreError::Conflict`] when its id is known.
    async fn add_client(&self, client: &Client, secret: &SecretHash, act: &Act) -> Result<(), StoreError>;
    /// A client.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn client(&self, id: ClientId) -> Result<Client, StoreError>;
    /// What is kept of the secret of a client.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn client_secret(&self, id: ClientId) -> Result<SecretHash, StoreError>;
    /// Clients, of one tenant or of all, in the order in which they were made; those that were revoked too.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn clients(&self, tenant: Option<TenantId>, page: PageRequest) -> Result<Page<Client>, StoreError>;
    /// Writes what became of a client, and a new secret where there is one, if it still has the version before that of
    /// `new`. When `new` is revoked, its sessions end in the same transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile, [`StoreError::NotFound`].
    async fn update_client(&self, new: &Client, secret: Option<&SecretHash>, act: &Act) -> Result<(), StoreError>;

    /// The newest keys, the newest first, at most [`SIGNING_KEYS_PUBLISHED`].
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError>;
    /// Writes a key down.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its number is taken.
    async fn add_signing_key(&self, key: &SigningKey, act: &Act) -> Result<(), StoreError>;
    /// Writes the private part of a key as another data key seals it. The key stays the same.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none with this number.
    async fn reseal_signing_key(&self, seq: i64, private: &str) -> Result<(), StoreError>;

    /// Writes down that somebody signed in to a client.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its id is known.
    async fn open_client_session(&self, session: &ClientSession, act: &Act) -> Result<(), StoreError>;
    /// What a client holds of somebody.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn client_session(&self, id: ClientSessionId) -> Result<ClientSession, StoreError>;
    /// Writes what became of it, if it still has the version before that of `new`. Its end is told in the audit log.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it was changed meanwhile, [`StoreError::NotFound`].
    async fn update_client_session(&self, new: &ClientSession, act: &Act) -> Result<(), StoreError>;
    /// Ends what has not ended of what is meant, and says how many. Clients are to be told.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn end_client_sessions(&self, ending: Ending, act: &Act) -> Result<u64, StoreError>;
    /// Those that have ended and whose client is to be told by `now`, the longest due first, at most `limit` and
    /// [`LOGOUTS_MAX`]. Nobody else gets them before `until`; each counts one try more.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn claim_logouts(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<ClientSession>, StoreError>;
    /// Notes that the client was told, or never will be.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn logout_told(&self, id: ClientSessionId) -> Result<(), StoreError>;
    /// Forgets what ended before `before`, or should have, and of which nobody is to be told; says how many.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn sweep_client_sessions(&self, before: Timestamp) -> Result<u64, StoreError>;
}

const _: fn(&dyn OidcStore) = |_| {};
