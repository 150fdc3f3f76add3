//! Which of the sources an account's keys come from: the one that the environment names, in the order of AWS' own SDKs.

use std::path::PathBuf;
use std::sync::Arc;

use cfr_core::secret::Secret;
use cfr_core::time::Clock;

use super::{AwsCredentials, AwsKeySource, AwsKeys, Container, ContainerAddressError, Machine, StaticKeys};
use super::{TemporaryKeys, WebIdentity};
use crate::transport::{BadAddress, Transport};

/// What we call ourselves in an account's logs when nobody says.
const SESSION: &str = "cfr";

/// Where an account's keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AwsSource {
    /// Keys that were configured.
    Keys(AwsKeys),
    /// A role, for the token of another identity in a file.
    WebIdentity {
        /// The role, an ARN.
        role: Box<str>,
        /// Names us in the account's logs.
        session: Box<str>,
        /// Holds the token.
        token_file: PathBuf,
        /// The security token service; the region's when absent.
        sts_url: Option<Box<str>>,
    },
    /// The server of keys beside a container.
    Container {
        /// Where it is.
        address: ContainerAddress,
        /// What it is shown.
        token: Option<ContainerToken>,
    },
    /// The metadata service of the machine that we run on.
    Machine {
        /// Where it is, when not at its usual address.
        base_url: Option<Box<str>>,
    },
}

/// Where the server of keys beside a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerAddress {
    /// A path on the usual one.
    Path(Box<str>),
    /// Its address.
    Url(Box<str>),
}

/// What the server of keys beside a container is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerToken {
    /// This.
    Text(Secret),
    /// What is in a file at that moment.
    File(PathBuf),
}

/// Why a source cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AwsSourceError {
    /// Its address is not one.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// Keys are not taken from there.
    #[error(transparent)]
    Container(#[from] ContainerAddressError),
}

impl AwsSource {
    /// What AWS' own SDKs would use, by the variables of the environment: keys, a web identity, a container, and the
    /// machine at last, unless `AWS_EC2_METADATA_DISABLED` forbids it. Profiles are not read.
    #[must_use]
    pub fn of_environment(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let keys = || keys(variable).map(Self::Keys);
        keys().or_else(|| web_identity(variable)).or_else(|| container(variable)).or_else(|| machine(variable))
    }

    /// Keys of this source, for use in `region`.
    ///
    /// # Errors
    /// When its address is not one that keys may come from.
    pub fn credentials(
        &self,
        region: &str,
        transport: &Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn AwsCredentials>, AwsSourceError> {
        let transport = Arc::clone(transport);
        let source: Arc<dyn AwsKeySource> = match self {
            Self::Keys(keys) => return Ok(Arc::new(StaticKeys::new(keys.clone()))),
            Self::WebIdentity { role, session, token_file, sts_url } => {
                let url = sts_url.as_deref().map_or_else(|| sts_of(region), str::to_owned);
                Arc::new(WebIdentity::new(&url, role, session, token_file, transport)?)
            }
            Self::Container { address, token } => Arc::new(with_token(beside(address, transport)?, token.as_ref())),
            Self::Machine { base_url } => Arc::new(Machine::new(base_url.as_deref(), transport)?),
        };
        Ok(Arc::new(TemporaryKeys::new(source, clock)))
    }
}

fn keys(variable: &dyn Fn(&str) -> Option<String>) -> Option<AwsKeys> {
    Some(AwsKeys {
        access_key_id: variable("AWS_ACCESS_KEY_ID")?.into(),
        secret_access_key: Secret::new(variable("AWS_SECRET_ACCESS_KEY")?),
        session_token: variable("AWS_SESSION_TOKEN").map(Secret::new),
    })
}

fn web_identity(variable: &dyn Fn(&str) -> Option<String>) -> Option<AwsSource> {
    Some(AwsSource::WebIdentity {
        role: variable("AWS_ROLE_ARN")?.into(),
        session: variable("AWS_ROLE_SESSION_NAME").map_or_else(|| SESSION.into(), Into::into),
        token_file: variable("AWS_WEB_IDENTITY_TOKEN_FILE")?.into(),
        sts_url: variable("AWS_ENDPOINT_URL_STS").map(Into::into),
    })
}

fn container(variable: &dyn Fn(&str) -> Option<String>) -> Option<AwsSource> {
    let path = || variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| ContainerAddress::Path(path.into()));
    let url = || variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(|url| ContainerAddress::Url(url.into()));
    let file = || variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|file| ContainerToken::File(file.into()));
    let text = || variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|text| ContainerToken::Text(Secret::new(text)));
    Some(AwsSource::Container { address: path().or_else(url)?, token: file().or_else(text) })
}

