//! `authorization: Bearer …`.

use async_trait::async_trait;
use cfr_core::secret::Secret;
use cfr_core::upstream::UpstreamError;
use http::header::AUTHORIZATION;

use super::{KeyError, KeyHeader, Signer};
use crate::transport::WireRequest;

/// A key as a bearer token.
#[derive(Debug, Clone)]
pub struct Bearer(KeyHeader);

impl Bearer {
    /// Signs with `key`.
    ///
    /// # Errors
    /// When no header can carry the key.
    pub fn new(key: &Secret) -> Result<Self, KeyError> {
        KeyHeader::with_text(AUTHORIZATION, &format!("Bearer {}", key.expose())).map(Self)
    }
}

#[async_trait]
impl Signer for Bearer {
    async fn sign(&self, request: &mut WireRequest) -> Result<(), UpstreamError> {
        self.0.sign(request).await
    }
}
