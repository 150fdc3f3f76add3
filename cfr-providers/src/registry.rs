//! Providers by the names that configurations use.

use std::sync::Arc;

use cfr_core::secret::Secret;
use cfr_core::time::Clock;
use cfr_core::upstream::Capabilities;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::adapter::Adapter;
use crate::anthropic::{self, Anthropic};
use crate::bedrock::{self, Bedrock};
use crate::cohere::{self, Cohere};
use crate::dialog::{Translated, Wire};
use crate::gemini::{self, Gemini};
use crate::ollama::{self, Ollama};
use crate::openai::quirks::{AZURE, OPENAI};
use crate::openai::{AzureAddressError, OpenAi, OpenAiBatches, Quirks};
use crate::sign::aws::{AwsSource, AwsSourceError};
use crate::sign::entra::Entra;
use crate::sign::google::{GoogleToken, MetadataServer, ServiceAccount, ServiceAccountError};
use crate::sign::sigv4::SigV4;
use crate::sign::token::{TokenBearer, TokenSource};
use crate::sign::{Bearer, KeyError, KeyHeader, Signer, Unsigned};
use crate::transport::{BadAddress, Transport};
use crate::upstream::HttpUpstream;

mod probe;

pub use probe::Probe;

/// A provider that can be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A server that speaks OpenAI's dialect.
    Compatible(&'static Quirks),
    /// Anthropic, or a server that speaks its dialect.
    Anthropic,
    /// Anthropic's models on Azure.
    AzureAnthropic,
    /// Google's AI Studio.
    Gemini,
    /// Google's Vertex: Gemini, and Anthropic's models.
    Vertex,
    /// AWS Bedrock.
    Bedrock,
    /// Cohere.
    Cohere,
    /// Ollama by its own dialect, which knows more than the one that it shares with OpenAI.
    Ollama,
}

/// Those that have a dialect of their own.
const OWN_DIALECTS: [Kind; 7] =
    [Kind::Anthropic, Kind::AzureAnthropic, Kind::Gemini, Kind::Vertex, Kind::Bedrock, Kind::Cohere, Kind::Ollama];

/// How the names of Anthropic's models begin, by which they are told from Gemini's on Vertex.
const CLAUDE: &str = "claude-";
const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
const PROJECT: HeaderName = HeaderName::from_static("openai-project");

/// What is known of an account at a provider.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// The address, when it is not the usual one.
    pub base_url: Option<String>,
    /// Our key there; some servers want none.
    pub key: Option<Secret>,
    /// Where the provider works for us, where that is part of the address.
    pub region: Option<String>,
    /// Who pays: part of the address of Vertex, a header of OpenAI's.
    pub project: Option<String>,
    /// Who pays, where keys belong to several: a header of OpenAI's.
    pub organization: Option<String>,
    /// The version of Azure's older API, which has an address for each deployment.
    pub api_version: Option<String>,
    /// Features in trial that every call to an Anthropic model asks for, by their names with commas between.
    pub betas: Option<HeaderValue>,
    /// Whether the key is a token of OAuth's, sent as `authorization: Bearer …` where keys have a header of their own.
    pub bearer: bool,
    /// The key file of a service account of Google's. Without one the machine's own account signs.
    pub service_account: Option<Secret>,
    /// Where keys come from that sign each request in place of one that is sent: AWS.
    pub aws: Option<AwsSource>,
    /// Who we are to Microsoft, where no key is sent: Azure.
    pub entra: Option<Entra>,
}

