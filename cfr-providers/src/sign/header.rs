//! A key in a header of its own, as in `api-key: …`.

use async_trait::async_trait;
use cfr_core::secret::Secret;
use cfr_core::upstream::UpstreamError;
use http::{HeaderName, HeaderValue};

use super::Signer;
use crate::transport::WireRequest;

/// The key has bytes that no header can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has characters that no HTTP header can carry")]
pub struct KeyError;

/// Sets one header to one prepared, secret value.
#[derive(Debug, Clone)]
pub struct KeyHeader {
    name: HeaderName,
    value: HeaderValue,
}

impl KeyHeader {
    /// Puts `key` into the header `name`.
    ///
    /// # Errors
    /// When no header can carry the key.
    pub fn new(name: HeaderName, key: &Secret) -> Result<Self, KeyError> {
        Self::with_text(name, key.expose())
    }

    pub(super) fn with_text(name: HeaderName, text: &str) -> Result<Self, KeyError> {
        let mut value = HeaderValue::from_str(text).map_err(|_| KeyError)?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

#[async_trait]
impl Signer for KeyHeader {
    async fn sign(&self, request: &mut WireRequest) -> Result<(), UpstreamError> {
        request.headers.insert(self.name.clone(), self.value.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_does_not_print() {
        let header = KeyHeader::new(HeaderName::from_static("api-key"), &Secret::new("hunter2")).unwrap();
        assert!(!format!("{header:?}").contains("hunter2"));
    }

    #[test]
    fn a_key_with_a_line_break_is_refused() {
        let key = Secret::new("two\r\nlines");
        assert_eq!(KeyHeader::new(HeaderName::from_static("api-key"), &key).err(), Some(KeyError));
    }
}
