//! What signs for an account of AWS, and where it comes from.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::secret::Secret;
use cfr_core::upstream::UpstreamError;

/// Keys of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKeys {
    /// Names the secret key.
    pub access_key_id: Box<str>,
    /// Signs. It is never sent.
    pub secret_access_key: Secret,
    /// Goes with keys that end after some hours.
    pub session_token: Option<Secret>,
}

/// A source of keys.
#[async_trait]
pub trait AwsCredentials: Debug + Send + Sync + 'static {
    /// Keys that are valid now. May wait for new ones.
    ///
    /// # Errors
    /// When there are none to be had.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: another call asks again.
    async fn keys(&self) -> Result<Arc<AwsKeys>, UpstreamError>;
}

const _: fn(&dyn AwsCredentials) = |_| {};

mod container;
mod machine;
mod source;
mod temporary;
mod web_identity;

pub use container::{Container, ContainerAddressError};
pub use machine::Machine;
pub use source::{AwsSource, AwsSourceError, ContainerAddress, ContainerToken};
pub use temporary::{AwsKeySource, TemporaryKeys};
pub use web_identity::WebIdentity;

/// Keys that an operator configured, with or without a session token.
#[derive(Debug, Clone)]
pub struct StaticKeys(Arc<AwsKeys>);

impl StaticKeys {
    /// These keys, as long as the process runs.
    #[must_use]
    pub fn new(keys: AwsKeys) -> Self {
        Self(Arc::new(keys))
    }
}

#[async_trait]
impl AwsCredentials for StaticKeys {
    async fn keys(&self) -> Result<Arc<AwsKeys>, UpstreamError> {
        Ok(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests;
