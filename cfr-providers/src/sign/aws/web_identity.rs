//! Keys of a role that another identity may take on, as service accounts of EKS do (providers.md §8.1).

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use cfr_core::upstream::UpstreamError;

use super::temporary::{AwsKeySource, answered, none};
use super::{AwsKeys, container};
use crate::sign::token::form;
use crate::transport::{BadAddress, Endpoint, Transport, path_segment};

/// The version of the security token service.
const VERSION: &str = "2011-06-15";

/// A role, and the token in a file that proves who may take it on.
#[derive(Debug)]
pub struct WebIdentity {
    endpoint: Arc<Endpoint>,
    role: Box<str>,
    session: Box<str>,
    token_file: PathBuf,
    transport: Arc<dyn Transport>,
}

impl WebIdentity {
    /// The role `role`, an ARN as in `AWS_ROLE_ARN`, for the token in `token_file` as in `AWS_WEB_IDENTITY_TOKEN_FILE`.
    /// `sts_url` is the security token service, such as `https://sts.eu-central-1.amazonaws.com`; `session` names us in
    /// the account's logs.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(
        sts_url: &str,
        role: &str,
        session: &str,
        token_file: impl Into<PathBuf>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, BadAddress> {
        let endpoint = Arc::new(Endpoint::below(sts_url, "/")?);
        Ok(Self { endpoint, role: role.into(), session: session.into(), token_file: token_file.into(), transport })
    }

    /// The file is read at each question: it is replaced from time to time.
    fn form(&self) -> Result<String, UpstreamError> {
        let token = container::read(&self.token_file)?;
        let [role, session, token] = [&*self.role, &self.session, token.expose().trim()].map(path_segment);
        let action = "Action=AssumeRoleWithWebIdentity";
        Ok(format!("{action}&Version={VERSION}&RoleArn={role}&RoleSessionName={session}&WebIdentityToken={token}"))
    }
}

#[async_trait]
impl AwsKeySource for WebIdentity {
    async fn keys(&self) -> Result<(AwsKeys, Timestamp), UpstreamError> {
        let answer = answered(self.transport.as_ref(), form(&self.endpoint, self.form()?)).await?;
        given(&String::from_utf8_lossy(&answer)).ok_or_else(|| none("the answer has none"))
    }
}

/// Keys in the service's answer, which is XML of a fixed shape: no value in it needs escapes.
fn given(xml: &str) -> Option<(AwsKeys, Timestamp)> {
    let keys = AwsKeys {
        access_key_id: element(xml, "AccessKeyId")?.into(),
        secret_access_key: Secret::new(element(xml, "SecretAccessKey")?),
        session_token: Some(Secret::new(element(xml, "SessionToken")?)),
    };
    Some((keys, element(xml, "Expiration")?.parse().ok()?))
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim())
}
