//! Whether an account works: one look at the provider's list of models, which costs nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cfr_core::time::Clock;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{Account, AccountError, Kind};
use crate::openai::quirks::AZURE;
use crate::transport::{Endpoint, Transport, WireRequest};
use crate::{anthropic, cohere, gemini, ollama};

/// Anthropic answers no request without it.
const ANTHROPIC_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));

/// What a look at an account says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Probe {
    /// The provider knows it.
    Works,
    /// The provider answered otherwise.
    Answered(StatusCode),
    /// There was no answer.
    Failed(Box<str>),
    /// The provider has no list that costs nothing.
    Unknown,
}

impl Kind {
    /// Asks for the list of models. Nothing is generated, nothing is charged.
    ///
    /// # Errors
    /// When the account is not one that this provider can have.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the exchange.
    pub async fn probe(
        self,
        account: &Account,
        transport: &Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Result<Probe, AccountError> {
        let Some(place) = self.model_list(account) else { return Ok(Probe::Unknown) };
        let (endpoint, signer) = (Arc::new(place?), self.signer(account, transport, clock)?);
        let mut headers = account.headers(self)?;
        if self == Self::Anthropic {
            headers.extend(HeaderMap::from_iter([ANTHROPIC_VERSION]));
        }
        let mut request = WireRequest { endpoint, headers, body: Bytes::new(), dropped: Vec::new() };
        if let Err(error) = signer.sign(&mut request).await {
            return Ok(Probe::Failed(error.to_string().into()));
        }
        Ok(match transport.send(request, timeout).await {
            Ok(answer) if answer.status().is_success() => Probe::Works,
            Ok(answer) => Probe::Answered(answer.status()),
            Err(error) => Probe::Failed(error.to_string().into()),
        })
    }

    /// Where it lists its models.
    fn model_list(self, account: &Account) -> Option<Result<Endpoint, AccountError>> {
        let (usual, path) = match self {
            Self::Compatible(&AZURE) | Self::AzureAnthropic | Self::Vertex | Self::Bedrock => return None,
            Self::Compatible(quirks) => (quirks.base_url, "/models"),
            Self::Anthropic => (anthropic::BASE_URL, "/v1/models"),
            Self::Gemini => (gemini::STUDIO, "/models"),
            Self::Cohere => (cohere::BASE_URL, "/v1/models"),
            Self::Ollama => (ollama::BASE_URL, "/api/tags"),
        };
        let endpoint = Endpoint::below(account.base_url.as_deref().unwrap_or(usual), path);
        Some(endpoint.map(|endpoint| endpoint.with_method(Method::GET)).map_err(AccountError::from))
    }
}
