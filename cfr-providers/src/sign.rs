//! Signatures: what proves to a provider that a request is ours. A signer sees the request as it will be sent.

use std::fmt::Debug;

use async_trait::async_trait;
use cfr_core::upstream::UpstreamError;

use crate::transport::WireRequest;

pub mod aws;
pub mod bearer;
pub mod entra;
pub mod google;
pub mod header;
pub mod kept;
pub mod sigv4;
pub mod token;

pub use bearer::Bearer;
pub use header::{KeyError, KeyHeader};
pub use sigv4::SigV4;

/// Proves that a request is ours.
#[async_trait]
pub trait Signer: Debug + Send + Sync + 'static {
    /// Adds the proof to a request that is otherwise complete. May wait for a token.
    ///
    /// # Errors
    /// When there is no proof to be had, as with a token that has run out.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: another call asks for the token again.
    async fn sign(&self, request: &mut WireRequest) -> Result<(), UpstreamError>;
}

const _: fn(&dyn Signer) = |_| {};

/// No proof at all, for servers on one's own machine.
#[derive(Debug, Clone, Copy)]
pub struct Unsigned;

#[async_trait]
impl Signer for Unsigned {
    async fn sign(&self, _request: &mut WireRequest) -> Result<(), UpstreamError> {
        Ok(())
    }
}
