//! Providers by the names that configurations use.

use std::sync::Arc;

use cfr_core::secret::Secret;
use cfr_core::time::Clock;
use cfr_core::upstream::Capabilities;
use http::HeaderName;

use crate::adapter::Adapter;
use crate::anthropic::{self, Anthropic};
use crate::bedrock::{self, Bedrock};
use crate::cohere::{self, Cohere};
use crate::dialog::{Translated, Wire};
use crate::gemini::{self, Gemini};
use crate::ollama::{self, Ollama};
use crate::openai::{OpenAi, Quirks};
use crate::sign::aws::{AwsKeys, StaticKeys};
use crate::sign::google::{GoogleToken, MetadataServer, ServiceAccount, ServiceAccountError};
use crate::sign::sigv4::SigV4;
use crate::sign::token::TokenSource;
use crate::sign::{Bearer, KeyError, KeyHeader, Signer, Unsigned};
use crate::transport::{BadAddress, Transport};
use crate::upstream::HttpUpstream;

/// A provider that can be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A server that speaks OpenAI's dialect.
    Compatible(&'static Quirks),
    /// Anthropic, or a server that speaks its dialect.
    Anthropic,
    /// Google's AI Studio.
    Gemini,
    /// Google's Vertex.
    Vertex,
    /// AWS Bedrock.
    Bedrock,
    /// Cohere.
    Cohere,
    /// Ollama by its own dialect, which knows more than the one that it shares with OpenAI.
    Ollama,
}

/// Those that have a dialect of their own.
const OWN_DIALECTS: [Kind; 6] =
    [Kind::Anthropic, Kind::Gemini, Kind::Vertex, Kind::Bedrock, Kind::Cohere, Kind::Ollama];

/// What is known of an account at a provider.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// The address, when it is not the usual one.
    pub base_url: Option<String>,
    /// Our key there; some servers want none.
    pub key: Option<Secret>,
    /// Where the provider works for us, where that is part of the address.
    pub region: Option<String>,
    /// Who pays, where that is part of the address: Vertex.
    pub project: Option<String>,
    /// The key file of a service account of Google's. Without one the machine's own account signs.
    pub service_account: Option<Secret>,
    /// Keys that sign each request in place of one that is sent: AWS.
    pub aws_keys: Option<AwsKeys>,
}

