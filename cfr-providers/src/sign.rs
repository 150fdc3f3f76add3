//! Signatures: what proves to a provider that a request is ours. A signer sees the request as it will be sent.

use std::fmt::Debug;

use cfr_core::upstream::UpstreamError;

use crate::transport::WireRequest;

pub mod bearer;
pub mod header;

pub use bearer::Bearer;
pub use header::{KeyError, KeyHeader};

/// Proves that a request is ours.
pub trait Signer: Debug + Send + Sync + 'static {
    /// Adds the proof to a request that is otherwise complete.
    ///
    /// # Errors
    /// When there is no proof to be had, as with a token that has run out.
    fn sign(&self, request: &mut WireRequest) -> Result<(), UpstreamError>;
}

const _: fn(&dyn Signer) = |_| {};

/// No proof at all, for servers on one's own machine.
#[derive(Debug, Clone, Copy)]
pub struct Unsigned;

impl Signer for Unsigned {
    fn sign(&self, _request: &mut WireRequest) -> Result<(), UpstreamError> {
        Ok(())
    }
}
