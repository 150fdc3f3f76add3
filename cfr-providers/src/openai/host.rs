//! One server's addresses and headers.

use std::sync::Arc;

use bytes::Bytes;
use cfr_core::upstream::UpstreamError;
use http::{HeaderMap, Method};

use super::azure::Deployments;
use super::models;
use super::quirks::Quirks;
use crate::transport::{BadAddress, Endpoint, WireRequest, event_headers};

/// Where an operation is, below the server's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    Chat,
    Completions,
    Embeddings,
    Responses,
    InputTokens,
    Moderations,
    Rerank,
    ImageGenerations,
    ImageEdits,
    Speech,
    Transcriptions,
    Translations,
    Realtime,
}

impl Path {
    /// In the order of their values.
    const ALL: [Self; 13] = [
        Self::Chat,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::InputTokens,
        Self::Moderations,
        Self::Rerank,
        Self::ImageGenerations,
        Self::ImageEdits,
        Self::Speech,
        Self::Transcriptions,
        Self::Translations,
        Self::Realtime,
    ];

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
            Self::InputTokens => "/responses/input_tokens",
            Self::Moderations => "/moderations",
            Self::Rerank => "/rerank",
            Self::ImageGenerations => "/images/generations",
            Self::ImageEdits => "/images/edits",
            Self::Speech => "/audio/speech",
            Self::Transcriptions => "/audio/transcriptions",
            Self::Translations => "/audio/translations",
            Self::Realtime => "/realtime",
        }
    }
}

/// Where a server's operations are, and what every request to it carries.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) quirks: &'static Quirks,
    headers: HeaderMap,
    addresses: Addresses,
}

#[derive(Debug, Clone)]
enum Addresses {
    /// Each operation has one, in the order of [`Path::ALL`].
    OfOperations(Arc<[Arc<Endpoint>]>),
    /// Each model has its own.
    OfDeployments(Arc<Deployments>),
}

impl Host {
    /// The server `quirks` at `base_url`, or at its usual address.
    ///
    /// # Errors
    /// When the address is not one, or is missing where there is no usual one.
    pub(super) fn new(quirks: &'static Quirks, base_url: Option<&str>) -> Result<Self, BadAddress> {
        let base = base_url.unwrap_or(quirks.base_url);
        let endpoints = Path::ALL.into_iter().map(|path| Endpoint::below(base, path.text()).map(Arc::new));
        let addresses = Addresses::OfOperations(endpoints.collect::<Result<_, _>>()?);
        Ok(Self { quirks, headers: event_headers(), addresses })
    }

    /// A server that has an address for each model.
    pub(super) fn of_deployments(quirks: &'static Quirks, deployments: Deployments) -> Self {
        Self { quirks, headers: event_headers(), addresses: Addresses::OfDeployments(Arc::new(deployments)) }
    }

    /// A request for an operation of a model.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] when the model's name can be in no address.
    pub(super) fn request(&self, path: Path, model: &str, body: Bytes) -> Result<WireRequest, UpstreamError> {
        let endpoint = match &self.addresses {
            Addresses::OfOperations(endpoints) => Arc::clone(&endpoints[path as usize]),
            Addresses::OfDeployments(deployments) => deployments.endpoint(path, model)?,
        };
        Ok(self.request_to(endpoint, body))
    }

    /// A request to an address of this server's.
    pub(super) fn request_to(&self, endpoint: Arc<Endpoint>, body: Bytes) -> WireRequest {
        WireRequest { endpoint, headers: self.headers.clone(), body, dropped: Vec::new() }
    }

    /// Where responses are that the server keeps.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] where each model has an address of its own.
    pub(super) fn responses(&self) -> Result<&Endpoint, UpstreamError> {
        match &self.addresses {
            Addresses::OfOperations(endpoints) => Ok(&endpoints[Path::Responses as usize]),
            Addresses::OfDeployments(_) => {
                Err(UpstreamError::Unsupported { message: "stored responses without the v1 API".into() })
            }
        }
    }

    /// A request for a conversation with a model.
    ///
    /// # Errors
    /// [`UpstreamError::Unsupported`] where each model has an address of its own, or its name can be in no address.
    pub(super) fn realtime(&self, model: &str) -> Result<WireRequest, UpstreamError> {
        let unsupported = |what: &str| UpstreamError::Unsupported { message: what.into() };
        let Addresses::OfOperations(endpoints) = &self.addresses else {
            return Err(unsupported("the realtime API without the v1 API"));
        };
        let endpoint = endpoints[Path::Realtime as usize].with_query("model", model);
        let endpoint = endpoint.map_err(|_| unsupported("a model of this name"))?.with_method(Method::GET);
        Ok(WireRequest {
            endpoint: Arc::new(endpoint),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            dropped: Vec::new(),
        })
    }

    /// Whether a model answers on `/responses` only.
    pub(super) fn is_responses_only(&self, model: &str) -> bool {
        let words = &self.quirks.words;
        let by_rule = words.openai_models && models::is_responses_only(model);
        self.quirks.responses && (by_rule || words.responses_only.iter().any(|part| model.contains(part)))
    }

    /// Whether its models may refuse on chat completions what they do on `/responses`.
    pub(super) const fn bridges(&self) -> bool {
        self.quirks.responses && self.quirks.words.openai_models
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_stands_at_its_own_place() {
        for (place, path) in Path::ALL.into_iter().enumerate() {
            assert_eq!(path as usize, place, "{path:?}");
        }
    }
}
