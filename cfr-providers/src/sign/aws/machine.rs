//! Keys of the machine that we run on: EC2, by the second version of its metadata service (providers.md §8.1).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::time::Timestamp;
use cfr_core::upstream::UpstreamError;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::AwsKeys;
use super::temporary::{AwsKeySource, answered, given, none};
use crate::transport::{BadAddress, Endpoint, Transport, WireRequest, path_segment};

const METADATA: &str = "http://169.254.169.254";
const SESSION_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const SESSION_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
/// A session serves one question.
const SESSION_SECONDS: HeaderValue = HeaderValue::from_static("60");
const SESSION: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");

/// The metadata service of a machine.
#[derive(Debug)]
pub struct Machine {
    session: Arc<Endpoint>,
    roles: Arc<Endpoint>,
    base: Endpoint,
    transport: Arc<dyn Transport>,
}

impl Machine {
    /// The service at its usual address, or at another.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(base_url: Option<&str>, transport: Arc<dyn Transport>) -> Result<Self, BadAddress> {
        let base = Endpoint::below(base_url.unwrap_or(METADATA), "")?.with_method(Method::GET);
        let session = Arc::new(base.join(SESSION_PATH)?.with_method(Method::PUT));
        Ok(Self { session, roles: Arc::new(base.join(ROLES_PATH)?), base, transport })
    }

    /// What proves that we are on the machine: only there the service answers a `PUT`.
    async fn session(&self) -> Result<HeaderMap, UpstreamError> {
        let headers = HeaderMap::from_iter([(SESSION_TTL, SESSION_SECONDS)]);
        let token = answered(self.transport.as_ref(), request(&self.session, headers)).await?;
        let mut token = HeaderValue::from_bytes(token.trim_ascii()).map_err(|_| none("no session on this machine"))?;
        token.set_sensitive(true);
        Ok(HeaderMap::from_iter([(SESSION, token)]))
    }
}

fn request(endpoint: &Arc<Endpoint>, headers: HeaderMap) -> WireRequest {
    WireRequest { endpoint: Arc::clone(endpoint), headers, body: Bytes::new(), dropped: Vec::new() }
}

#[async_trait]
impl AwsKeySource for Machine {
    async fn keys(&self) -> Result<(AwsKeys, Timestamp), UpstreamError> {
        let session = self.session().await?;
        let roles = answered(self.transport.as_ref(), request(&self.roles, session.clone())).await?;
        let roles = String::from_utf8_lossy(&roles);
        let role = roles.lines().map(str::trim).find(|role| !role.is_empty()).ok_or_else(|| none("no role"))?;
        let keys = self.base.join(&format!("{ROLES_PATH}{}", path_segment(role)));
        let keys = Arc::new(keys.map_err(|_| none("the role has no name"))?);
        given(self.transport.as_ref(), request(&keys, session)).await
    }
}