/// Why a provider cannot be used with an account.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// Something is not known of the account that the provider needs.
    #[error("`{0}` is needed")]
    Missing(&'static str),
    /// The address is not one.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The key is not one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key file is not one.
    #[error(transparent)]
    ServiceAccount(#[from] ServiceAccountError),
}

impl Kind {
    /// The provider of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let own = OWN_DIALECTS.into_iter().find(|kind| kind.name() == name);
        own.or_else(|| Quirks::by_name(name).map(Self::Compatible))
    }

    /// Every provider.
    pub fn all() -> impl Iterator<Item = Self> {
        Quirks::all().iter().map(Self::Compatible).chain(OWN_DIALECTS)
    }

    /// Its name in configurations, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compatible(quirks) => quirks.name,
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Vertex => "vertex",
            Self::Bedrock => "bedrock",
            Self::Cohere => "cohere",
            Self::Ollama => "ollama_native",
        }
    }

    /// The environment variable in which its key usually is.
    #[must_use]
    pub const fn key_variable(self) -> Option<&'static str> {
        match self {
            Self::Compatible(quirks) => quirks.key_variable,
            Self::Anthropic => Some("ANTHROPIC_API_KEY"),
            Self::Gemini => Some("GEMINI_API_KEY"),
            Self::Bedrock => Some("AWS_BEARER_TOKEN_BEDROCK"),
            Self::Cohere => Some("COHERE_API_KEY"),
            Self::Vertex | Self::Ollama => None,
        }
    }

    /// Whose prices hold, by the name in the price table; none for servers that set their own.
    #[must_use]
    pub const fn price_provider(self) -> Option<&'static str> {
        match self {
            Self::Compatible(quirks) => quirks.price_provider,
            Self::Anthropic => Some("anthropic"),
            Self::Gemini => Some("gemini"),
            Self::Vertex => Some("vertex"),
            Self::Bedrock => Some("bedrock"),
            Self::Cohere => Some("cohere"),
            Self::Ollama => None,
        }
    }

    /// Whether it has no usual address.
    #[must_use]
    pub const fn needs_address(self) -> bool {
        matches!(self, Self::Compatible(quirks) if quirks.base_url.is_empty())
    }

    /// Whether it answers models that only answer in the Responses dialect.
    #[must_use]
    pub fn has_responses(self) -> bool {
        matches!(self, Self::Compatible(quirks) if quirks.reaches_responses_models())
    }

    /// What it can do.
    #[must_use]
    pub fn capabilities(self) -> Capabilities {
        match self {
            Self::Compatible(quirks) => quirks.capabilities,
            Self::Anthropic => anthropic::CAPABILITIES,
            Self::Gemini | Self::Vertex => gemini::CAPABILITIES,
            Self::Bedrock => bedrock::CAPABILITIES,
            Self::Cohere => cohere::CAPABILITIES,
            Self::Ollama => ollama::CAPABILITIES,
        }
    }

    /// Its wire format at an account's address.
    ///
    /// # Errors
    /// When the address is not one, or is missing where there is no usual one.
    pub fn adapter(self, account: &Account) -> Result<Arc<dyn Adapter>, AccountError> {
        let base_url = account.base_url.as_deref();
        Ok(match self {
            Self::Compatible(quirks) => Arc::new(OpenAi::new(quirks, base_url)?),
            Self::Anthropic => translated(Anthropic::new(base_url)?),
            Self::Gemini => translated(Gemini::studio(base_url)?),
            Self::Vertex => translated(Gemini::vertex(account.project()?, account.region()?, base_url)?),
            Self::Cohere => translated(Cohere::new(base_url)?),
            Self::Ollama => translated(Ollama::new(base_url)?),
            Self::Bedrock => translated(match base_url {
                Some(base_url) => Bedrock::at(base_url)?,
                None => Bedrock::in_region(account.region()?)?,
            }),
        })
    }

    /// An upstream for an account, over a transport that may serve others too. The clock dates signatures.
    ///
    /// # Errors
    /// When something that the provider needs is not known of the account, or is not what it should be.
    pub fn upstream(
        self,
        account: &Account,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<HttpUpstream, AccountError> {
        let (adapter, signer) = (self.adapter(account)?, self.signer(account, &transport, clock)?);
        Ok(HttpUpstream::new(adapter, signer, transport))
    }

    fn signer(
        self,
        account: &Account,
        transport: &Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn Signer>, AccountError> {
        if self == Self::Vertex {
            return google_token(account, transport, clock);
        }
        if let (Self::Bedrock, Some(keys)) = (self, &account.aws_keys) {
            let credentials = Arc::new(StaticKeys::new(keys.clone()));
            return Ok(Arc::new(SigV4::new(credentials, account.region()?, bedrock::SIGNING_NAME, clock)));
        }
        let Some(key) = account.key.as_ref().filter(|key| !key.expose().is_empty()) else {
            return Ok(Arc::new(Unsigned));
        };
        Ok(match self {
            Self::Compatible(_) | Self::Vertex | Self::Bedrock | Self::Cohere | Self::Ollama => {
                Arc::new(Bearer::new(key)?)
            }
            Self::Anthropic => Arc::new(KeyHeader::new(HeaderName::from_static("x-api-key"), key)?),
            Self::Gemini => Arc::new(KeyHeader::new(HeaderName::from_static("x-goog-api-key"), key)?),
        })
    }
}

impl Account {
    /// Whether it has anything that proves who we are.
    #[must_use]
    pub const fn has_key(&self) -> bool {
        self.key.is_some() || self.aws_keys.is_some() || self.service_account.is_some()
    }

    fn region(&self) -> Result<&str, AccountError> {
        self.region.as_deref().ok_or(AccountError::Missing("region"))
    }

    fn project(&self) -> Result<&str, AccountError> {
        self.project.as_deref().ok_or(AccountError::Missing("project"))
    }
}

fn google_token(
    account: &Account,
    transport: &Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Signer>, AccountError> {
    let source: Arc<dyn TokenSource> = match &account.service_account {
        Some(file) => Arc::new(ServiceAccount::parse(file, Arc::clone(&clock), Arc::clone(transport))?),
        None => Arc::new(MetadataServer::new(None, Arc::clone(transport))?),
    };
    Ok(Arc::new(GoogleToken::new(source, clock, None)?))
}

fn translated(wire: impl Wire) -> Arc<dyn Adapter> {
    Arc::new(Translated(wire))
}