/// Why a provider cannot be used with an account.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// Something is not known of the account that the provider needs.
    #[error("`{member}` is needed{}", or_in(.variable))]
    Missing {
        /// What.
        member: &'static str,
        /// The variable of the environment that usually says it.
        variable: Option<&'static str>,
    },
    /// Something is said of the account that no header can carry.
    #[error("no header can carry `{0}`")]
    Header(&'static str),
    /// The address is not one.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The key is not one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The address is not one of Azure's.
    #[error(transparent)]
    Azure(#[from] AzureAddressError),
    /// The key file is not one.
    #[error(transparent)]
    ServiceAccount(#[from] ServiceAccountError),
    /// Keys of AWS cannot be had like that.
    #[error(transparent)]
    Aws(#[from] AwsSourceError),
}

fn or_in(variable: &Option<&'static str>) -> String {
    variable.map(|variable| format!(", there or in {variable}")).unwrap_or_default()
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
            Self::AzureAnthropic => "azure_anthropic",
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
            Self::AzureAnthropic => Some("ANTHROPIC_FOUNDRY_API_KEY"),
            Self::Gemini => Some("GEMINI_API_KEY"),
            Self::Bedrock => Some("AWS_BEARER_TOKEN_BEDROCK"),
            Self::Cohere => Some("COHERE_API_KEY"),
            Self::Vertex | Self::Ollama => None,
        }
    }

    /// The environment variable in which its address usually is, where each customer has one of their own.
    #[must_use]
    pub fn address_variable(self) -> Option<&'static str> {
        match self {
            Self::AzureAnthropic => Some("ANTHROPIC_FOUNDRY_BASE_URL"),
            kind => kind.is_azure().then_some("AZURE_OPENAI_ENDPOINT"),
        }
    }

    /// Whose prices hold, by the name in the price table; none for servers that set their own.
    #[must_use]
    pub const fn price_provider(self) -> Option<&'static str> {
        match self {
            Self::Compatible(quirks) => quirks.price_provider,
            Self::Anthropic | Self::AzureAnthropic => Some("anthropic"),
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
        match self {
            Self::Compatible(quirks) => quirks.base_url.is_empty(),
            kind => matches!(kind, Self::AzureAnthropic),
        }
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
            Self::Anthropic | Self::AzureAnthropic => anthropic::CAPABILITIES,
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
            Self::Compatible(&AZURE) => {
                Arc::new(OpenAi::azure(base_url.unwrap_or_default(), account.api_version.as_deref())?)
            }
            Self::Compatible(quirks) => Arc::new(OpenAi::new(quirks, base_url)?),
            Self::Anthropic => account.claude(Anthropic::new(base_url)?),
            Self::AzureAnthropic => account.claude(Anthropic::new(base_url.or(Some("")))?),
            Self::Gemini => translated(Gemini::studio(base_url)?),
            Self::Vertex => translated(Gemini::vertex(account.project()?, account.location()?, base_url)?),
            Self::Cohere => translated(Cohere::new(base_url)?),
            Self::Ollama => translated(Ollama::new(base_url)?),
            Self::Bedrock => translated(match base_url {
                Some(base_url) => Bedrock::at(base_url)?,
                None => Bedrock::in_region(account.aws_region()?)?,
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
        let upstream = HttpUpstream::new(adapter, signer, transport).with_headers(account.headers(self)?);
        if self != Self::Vertex {
            return Ok(upstream);
        }
        let (project, location) = (account.project()?, account.location()?);
        let claude = Anthropic::on_vertex(project, location, account.base_url.as_deref())?;
        Ok(upstream.with_models(CLAUDE, account.claude(claude)))
    }

    /// The files and batches of an account; none where the provider has none that we know. `headers` go along with every
    /// request.
    ///
    /// # Errors
    /// As [`Kind::upstream`].
    pub fn batches(
        self,
        account: &Account,
        headers: &HeaderMap,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<OpenAiBatches>, AccountError> {
        let Self::Compatible(quirks) = self else { return Ok(None) };
        if !quirks.batches {
            return Ok(None);
        }
        let mut all = account.headers(self)?;
        all.extend(headers.clone());
        let signer = self.signer(account, &transport, clock)?;
        Ok(Some(OpenAiBatches::new(quirks, account.base_url.as_deref(), all, signer, transport)?))
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
        if let (Some(entra), true) = (&account.entra, self.is_azure()) {
            return Ok(Arc::new(TokenBearer::new(entra.tokens(transport)?, clock)));
        }
        if let (Self::Bedrock, Some(source)) = (self, &account.aws) {
            let region = account.aws_region()?;
            let credentials = source.credentials(region, transport, Arc::clone(&clock))?;
            return Ok(Arc::new(SigV4::new(credentials, region, bedrock::SIGNING_NAME, clock)));
        }
        let Some(key) = account.key.as_ref().filter(|key| !key.expose().is_empty()) else {
            return Ok(Arc::new(Unsigned));
        };
        Ok(match self.key_header() {
            Some(name) if !account.bearer => Arc::new(KeyHeader::new(name, key)?),
            _ => Arc::new(Bearer::new(key)?),
        })
    }

    /// Whether Microsoft runs it.
    #[must_use]
    pub fn is_azure(self) -> bool {
        matches!(self, Self::AzureAnthropic | Self::Compatible(&AZURE))
    }

    /// The header that a key is sent in; none where it is a bearer's.
    fn key_header(self) -> Option<HeaderName> {
        match self {
            Self::Compatible(&AZURE) => Some(HeaderName::from_static("api-key")),
            Self::Anthropic | Self::AzureAnthropic => Some(HeaderName::from_static("x-api-key")),
            Self::Gemini => Some(HeaderName::from_static("x-goog-api-key")),
            _ => None,
        }
    }
}

impl Account {
    /// What proves who we are, for people to read; none where nothing was said of it.
    #[must_use]
    pub const fn proof(&self) -> Option<&'static str> {
        Some(match self {
            Self { entra: Some(_), .. } => "tokens of Entra",
            Self { aws: Some(AwsSource::Keys(_)), .. } => "keys of AWS",
            Self { aws: Some(AwsSource::WebIdentity { .. }), .. } => "a role of AWS",
            Self { aws: Some(AwsSource::Container { .. }), .. } => "the container's keys of AWS",
            Self { aws: Some(AwsSource::Machine { .. }), .. } => "the machine's keys of AWS",
            Self { service_account: Some(_), .. } => "a service account",
            Self { key: Some(_), bearer: true, .. } => "a bearer token",
            Self { key: Some(_), .. } => "a key",
            _ => return None,
        })
    }

    fn aws_region(&self) -> Result<&str, AccountError> {
        needed(&self.region, "region", "AWS_REGION")
    }

    fn location(&self) -> Result<&str, AccountError> {
        needed(&self.region, "region", "GOOGLE_CLOUD_LOCATION")
    }

    fn project(&self) -> Result<&str, AccountError> {
        needed(&self.project, "project", "GOOGLE_CLOUD_PROJECT")
    }

    fn claude(&self, wire: Anthropic) -> Arc<dyn Adapter> {
        translated(match &self.betas {
            Some(betas) => wire.with_betas(betas.clone()),
            None => wire,
        })
    }

    /// Headers that say who pays.
    fn headers(&self, kind: Kind) -> Result<HeaderMap, AccountError> {
        let mut headers = HeaderMap::new();
        if kind != Kind::Compatible(&OPENAI) {
            return Ok(headers);
        }
        let payers = [(ORGANIZATION, &self.organization, "organization"), (PROJECT, &self.project, "project")];
        for (name, payer, member) in payers {
            let Some(payer) = payer else { continue };
            headers.insert(name, HeaderValue::from_str(payer).map_err(|_| AccountError::Header(member))?);
        }
        Ok(headers)
    }
}

fn needed<'a>(
    value: &'a Option<String>,
    member: &'static str,
    variable: &'static str,
) -> Result<&'a str, AccountError> {
    value.as_deref().ok_or(AccountError::Missing { member, variable: Some(variable) })
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

#[cfg(test)]
mod tests;