fn machine(variable: &dyn Fn(&str) -> Option<String>) -> Option<AwsSource> {
    let forbidden = variable("AWS_EC2_METADATA_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true"));
    let base_url = || variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").map(Into::into);
    (!forbidden).then(|| AwsSource::Machine { base_url: base_url() })
}

fn beside(address: &ContainerAddress, transport: Arc<dyn Transport>) -> Result<Container, ContainerAddressError> {
    match address {
        ContainerAddress::Path(path) => Container::at_path(path, transport),
        ContainerAddress::Url(url) => Container::at_url(url, transport),
    }
}

fn with_token(container: Container, token: Option<&ContainerToken>) -> Container {
    match token {
        None => container,
        Some(ContainerToken::Text(text)) => container.with_token(text.clone()),
        Some(ContainerToken::File(file)) => container.with_token_file(file),
    }
}

/// The security token service of a region, or of the region's part of the world.
fn sts_of(region: &str) -> String {
    let top = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://sts.{region}.{top}")
}

#[cfg(test)]
mod tests {
    use cfr_core::time::{ManualClock, Timestamp};

    use super::*;
    use crate::testing::KeyServer;

    fn of(known: &[(&'static str, &'static str)]) -> Option<AwsSource> {
        let known = known.to_vec();
        AwsSource::of_environment(&move |name| {
            known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_first_source_of_the_usual_order_is_asked() {
        let machine = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")];
        let container = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x"), machine[0]];
        let identity = [("AWS_ROLE_ARN", "arn:r"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/f"), container[0], machine[0]];
        let keys = [("AWS_ACCESS_KEY_ID", "AKIA1"), ("AWS_SECRET_ACCESS_KEY", "s"), identity[0], identity[1]];
        assert!(matches!(of(&keys), Some(AwsSource::Keys(keys)) if &*keys.access_key_id == "AKIA1"));
        let Some(AwsSource::WebIdentity { role, session, .. }) = of(&identity) else { panic!("no web identity") };
        assert_eq!((&*role, &*session), ("arn:r", "cfr"));
        assert!(matches!(
            of(&container),
            Some(AwsSource::Container { address: ContainerAddress::Path(_), token: None })
        ));
        assert_eq!(of(&machine), Some(AwsSource::Machine { base_url: Some("http://127.0.0.1:1".into()) }));
        assert_eq!(of(&[]), Some(AwsSource::Machine { base_url: None }));
        assert_eq!(of(&[("AWS_EC2_METADATA_DISABLED", "True")]), None);
    }

    #[test]
    fn half_of_a_source_is_none() {
        for half in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"] {
            assert_eq!(of(&[(half, "x")]), Some(AwsSource::Machine { base_url: None }), "{half}");
        }
    }

    #[tokio::test]
    async fn each_source_asks_its_own_server() {
        const KEYS: &str = r#"{"AccessKeyId":"AKIA1","SecretAccessKey":"s","Expiration":"2999-01-01T00:00:00Z"}"#;
        let sources = [
            (of(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")]), "GET http://169.254.170.2/v2/x"),
            (of(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/v2/x")]), "GET http://127.0.0.1/v2/x"),
            (of(&[]), "PUT http://169.254.169.254/latest/api/token"),
        ];
        for (source, first) in sources {
            let server = KeyServer::new(&[("/v2/x", KEYS), ("/api/token", "t"), ("/security-credentials/", "role")]);
            let transport: Arc<dyn Transport> = server.clone();
            let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
            let credentials = source.expect("a source").credentials("eu-central-1", &transport, clock).expect("good");
            let _ = credentials.keys().await;
            assert_eq!(server.asked()[0].0, first);
        }
    }

    #[test]
    fn the_token_service_is_the_regions() {
        assert_eq!(sts_of("eu-central-1"), "https://sts.eu-central-1.amazonaws.com");
        assert_eq!(sts_of("cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn");
    }
}
