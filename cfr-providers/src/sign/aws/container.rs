//! Keys of the container that we run in: ECS, and EKS with pod identities (providers.md §8.1).

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use cfr_core::upstream::UpstreamError;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};

use super::AwsKeys;
use super::temporary::{AwsKeySource, given, none};
use crate::transport::{BadAddress, Endpoint, Transport, WireRequest};

/// The server that `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` is a path on.
const RELATIVE_TO: &str = "http://169.254.170.2";
/// Servers that may be asked without TLS: they are on this machine.
const LOCAL_HOSTS: [&str; 6] = ["127.0.0.1", "localhost", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

/// The server of keys beside a container.
#[derive(Debug)]
pub struct Container {
    endpoint: Arc<Endpoint>,
    authorization: Authorization,
    transport: Arc<dyn Transport>,
}

#[derive(Debug)]
enum Authorization {
    None,
    Text(Secret),
    /// Read at each question: the file is replaced from time to time.
    File(PathBuf),
}

/// The address of a server of keys is not one that keys may come from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerAddressError {
    /// It is no address.
    #[error(transparent)]
    Bad(#[from] BadAddress),
    /// It is neither on this machine nor secured by TLS.
    #[error("keys are taken from servers on this machine or over https only, not from {host}")]
    Elsewhere {
        /// The server.
        host: Box<str>,
    },
}

impl Container {
    /// Keys of ECS: `path` as in `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
    ///
    /// # Errors
    /// When the path is not one.
    pub fn at_path(path: &str, transport: Arc<dyn Transport>) -> Result<Self, ContainerAddressError> {
        let endpoint = Endpoint::below(RELATIVE_TO, "")?.join(path)?;
        Self::at_endpoint(endpoint, transport)
    }

    /// Keys of the server at `url` as in `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    ///
    /// # Errors
    /// When the address is not one, or is elsewhere and not secured.
    pub fn at_url(url: &str, transport: Arc<dyn Transport>) -> Result<Self, ContainerAddressError> {
        Self::at_endpoint(Endpoint::below(url, "")?, transport)
    }

    fn at_endpoint(endpoint: Endpoint, transport: Arc<dyn Transport>) -> Result<Self, ContainerAddressError> {
        let host = endpoint.uri().host().unwrap_or_default();
        if endpoint.uri().scheme_str() != Some("https") && !LOCAL_HOSTS.contains(&host) {
            return Err(ContainerAddressError::Elsewhere { host: host.into() });
        }
        let endpoint = Arc::new(endpoint.with_method(Method::GET));
        Ok(Self { endpoint, authorization: Authorization::None, transport })
    }

    /// Shows `token`, as in `AWS_CONTAINER_AUTHORIZATION_TOKEN`.
    #[must_use]
    pub fn with_token(self, token: Secret) -> Self {
        Self { authorization: Authorization::Text(token), ..self }
    }

    /// Shows the token in a file, as in `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`.
    #[must_use]
    pub fn with_token_file(self, file: impl Into<PathBuf>) -> Self {
        Self { authorization: Authorization::File(file.into()), ..self }
    }

    fn headers(&self) -> Result<HeaderMap, UpstreamError> {
        let token = match &self.authorization {
            Authorization::None => return Ok(HeaderMap::new()),
            Authorization::Text(token) => token.clone(),
            Authorization::File(file) => read(file)?,
        };
        let mut value = HeaderValue::from_str(token.expose().trim())
            .map_err(|_| none("no header can carry the token of the container"))?;
        value.set_sensitive(true);
        Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
    }
}

/// A token in a file. It is short, and read once in hours.
pub(super) fn read(file: &std::path::Path) -> Result<Secret, UpstreamError> {
    let text = std::fs::read_to_string(file);
    text.map(Secret::new).map_err(|cause| none(&format!("{}: {cause}", file.display())))
}

#[async_trait]
impl AwsKeySource for Container {
    async fn keys(&self) -> Result<(AwsKeys, Timestamp), UpstreamError> {
        let (endpoint, headers) = (Arc::clone(&self.endpoint), self.headers()?);
        let request = WireRequest { endpoint, headers, body: Bytes::new(), dropped: Vec::new() };
        given(self.transport.as_ref(), request).await
    }
}
